"""Figure 2: alignment of every model in late language and primary auditory regions, and where tuning changed it."""

import json
from collections.abc import Collection, Iterable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from braintuning.alignment.stats import FEWEST_PARTICIPANTS
from braintuning.cortex.colours import Reliability, group_average
from braintuning.cortex.figure import cortex_figure
from braintuning.datasets.base import Dataset
from braintuning.errors import InputError
from braintuning.figures import style as plots
from braintuning.figures.compare import EVERYONE, LEVEL, OVER, starred
from braintuning.results import load_arrays
from braintuning.study import Run, Study

SURFACE_SOURCES = "Surface and regions: HCP S1200 fs_LR, Glasser et al. 2016"
REGIONS = ("late_language", "primary_auditory")
CLEAR_CEILING = 0.6
SMOOTH_MM = 3.0
FEW_BARS = 8


def gather(
    study: Study, backbones: Collection[str] | None = None, conditions: Collection[str] | None = None
) -> pd.DataFrame:
    """Alignment of every participant with every model, layer by layer and region by region, with provenance.

    With `backbones` or `conditions`, of those alone.
    """
    paths = [
        study.scores_file(participant, run)
        for participant, run in study.alignments()
        if (backbones is None or run.backbone in backbones) and (conditions is None or run.condition in conditions)
    ]
    return read_tables(paths)


def read_tables(results: Iterable[Path], **options: object) -> pd.DataFrame:
    """Tables that lie beside results, one below the other; `options` are those of `pandas.read_csv`.

    Raises
    ------
    InputError
        A result has not been made.
    """
    paths = [path.with_suffix(".csv") for path in results]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: not there, expected the result of an earlier step; `make figures` makes it")
    return pd.concat([pd.read_csv(path, **options) for path in paths], ignore_index=True)


def at_layer(table: pd.DataFrame, layer: int) -> pd.DataFrame:
    """Rows of one layer; a negative number counts from each backbone's last.

    How many layers a backbone has is in the column `n_layers`; a table without one has every layer.
    """
    whole = "n_layers" not in table
    n_layers = table.groupby("backbone")["layer"].transform("max") + 1 if whole else table["n_layers"]
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
    return group_average(maps)


def alignment_map(study: Study, dataset: Dataset, backbone: str, condition: str) -> np.ndarray:
    """Alignment at the figure's layer, averaged over participants as in `change_map`; (vertices,) float."""
    maps = []
    for participant in on_the_map(study, dataset):
        run = study.run(backbone, condition, participant)
        alignment = load_arrays(study.scores_file(participant, run))["alignment"][study.figures.layer]
        maps.append(dataset.cortex(participant).to_vertices(alignment))
    return group_average(maps)


def on_the_map(study: Study, dataset: Dataset) -> tuple[str, ...]:
    """Participants whom the flat map shows: all where they share a surface, else the first, on their own cortex."""
    surfaces = {id(dataset.cortex(participant).surface) for participant in study.participants}
    return study.participants if len(surfaces) == 1 else study.participants[:1]


