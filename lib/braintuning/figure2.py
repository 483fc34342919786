"""Figure 2: alignment of every model in late language and primary auditory regions, and where tuning changed it."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from braintuning import plots
from braintuning.align_stage import align
from braintuning.brainplot import cortex_figure
from braintuning.comparison import starred
from braintuning.datasets.interface import Dataset
from braintuning.results import load_arrays
from braintuning.stages import Report
from braintuning.study import Run, Study

REGIONS = ("late_language", "primary_auditory")
CLEAR_CEILING = 0.6


def gather(study: Study, device: str = "cpu", report: Report = print) -> pd.DataFrame:
    """Alignment of every participant with every model, layer by layer and region by region, with provenance."""
    paths = [align(study, participant, run, device, report) for participant, run in study.alignments()]
    return pd.concat([pd.read_csv(path.with_suffix(".csv")) for path in paths], ignore_index=True)


def at_layer(table: pd.DataFrame, layer: int) -> pd.DataFrame:
    """Rows of one layer; a negative number counts from each backbone's last."""
    n_layers = table.groupby("backbone")["layer"].transform("max") + 1
    return table[table["layer"] == (layer if layer >= 0 else n_layers + layer)]


def change_map(study: Study, dataset: Dataset, backbone: str, condition: str = "brain-tuned") -> np.ndarray:
    """Alignment of a condition minus pretrained at the figure's layer, averaged over participants; (vertices,) float.

    A vertex is averaged over the participants in whom it is measurable, and NaN where it is in none. Who is averaged:
    see `on_the_map`.
    """
    maps = []
    for participant in on_the_map(study, dataset):
        tuned, pretrained = (
            load_arrays(study.scores_file(participant, run))["alignment"][study.figures.layer]
            for run in (Run(backbone, condition, participant), Run(backbone, "pretrained"))
        )
        maps.append(dataset.cortex(participant).to_vertices(tuned - pretrained))
    return mean_of_measured(np.stack(maps))


def on_the_map(study: Study, dataset: Dataset) -> tuple[str, ...]:
    """Participants whom the flat map shows: all where they share a surface, else the first, on their own cortex."""
    surfaces = {id(dataset.cortex(participant).surface) for participant in study.participants}
    return study.participants if len(surfaces) == 1 else study.participants[:1]


def mean_of_measured(maps: np.ndarray) -> np.ndarray:
    """Average (participants, vertices) over the participants in whom a vertex is no NaN; (vertices,) float."""
    measured = np.isfinite(maps)
    total = np.where(measured, maps, 0).sum(axis=0)
    return np.divide(total, measured.sum(axis=0), out=np.full(total.shape, np.nan), where=measured.any(axis=0))


def reliability(study: Study, dataset: Dataset) -> np.ndarray:
    """Opacity of each vertex: its mean noise ceiling, from 0 at the threshold to 1 at `CLEAR_CEILING` and above."""
    maps = [
        dataset.cortex(p).to_vertices(load_arrays(study.ceiling_file(p))["ceiling"]) for p in on_the_map(study, dataset)
    ]
    mean = mean_of_measured(np.stack(maps))
    threshold = study.encoding.ceiling_threshold
    return np.clip((np.nan_to_num(mean) - threshold) / (CLEAR_CEILING - threshold), 0, 1)


def draw(
    study: Study, table: pd.DataFrame, statistics: pd.DataFrame, dataset: Dataset, backbone: str, note: str
) -> Figure:
    """Bars of every backbone and condition, over a flat map of what brain-tuning changed in one backbone.

    Parameters
    ----------
    study : Study
    table : DataFrame
        From `gather`.
    statistics : DataFrame
        From `comparison.compare`.
    dataset : Dataset
    backbone : str
    note : str
        Small print: data, weights, sources.
    """
    shown = on_the_map(study, dataset)
    cortex = dataset.cortex(shown[0])
    who = "" if len(shown) == len(study.participants) else f" ({shown[0]})"
    fig = cortex_figure(
        cortex.surface,
        change_map(study, dataset, backbone),
        label=f"normalised alignment, brain-tuned minus pretrained{who}",
        symmetric=True,
        alpha=reliability(study, dataset),
        labels=cortex.vertex_labels,
        note=note,
    )
    bottom = plots.room_above(fig, 3.2)
    chosen = at_layer(table, study.figures.layer)
    stars = starred(statistics)
    for row, roi in enumerate(REGIONS):
        ax = fig.add_axes((0.08, bottom + (0.50 - 0.42 * row) * (1 - bottom), 0.9, 0.33 * (1 - bottom)))
        earned = set(stars.loc[stars["roi"] == roi, ["backbone", "condition"]].itertuples(index=False, name=None))
        plots.condition_bars(
            ax, chosen[chosen["roi"] == roi], "alignment", tuple(study.backbones), study.conditions,
            "alignment (r / noise ceiling)", earned,
        )  # fmt: skip
        ax.set_title(plots.ROI_TITLES[roi])
    plots.condition_legend(fig, study.conditions, loc="upper center", bbox_to_anchor=(0.5, 0.995))
    return fig


def small_print(study: Study, table: pd.DataFrame) -> str:
    """What stands below a figure: the study, its weights, and where surface and regions come from."""
    weights = "; ".join(dict.fromkeys(table["weights"]))
    return f"{study.title}. Weights: {weights}. Surface and regions: HCP S1200 fs_LR, Glasser et al. 2016"
