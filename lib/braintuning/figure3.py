"""Figure 3: how much of a model's alignment is low-level, and where tuning changed that."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from braintuning import plots, stats
from braintuning.brainplot import cortex_figure, group_average
from braintuning.datasets.interface import Dataset
from braintuning.figure2 import REGIONS, SMOOTH_MM, at_layer, bars_above, on_the_map, reliability
from braintuning.low_level_features import TOGETHER
from braintuning.low_level_stage import low_level_impact
from braintuning.results import load_arrays
from braintuning.seeding import generator
from braintuning.stages import Report
from braintuning.study import Run, Study

LEAST_ALIGNMENT = 0.05


def gather(study: Study, device: str = "cpu", report: Report = print) -> pd.DataFrame:
    """Low-level impact of every participant with every model, by layer, region and feature, with provenance."""
    paths = [low_level_impact(study, participant, run, device, report) for participant, run in study.alignments()]
    table = pd.concat([pd.read_csv(path.with_suffix(".csv")) for path in paths], ignore_index=True)
    return where_r_is_defined(table)


def where_r_is_defined(table: pd.DataFrame) -> pd.DataFrame:
    """The table, R and its interval NaN where alignment is below `LEAST_ALIGNMENT`: a share of nearly nothing."""
    table = table.copy()
    table.loc[table["alignment"] < LEAST_ALIGNMENT, ["r_percent", "low", "high"]] = np.nan
    return table


def compare(study: Study, table: pd.DataFrame, reference: str = "pretrained") -> pd.DataFrame:
    """R of each condition minus the reference's, over participants in whom both are defined, at the figure's layer.

    Returns
    -------
    DataFrame
        backbone, condition, roi, feature, n_participants, difference, low, high (bootstrap over participants), p
        (signed rank; NaN with fewer than six), q (false discovery rate over all rows).
    """
    rows, chosen = [], at_layer(table, study.figures.layer)
    for (backbone, roi, feature), part in chosen[chosen["roi"].isin(REGIONS)].groupby(["backbone", "roi", "feature"]):
        wide = part.pivot(index="participant", columns="condition", values="r_percent")
        for condition in [c for c in study.conditions_of(backbone) if c != reference]:
            change = (wide[condition] - wide[reference]).dropna()
            low, high = stats.bootstrap_interval(change, generator(study.encoding.seed, backbone, condition, roi))
            rows.append(
                {
                    "backbone": backbone, "condition": condition, "roi": roi, "feature": feature,
                    "n_participants": len(change), "difference": change.mean(), "low": low, "high": high,
                    "p": stats.signed_rank_p(change),
                }
            )  # fmt: skip
    found = pd.DataFrame(rows)
    return found.assign(q=stats.false_discovery_q(found["p"].to_numpy()))


def carried_map(study: Study, dataset: Dataset, backbone: str, condition: str = "brain-tuned") -> np.ndarray:
    """Alignment that all low-level features carry, of a condition minus pretrained; (vertices,) float.

    That is alignment minus alignment without them, R before it is divided: in a single voxel the division would be by
    numbers near 0.
    """
    maps = []
    for participant in on_the_map(study, dataset):
        runs = Run(backbone, condition, participant), Run(backbone, "pretrained")
        carried = []
        for run in runs:
            arrays = load_arrays(study.low_level_file(participant, run))
            carried.append((arrays["alignment"] - arrays[f"removed_{TOGETHER}"])[_place(study, arrays)])
        maps.append(dataset.cortex(participant).to_vertices(carried[0] - carried[1]))
    return group_average(maps)


def _place(study: Study, arrays: dict[str, np.ndarray]) -> int:
    """Where the figure's layer stands in the arrays: the last of those that were named, or its own number."""
    return study.figures.layer if not study.low_level.layers else len(arrays["alignment"]) - 1


def draw(study: Study, table: pd.DataFrame, statistics: pd.DataFrame, dataset: Dataset, note: str) -> Figure:
    """R of every backbone and condition over a flat map of what brain-tuning changed in the figure's backbone.

    Parameters
    ----------
    study : Study
    table : DataFrame
        From `gather`.
    statistics : DataFrame
        From `compare`.
    dataset : Dataset
    note : str
        Small print.
    """
    cortex = dataset.cortex(on_the_map(study, dataset)[0])
    shown = at_layer(table[table["feature"] == TOGETHER], study.figures.layer)
    missing = shown["r_percent"].isna() & shown["roi"].isin(REGIONS)
    undefined = f". No bar: alignment below {LEAST_ALIGNMENT:g}, of which no share is taken" if missing.any() else ""
    fig = cortex_figure(
        cortex.surface,
        carried_map(study, dataset, study.figure_backbone),
        label="alignment carried by low-level features, brain-tuned minus pretrained",
        symmetric=True,
        reliability=reliability(study, dataset),
        smooth_mm=SMOOTH_MM,
        labels=cortex.vertex_labels,
        note=note + undefined,
    )
    stars = statistics[(statistics["feature"] == TOGETHER) & (statistics["q"] < 0.05)]
    bars_above(fig, study, shown, "r_percent", "low-level impact R (%)", stars)
    return fig


def draw_features(study: Study, table: pd.DataFrame, note: str) -> Figure:
    """R feature by feature in the figure's backbone, late language regions over primary auditory cortex."""
    conditions = tuple(condition for condition in study.conditions if condition not in study.variants)
    chosen = at_layer(table[table["backbone"] == study.figure_backbone], study.figures.layer)
    chosen = chosen.assign(backbone=chosen["feature"].str.replace("_", " "))
    features = tuple(dict.fromkeys(chosen["backbone"]))
    fig = Figure(figsize=(7.2, 4.2), layout="constrained")
    for ax, roi in zip(fig.subplots(len(REGIONS), 1), REGIONS, strict=True):
        plots.condition_bars(ax, chosen[chosen["roi"] == roi], "r_percent", features, conditions, "R (%)")
        ax.set_title(f"{plots.ROI_TITLES[roi]}, {study.figure_backbone}")
    plots.condition_legend(fig, conditions, loc="outside upper center")
    plots.small_print_below(fig, note)
    return fig