def reliability(study: Study, dataset: Dataset) -> Reliability:
    """How far each vertex is to be trusted: its mean noise ceiling, in full colour at `CLEAR_CEILING` and above."""
    maps = [
        dataset.cortex(p).to_vertices(load_arrays(study.ceiling_file(p))["ceiling"]) for p in on_the_map(study, dataset)
    ]
    return Reliability(group_average(maps), "noise ceiling", study.encoding.ceiling_threshold, CLEAR_CEILING)


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
        Small print: data, weights, sources. What the stars stand for, and what stands in for an objective of Whisper's
        own, is written before it.
    """
    shown = on_the_map(study, dataset)
    cortex = dataset.cortex(shown[0])
    who = "" if len(shown) == len(study.participants) else f" ({shown[0]})"
    fig = cortex_figure(
        cortex.surface,
        change_map(study, dataset, backbone),
        label=f"normalised alignment, brain-tuned minus pretrained{who}",
        symmetric=True,
        reliability=reliability(study, dataset),
        smooth_mm=SMOOTH_MM,
        labels=cortex.vertex_labels,
        note=". ".join([what_a_star_is(statistics), *stand_ins(study), note]),
    )
    stars = starred(statistics)
    bars_above(fig, study, at_layer(table, study.figures.layer), "alignment", "alignment (r / ceiling)", stars)
    return fig


def what_a_star_is(statistics: pd.DataFrame) -> str:
    """What stands behind the stars of the figure, or why there is none; `statistics` from `comparison.compare`."""
    tested = statistics[(statistics["participant"] == EVERYONE) & (statistics["reference"] != "chance")]
    most = int(tested["n_participants"].max()) if len(tested) else 0
    if most < FEWEST_PARTICIPANTS:
        found = f"no signed-rank test over {most} participants can reach p < {LEVEL:g}"
        return f"No stars: {found}, it takes at least {FEWEST_PARTICIPANTS}"
    stars = starred(statistics)
    family = tested.loc[tested["n_participants"] == most, "family"].iloc[0]
    n_tests, against = int((tested["family"] == family).sum()), tested["reference"].iloc[0]
    counts = sorted(stars["n_participants"].unique())
    who = f"{most} participants" if counts in ([], [most]) else f"{counts[0]} to {counts[-1]} participants"
    test = f"{OVER} test over {who} against {against}, false discovery rate controlled over {n_tests} differences"
    return f"*: q < {LEVEL:g}, two-sided {test}" + ("" if len(stars) else "; none reached")


def stand_ins(study: Study) -> list[str]:
    """What the figure has to say of Whisper, which has no self-supervised objective to be stimulus-tuned with."""
    for backbone in study.backbones:
        if "stimulus-tuned" in study.conditions_of(backbone):
            config = study.model_folder(Run(backbone, "stimulus-tuned")) / "config.json"
            if config.is_file() and json.loads(config.read_text()).get("model_type") == "whisper":
                return ["Whisper has no self-supervised objective: its stimulus-tuning reconstructs masked features"]
    return []


def bars_above(fig: Figure, study: Study, table: pd.DataFrame, value: str, label: str, stars: pd.DataFrame) -> None:
    """Bars above what is on the figure: regions side by side while that leaves the bars wide, else on each other.

    Parameters
    ----------
    fig : Figure
        Made taller.
    study : Study
    table : DataFrame
        Columns roi, participant, backbone, condition and `value`.
    value, label : str
        Column to draw, and its name on the axis.
    stars : DataFrame
        Columns roi, backbone, condition: the bars that earned a star.
    """
    conditions = tuple(condition for condition in study.conditions if condition not in study.variants)
    beside = len(study.tuned_backbones) * len(conditions) <= FEW_BARS
    inches = 2.3 if beside else 4.2
    bottom = plots.room_above(fig, inches)
    for place, roi in enumerate(REGIONS):
        left, low = (0.08 + 0.49 * place, 0.42) if beside else (0.08, inches - 1.95 - 1.85 * place)
        width, height = (0.41, 1.4) if beside else (0.9, 1.35)
        unit = (1 - bottom) / inches
        ax = fig.add_axes((left, bottom + low * unit, width, height * unit))
        earned = set(stars.loc[stars["roi"] == roi, ["backbone", "condition"]].itertuples(index=False, name=None))
        ylabel = "" if beside and place else label
        chosen = table[table["roi"] == roi]
        plots.condition_bars(ax, chosen, value, study.tuned_backbones, conditions, ylabel, earned)
        ax.set_title(plots.ROI_TITLES[roi])
    plots.condition_legend(fig, conditions, loc="upper center", bbox_to_anchor=(0.5, 1.0))


def small_print(
    study: Study, table: pd.DataFrame, sources: str = SURFACE_SOURCES, backbones: Collection[str] | None = None
) -> str:
    """What stands below a figure: the study, weights of `backbones` (else of those that it tunes), and sources."""
    shown = table["backbone"].isin(list(backbones or study.tuned_backbones))
    weights = "; ".join(dict.fromkeys(table.loc[shown, "weights"]))
    return f"{study.title}. Weights: {weights}. {sources}"
