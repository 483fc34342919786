"""Figure A1: how much of each participant's response can be predicted at all, voxel by voxel."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from braintuning.cortex.figure import Panel, participants_figure
from braintuning.datasets.base import Dataset
from braintuning.figures.tables import SMOOTH_MM
from braintuning.results import load_arrays, provenance_columns, provenance_of
from braintuning.study import Study


def gather(study: Study, dataset: Dataset) -> pd.DataFrame:
    """One row a participant: voxels, voxels above the threshold, and as many in the authors' files where known.

    Returns
    -------
    DataFrame
        participant, story, repeats, n_voxels, n_above, threshold, published, median, highest, and provenance columns.
        Median and highest are over voxels with measurable signal power.
    """
    rows = []
    for participant in study.participants:
        path = study.ceiling_file(participant)
        ceiling, made = load_arrays(path)["ceiling"], provenance_of(path)
        rows.append(
            {
                "participant": participant,
                "story": made["recipe"]["story"],
                "repeats": dataset.n_repeats(participant, made["recipe"]["story"]),
                "n_voxels": len(ceiling),
                "n_above": int((ceiling > study.encoding.ceiling_threshold).sum()),
                "threshold": study.encoding.ceiling_threshold,
                "published": study.figures.published_counts.get(participant),
                "median": np.nanmedian(ceiling),
                "highest": np.nanmax(ceiling),
                **provenance_columns(study.name, made),
            }
        )
    return pd.DataFrame(rows).astype({"published": "Int64"})


def caption(row: pd.Series) -> str:
    """What stands under a participant's flat map."""
    published = "" if pd.isna(row["published"]) else f" (authors: {row['published']:,})"
    return f"{row['participant']}: {row['n_above']:,} of {row['n_voxels']:,} above {row['threshold']:g}{published}"


def draw(study: Study, table: pd.DataFrame, dataset: Dataset, note: str) -> Figure:
    """One flat map a participant, each on the participant's own cortex, on one scale.

    Parameters
    ----------
    study : Study
    table : DataFrame
        From `gather`.
    dataset : Dataset
    note : str
        Small print: data and sources.
    """
    panels = []
    for _, row in table.iterrows():
        cortex = dataset.cortex(row["participant"])
        ceiling = load_arrays(study.ceiling_file(row["participant"]))["ceiling"]
        panels.append(Panel(cortex.surface, cortex.to_vertices(ceiling), cortex.vertex_labels, caption(row)))
    return participants_figure(
        panels,
        label="noise ceiling (r)",
        vmin=0.0,
        vmax=1.0,
        threshold=study.encoding.ceiling_threshold,
        note=note,
        smooth_mm=SMOOTH_MM,
    )
