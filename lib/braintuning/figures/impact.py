"""Figure 3: how much of a model's alignment is low-level, and where tuning changed that."""

from collections.abc import Mapping
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from braintuning.alignment.stats import FEWEST_PARTICIPANTS, false_discovery_q
from braintuning.cortex.colours import group_average
from braintuning.datasets.base import Dataset
from braintuning.figures import tables
from braintuning.figures.alignment import what_a_star_is
from braintuning.figures.compare import EVERYONE, LEVEL, over_participants
from braintuning.figures.map_and_bars import bars_above
from braintuning.figures.style import POINTS, REGIONS, ROI_TITLES, condition_bars, legend_and_small_print, letter
from braintuning.lowlevel.features import FROM_TIER, TOGETHER, name_of
from braintuning.results import load_arrays
from braintuning.study import Study

SHARE = f"{tables.BASELINE}_percent"
LEAST_ALIGNMENT = 0.05
LEAST_SHARE = 0.25
"""Of a region's voxels that must be in use for the map to show its R; fewer may be there by chance."""


def gather(study: Study) -> pd.DataFrame:
    """Low-level impact of every participant with every model, by layer, region, feature and way of removal.

    Columns of `tables.beside_baseline`, fitted to the same stories, and `nuisance_percent`, that score as a share of
    the model's alignment, NaN where R is.
    """
    compared = study.alignments(study.main_runs())
    found = tables.read_tables(study.low_level_file(participant, run) for participant, run in compared)
    found = tables.beside_baseline(study, where_r_is_defined(found), "low_level_alignment")
    share = 100 * found[tables.BASELINE] / found["alignment"]
    return found.assign(**{SHARE: share.where(found["alignment"] >= LEAST_ALIGNMENT)})


def where_r_is_defined(table: pd.DataFrame) -> pd.DataFrame:
    """The table, R NaN where alignment is below `LEAST_ALIGNMENT`: a share of nearly nothing."""
    return table.assign(r_percent=table["r_percent"].mask(table["alignment"] < LEAST_ALIGNMENT))


