"""Result tables, and maps of the cortex averaged over participants."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from braintuning.cortex.colours import Reliability, group_average
from braintuning.cortex.figure import cortex_figure
from braintuning.cortex.page import NOTE_LINE, NOTE_POINTS, n_lines, wrap
from braintuning.datasets.base import Dataset
from braintuning.errors import InputError
from braintuning.figures.style import small_print_below
from braintuning.pipeline.recipes import AIMS
from braintuning.results import load_arrays
from braintuning.study import Run, Study

SURFACE_SOURCES = "Surface and regions: HCP S1200 fs_LR, Glasser et al. 2016"
OWN_SURFACE = "Surface: the participant's own. Regions: HCP-MMP1.0, Glasser et al. 2016"
CLEAR_CEILING = 0.6
WIDTH = 7.2
SMOOTH_MM = 3.0
BASELINE = "nuisance"
"""Column with the alignment of word rate, envelope and position alone."""
MODEL = ["backbone", "condition", "participant"]
"""Columns that tell models apart."""


def read_tables(results: Iterable[Path]) -> pd.DataFrame:
    """Tables that lie beside results, one below the other; `InputError` where one is not there.

    Names of models stay as they were written, a participant `01` or `NA`, and '' where a model belongs to nobody.
    """
    paths = [path.with_suffix(".csv") for path in results]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: not there, expected the result of an earlier step; `make figures` makes it")
    as_written = {"dtype": dict.fromkeys(MODEL, str), "keep_default_na": False, "na_values": [""]}
    table = pd.concat([pd.read_csv(path, **as_written) for path in paths], ignore_index=True)
    return table.fillna(dict.fromkeys(MODEL, ""))


def gather(
    study: Study, backbones: Collection[str] | None = None, conditions: Collection[str] | None = None
) -> pd.DataFrame:
    """Alignment of every participant with every model (of some backbones or conditions), by layer and region.

    Columns of `beside_baseline` say what the same participant and region have of word rate, envelope and position.
    """
    found = read_tables(
        study.scores_file(participant, run)
        for participant, run in study.alignments()
        if (backbones is None or run.backbone in backbones) and (conditions is None or run.condition in conditions)
    )
    return beside_baseline(study, found, "alignment")


def beside_baseline(study: Study, table: pd.DataFrame, score: str) -> pd.DataFrame:
    """A table by participant and roi with two more columns, on an encoding model of the nuisance features alone.

    `nuisance` is its `score`, a column of the tables beside `Study.nuisance_file`: `alignment`, or
    `low_level_alignment`, fitted to the stories of low-level impact. `nuisance_features` says which of word rate,
    envelope and position the dataset has.
    """
    found = read_tables(map(study.nuisance_file, people_tested(study)))
    found = found[["participant", "roi", score, "features"]]
    names = {score: BASELINE, "features": f"{BASELINE}_features"}
    return table.merge(found.rename(columns=names), on=["participant", "roi"], how="left", validate="many_to_one")


def baseline_label(table: pd.DataFrame) -> str:
    """What the nuisance baseline of a table is made of, as legends name it."""
    return " or ".join(table[f"{BASELINE}_features"].dropna().unique())


def at_layer(table: pd.DataFrame, layer: int) -> pd.DataFrame:
    """Part of a table on one layer; a negative number counts from each backbone's last.

    How many layers a backbone has is in the column `n_layers`; a table without one has every layer.
    """
    whole = "n_layers" not in table
    n_layers = table.groupby("backbone")["layer"].transform("max") + 1 if whole else table["n_layers"]
    return table[table["layer"] == (layer if layer >= 0 else n_layers + layer)]


def at_best_layer(table: pd.DataFrame, by: Sequence[str] = ("backbone", "condition", "roi")) -> pd.DataFrame:
    """Part of a table of `alignment` on one layer for all participants: that with the highest mean over them.

    It is chosen for each group of `by`, the earlier one of equals, on the story that is tested: its alignment is a
    little higher than on another story. A group that is defined in nobody is left out.
    """
    means = table.groupby([*by, "layer"], sort=False)["alignment"].mean().dropna()
    means = means.sort_index(level="layer", sort_remaining=False, kind="stable")
    best = means.loc[means.groupby(list(by), sort=False).idxmax()].index
    return table[pd.MultiIndex.from_frame(table[[*by, "layer"]]).isin(best)]


def best_layers(table: pd.DataFrame) -> pd.DataFrame:
    """Best layer of each backbone, condition and region, and the mean over participants there; from `at_best_layer`.

    Columns backbone, condition, roi, layer, alignment, n_participants (those in whom it is defined).
    """
    found = at_best_layer(table).groupby(["backbone", "condition", "roi", "layer"], sort=False)["alignment"]
    return found.agg(alignment="mean", n_participants="count").reset_index()


def shown_conditions(study: Study, backbone: str | None = None) -> tuple[str, ...]:
    """Conditions of a study or of one backbone that figures 2 to 5 show."""
    conditions = study.conditions if backbone is None else study.conditions_of(backbone)
    return tuple(filter(study.is_main, conditions))


def small_print(
    study: Study, table: pd.DataFrame, sources: str | None = None, backbones: Collection[str] | None = None
) -> str:
    """Title of the study, weights of `backbones` (by default of those that it tunes), models left untuned, sources.

    `table` has a row for each model, with its backbone, condition, participant and weights.
    """
    shown = table["backbone"].isin(list(backbones or study.tuned_backbones))
    weights = "; ".join(dict.fromkeys(table.loc[shown, "weights"]))
    runs = dict.fromkeys(study.run(*row) for row in table[MODEL].drop_duplicates().itertuples(index=False))
    own = study.dataset.kind == "lebel" and study.dataset.simulation is None
    sources = sources or (OWN_SURFACE if own else SURFACE_SOURCES)
    return ". ".join([study.title, f"Weights: {weights}", *unlearnt(study, runs), sources])


def layer_name(study: Study) -> str:
    """The figure's layer in words."""
    layer = study.figures.layer
    return "last layer" if layer == -1 else f"layer {layer}" if layer >= 0 else f"layer {-layer} from the end"


