"""Figures B1 to B3: what tuning on several participants gives to those whom it never saw."""

import pandas as pd
from matplotlib.figure import Figure

from braintuning.figures import style as plots
from braintuning.figures.tables import REGIONS, at_layer, read_tables
from braintuning.pipeline import recipes
from braintuning.study import Study

MULTI = "multi-brain-tuned"
YLABEL = "alignment (r / noise ceiling)"


def gather_amounts(study: Study) -> pd.DataFrame:
    """Alignment of held-out participants with encoding models fitted to the first stories alone.

    Returns
    -------
    DataFrame
        The columns of `region_table`, participant, backbone, condition, n_stories, hours, provenance.
    """
    return read_tables(study.scores_file(*one) for one in recipes.amounts(study))


def amounts(study: Study, table: pd.DataFrame, note: str) -> Figure:
    """Figure B1: best layer's alignment of held-out participants against hours of encoding data."""
    fig = Figure(figsize=(7.2, 2.6), layout="constrained")
    for ax, roi in zip(fig.subplots(1, len(REGIONS)), REGIONS, strict=True):
        chosen = table[table["roi"] == roi]
        best = chosen.groupby(["condition", "participant", "hours"], as_index=False)["alignment"].max()
        conditions = [c for c in study.conditions if c in set(best["condition"])]
        minutes = best.assign(layer=(60 * best["hours"]).round(1))
        plots.layer_curves(ax, minutes, "alignment", conditions)
        top = best[best["condition"] == "pretrained"].groupby("hours")["alignment"].mean().max()
        ax.axhline(top, color="0.5", lw=0.7, ls=":")
        ax.set(xlabel="minutes of stories for the encoding model", title=plots.ROI_TITLES[roi])
    fig.axes[0].set_ylabel(f"{YLABEL},\nbest layer")
    plots.condition_legend(fig, conditions, lines=True, loc="outside upper center")
    plots.small_print_below(fig, note)
    return fig


def transfer(study: Study, table: pd.DataFrame, note: str) -> Figure:
    """Figure B2: joint models on participants whom they were tuned on, and on those whom they never saw."""
    fig = Figure(figsize=(7.2, 2.7), layout="constrained")
    conditions = [c for c in recipes.TRANSFERRED if c in study.conditions]
    chosen = at_layer(table, study.figures.layer)
    groups = {"tuned together": study.tuned_together, "held out": study.held_out}
    chosen = pd.concat(
        [chosen[chosen["participant"].isin(names)].assign(group=group) for group, names in groups.items()]
    )
    chosen = chosen[chosen["backbone"] == study.figure_backbone].drop(columns="backbone")
    for ax, roi in zip(fig.subplots(1, len(REGIONS)), REGIONS, strict=True):
        shown = chosen[chosen["roi"] == roi].rename(columns={"group": "backbone"})
        plots.condition_bars(ax, shown, "alignment", tuple(groups), conditions)
        ax.set_title(f"{plots.ROI_TITLES[roi]}, {study.figure_backbone}")
    fig.axes[0].set_ylabel(YLABEL)
    plots.condition_legend(fig, conditions, loc="outside upper center")
    plots.small_print_below(fig, note)
    return fig


def ablation_conditions(study: Study) -> list[str]:
    """Pretrained, and joint tuning under every rank and loss of the study."""
    return ["pretrained", *(c for c in study.conditions if study.base(c) == MULTI)]


def ablation(study: Study, table: pd.DataFrame, note: str) -> Figure:
    """Figure B3: joint tuning with other ranks and losses; every participant a point."""
    fig = Figure(figsize=(7.2, 2.9), layout="constrained")
    conditions = ablation_conditions(study)
    chosen = at_layer(table, study.figures.layer)
    for ax, roi in zip(fig.subplots(1, len(REGIONS)), REGIONS, strict=True):
        plots.condition_bars(ax, chosen[chosen["roi"] == roi], "alignment", (study.figure_backbone,), conditions)
        ax.set_title(plots.ROI_TITLES[roi])
    fig.axes[0].set_ylabel(YLABEL)
    plots.condition_legend(fig, conditions, loc="outside upper center")
    plots.small_print_below(fig, note)
    return fig