def drawn(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """The rows whose removal is the study's `low_level.removal`."""
    return table[table["removal"] == study.low_level.removal]


def which_removal(study: Study) -> str:
    """Small print that says which way of removal is drawn."""
    return f"Low-level features removed {'at every lag' if study.low_level.removal == 'every lag' else 'TR by TR'}"


def at_lags(study: Study) -> pd.DataFrame:
    """What a TR of the pretrained model tells of low-level features 0, 1, ... TRs before, and what TR by TR leaves.

    Columns feature, lag, as_it_is, after_tr_by_tr: correlations of `LowLevelFit.at_lags`, mean over participants.
    """
    run = study.run(study.figure_backbone, "pretrained")
    r = np.mean([load_arrays(study.low_level_file(one, run))["at_lags"] for one in tables.people_tested(study)], axis=0)
    rows = product(study.low_level.features, range(r.shape[1]))
    found = pd.DataFrame(rows, columns=["feature", "lag"])
    return found.assign(as_it_is=r[..., 0].ravel(), after_tr_by_tr=r[..., 1].ravel())


def compare(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """R of each condition minus pretrained at the figure's layer, over participants in whom both are defined.

    Returns
    -------
    DataFrame
        backbone, condition, roi, feature, removal, n_participants, difference, low, high (95 % over participants), p
        (signed rank; NaN with fewer than six), q (false discovery rate over all rows of a way of removal); no row where
        nothing is compared with it.
    """
    rows, chosen = [], tables.at_layer(table, study.figures.layer)
    asked = ["backbone", "roi", "feature", "removal"]
    for (backbone, roi, feature, removal), part in chosen[chosen["roi"].isin(REGIONS)].groupby(asked):
        wide = part.pivot(index="participant", columns="condition", values="r_percent")
        tuned = [c for c in study.conditions_of(backbone) if c != "pretrained" and c in wide]
        for condition in tuned if "pretrained" in wide else ():
            change = (wide[condition] - wide["pretrained"]).dropna()
            row = {"backbone": backbone, "condition": condition, "roi": roi, "feature": feature, "removal": removal}
            rows.append(row | {"n_participants": len(change)} | over_participants(change))
    numbers = ["n_participants", "difference", "low", "high", "p"]
    found = pd.DataFrame(rows, columns=["backbone", "condition", "roi", "feature", "removal", *numbers])
    return found.assign(q=found.groupby("removal")["p"].transform(false_discovery_q))


def change_map(study: Study, dataset: Dataset, backbone: str) -> np.ndarray:
    """R of all low-level features, brain-tuned minus pretrained, painted on each HCP region; (vertices,) float.

    R is that of the region's mean over its voxels in use (in a single voxel it would be a share of next to
    nothing), removed in the study's way and averaged over those of `on_the_map` in whom it is defined; NaN where it is
    in none, see `region_r`.
    """
    maps = []
    for participant in tables.on_the_map(study, dataset):
        cortex = dataset.cortex(participant)
        tuned, pretrained = (
            load_arrays(study.low_level_file(participant, study.run(backbone, condition, participant)))
            for condition in ("brain-tuned", "pretrained")
        )
        painted = np.full(len(cortex.vertex_labels), np.nan)
        for region in np.unique(cortex.voxel_labels[cortex.voxel_labels != ""]):
            inside = cortex.voxel_labels == region
            change = region_r(study, tuned, inside) - region_r(study, pretrained, inside)
            painted[cortex.vertex_labels == region] = change
        maps.append(painted)
    return group_average(maps)


def region_r(study: Study, arrays: Mapping[str, np.ndarray], inside: np.ndarray) -> float:
    """R of all low-level features at the figure's layer, of the mean over (voxels,) bool `inside`.

    NaN where alignment is below `LEAST_ALIGNMENT`, or less than `LEAST_SHARE` of the voxels are in use.
    """
    names = "alignment", name_of(TOGETHER, study.low_level.removal)
    before, after = (at_figure_layer(study, arrays, name)[inside] for name in names)
    known = np.isfinite(before)
    if known.mean() < LEAST_SHARE or before[known].mean() < LEAST_ALIGNMENT:
        return np.nan
    return 100 * (1 - after[known].mean() / before[known].mean())


def at_figure_layer(study: Study, arrays: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """One of the arrays of a low-level result at the figure's layer, whichever layers it has; (voxels,)."""
    return arrays[name][arrays["layers"].tolist().index(study.figures.layer % int(arrays["n_layers"]))]


def draw(study: Study, table: pd.DataFrame, statistics: pd.DataFrame, dataset: Dataset, note: str) -> Figure:
    """R of every backbone and condition over a flat map of what brain-tuning changed, if there is any.

    `table` and `statistics` are from `gather` and `compare`, `note` is small print.
    """
    table, statistics = drawn(study, table), drawn(study, statistics)
    shown = tables.at_layer(table[table["feature"] == TOGETHER], study.figures.layer)
    shown = shown.assign(**{SHARE: shown[SHARE].clip(upper=100)})
    note += f". Dashed: alignment of {tables.baseline_label(table)} alone, as a share of each model's, capped at 100 %"
    note += f". {which_removal(study)}{why_no_bar(shown[shown['roi'].isin(REGIONS)])}"
    tested = statistics.assign(participant=EVERYONE, reference="pretrained", family="of all features and regions")
    changes, interval = changes_of(shown, statistics[statistics["feature"] == TOGETHER])
    star = what_a_star_is(tested, tested[tested["feature"] == TOGETHER])
    note = f"{tables.what_bars_are(study, interval)}. {star}. {note}"
    change = change_map(study, dataset, study.figure_backbone) if tables.has_change(study) else None
    fig = tables.draw_change(study, dataset, change, "low-level impact R of each region (%)", note)
    stars = statistics[(statistics["feature"] == TOGETHER) & (statistics["q"] < LEVEL)]
    conditions, label = tables.shown_conditions(study), "low-level impact R (%)"
    bars_above(fig, shown, "r_percent", label, study.tuned_backbones, conditions, stars, SHARE, changes)
    return fig


def changes_of(shown: pd.DataFrame, statistics: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """What is drawn below the bars of R, as of `alignment.changes_of`; two participants' interval would say nothing."""
    if statistics.empty or statistics["n_participants"].max() >= FEWEST_PARTICIPANTS:
        return statistics, "mean over participants and its 95 % interval"
    wide = shown.pivot(index=["backbone", "roi", "participant"], columns="condition", values="r_percent")
    own = wide.sub(wide["pretrained"], axis=0).drop(columns="pretrained").stack().rename("difference").reset_index()
    return own.assign(low=own["difference"], high=own["difference"]), "each participant"


def why_no_bar(shown: pd.DataFrame) -> str:
    """Small print on bars that are missing, and on phones that the dataset lacks; empty where there is neither."""
    empty = shown["n_voxels"] == 0
    said = ""
    if (shown["r_percent"].isna() & ~empty).any():
        said += f". No bar where alignment is below {LEAST_ALIGNMENT:g}: R is not defined"
    if empty.any():
        said += ". No voxel above the ceiling threshold: " + ", ".join(
            f"{ROI_TITLES[roi].lower()} of {participant}"
            for participant, roi in shown.loc[empty, ["participant", "roi"]].drop_duplicates().itertuples(index=False)
        )
    if made := set(shown["phones"]) - {FROM_TIER}:
        said += f". Phones by {', '.join(sorted(made))}"
    return said


def draw_features(study: Study, table: pd.DataFrame, note: str) -> Figure:
    """R feature by feature in the figure's backbone, late language regions over primary auditory cortex."""
    table = drawn(study, table)
    chosen = tables.at_layer(table[table["backbone"] == study.figure_backbone], study.figures.layer)
    chosen = chosen.assign(backbone=chosen["feature"].str.replace("_", " "))
    features, conditions = tuple(dict.fromkeys(chosen["backbone"])), tables.shown_conditions(study)
    fig = Figure(figsize=(7.2, 4.2), layout="constrained")
    for ax, roi in zip(fig.subplots(len(REGIONS), 1), REGIONS, strict=True):
        condition_bars(ax, chosen[chosen["roi"] == roi], "r_percent", features, conditions, "R (%)")
        ax.set_title(f"{ROI_TITLES[roi]}, {study.figure_backbone}")
    letter(fig.axes)
    return legend_and_small_print(fig, conditions, f"{POINTS}. {note}. {which_removal(study)}")