def what_bars_are(study: Study, interval: str) -> str:
    """Small print on bars above a map, and on the differences below them, which have an `interval`."""
    people = f"points, joined: {len(people_tested(study))} participants, bars: their mean"
    return f"a, b: {layer_name(study)}; {people}; below: difference from pretrained, {interval}"


def unlearnt(study: Study, runs: Iterable[Run]) -> list[str]:
    """A sentence that names the tuned models which no epoch made better, and so are as they were pretrained.

    Of the models that are there. Controls that have nothing to learn are not named (`recipes.AIMS`).
    """
    found = []
    for run in runs:
        history = study.model_folder(run) / "history.csv"
        if study.base(run.condition) not in ("pretrained", *AIMS) and history.is_file():
            found += [] if pd.read_csv(history)["share_of_untuned"].min() < 1 else [run.name]
    return [f"Did not learn, so left as pretrained: {', '.join(found)}"] if found else []


def people_tested(study: Study) -> list[str]:
    """Participants who have a test story; joint models may have been tuned on others."""
    return [listener for listener in study.tested if listener in study.participants]


def noise_ceiling_of(study: Study, participant: str) -> np.ndarray:
    """Noise ceiling of each voxel; (voxels,) float64, NaN where there is none."""
    return load_arrays(study.ceiling_file(participant))["ceiling"]


def on_the_map(study: Study, dataset: Dataset) -> list[str]:
    """Whom the flat map shows: all who are tested where they share a surface, else the first, on their own cortex."""
    people = people_tested(study)
    surfaces = {id(dataset.cortex(participant).surface) for participant in people}
    return people if len(surfaces) == 1 else people[:1]


def alignment_change(study: Study, dataset: Dataset) -> np.ndarray:
    """Alignment of the figure's backbone and layer, brain-tuned minus pretrained; (vertices,) float.

    Mean over `on_the_map`, at each vertex over those in whom it is measurable; NaN where it is in none.
    """
    maps = []
    for participant in on_the_map(study, dataset):
        tuned, pretrained = (
            load_arrays(study.scores_file(participant, study.run(study.figure_backbone, condition, participant)))
            for condition in ("brain-tuned", "pretrained")
        )
        change = tuned["alignment"][study.figures.layer] - pretrained["alignment"][study.figures.layer]
        maps.append(dataset.cortex(participant).to_vertices(change))
    return group_average(maps)


def reliability(study: Study, dataset: Dataset) -> Reliability:
    """Mean noise ceiling of each vertex, and between which of them values fade in."""
    shown = on_the_map(study, dataset)
    maps = [dataset.cortex(participant).to_vertices(noise_ceiling_of(study, participant)) for participant in shown]
    return Reliability(group_average(maps), "noise ceiling", *faded(study))


def faded(study: Study) -> tuple[float, float]:
    """Noise ceilings between which values fade in: the study's threshold, and where they are in full colour."""
    threshold = study.encoding.ceiling_threshold
    return threshold, max(CLEAR_CEILING, threshold + 0.1)


def has_change(study: Study) -> bool:
    """Whether the figure's backbone is both pretrained and brain-tuned, so that a map can show the change."""
    return {"pretrained", "brain-tuned"} <= set(study.conditions_of(study.figure_backbone))


def draw_change(
    study: Study, dataset: Dataset, change: np.ndarray | None, label: str, note: str, smooth_mm: float = 0.0
) -> Figure:
    """Flat map of what brain-tuning changed; `change` is (vertices,) float, of the participants of `on_the_map`.

    With None, or NaN everywhere, there is small print alone, which says so.
    """
    if change is None or np.isnan(change).all():
        why = "is not both pretrained and brain-tuned" if change is None else "has no change that is defined"
        note = f"No map: {study.figure_backbone} {why}. {note}"
        lines = n_lines(wrap(note, WIDTH, NOTE_POINTS))
        fig = Figure(figsize=(WIDTH, 0.15 + NOTE_LINE * lines))
        small_print_below(fig, note)
        return fig
    shown = on_the_map(study, dataset)
    cortex, who = dataset.cortex(shown[0]), f"mean of {len(shown)}" if len(shown) > 1 else shown[0]
    look = {"symmetric": True, "reliability": reliability(study, dataset), "smooth_mm": smooth_mm}
    label = f"{label}, brain-tuned minus pretrained ({who})"
    return cortex_figure(cortex.surface, change, label=label, labels=cortex.vertex_labels, note=note, **look)
