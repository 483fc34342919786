"""Figure 5: semantic preference of every layer, and the similarities that it is made of."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from braintuning.figures import style
from braintuning.figures.style import layer_curves, looks_of
from braintuning.figures.tables import read_tables, shown_conditions
from braintuning.preference.pairs import PAIR_TYPES, choose_pairs
from braintuning.results import load_arrays
from braintuning.study import Run, Study

PAIR_STYLES = {"same word": ":", "near homophones": "--", "synonyms": "-", "random": "-."}
SIMILARITY_CONDITIONS = ("pretrained", "brain-tuned")
READING = (
    "Preference above 0: words of similar meaning are closer than words of similar sound; below 0: the reverse. "
    "Vertical lines and bands: 95 % intervals over words, averaged over a condition's models. c: pretrained and "
    "brain-tuned"
)


def gather(study: Study, recorded: bool = False) -> pd.DataFrame:
    """Semantic preference of every model, by layer and type of pairs.

    Of words that people `recorded`, only pretrained models: there are too few pairs to compare others.
    """
    runs = [run for run in study.main_runs() if not recorded or run.condition == "pretrained"]
    return read_tables(study.preference_file(run, recorded) for run in runs)


def compare(study: Study) -> pd.DataFrame:
    """Semantic preference of each tuned model minus pretrained, by layer, with intervals over words.

    Columns participant, backbone, condition, and those of `preference_change`.
    """
    from braintuning.preference.similarity import preference_change

    pairs, tables = choose_pairs(study.preference.n_pairs, study.preference.seed), []
    for run in [run for run in study.main_runs() if study.base(run.condition) != "pretrained"]:
        files = [study.preference_file(r) for r in (Run(run.backbone, "pretrained"), run)]
        before, after = (load_arrays(file)["similarities"] for file in files)
        change = preference_change(before, after, pairs)
        tables.append(change.assign(participant=run.participant or "", backbone=run.backbone, condition=run.condition))
    columns = ["participant", "backbone", "condition", "layer", "difference", "low", "high", "reason"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else pd.DataFrame(columns=columns)


def draw(study: Study, table: pd.DataFrame, changes: pd.DataFrame, note: str) -> Figure:
    """A column a backbone: preference per layer and condition, its change from pretrained, and similarities.

    `table` and `changes` are from `gather` and `compare`, `note` is small print.
    """
    backbones = study.tuned_backbones
    labels = ("preference\n(> 0: by meaning)", "preference\nminus pretrained", "similarity of\ntwo words")
    fig = Figure(figsize=(7.2, 6.4), layout="constrained")
    grid = fig.add_gridspec(len(labels) + 1, len(backbones), height_ratios=(1, 1, 0.06, 1))
    axes = np.array([[fig.add_subplot(grid[row, k]) for k in range(len(backbones))] for row in (0, 1, 3)])
    for column, backbone in zip(axes.T, backbones, strict=True):
        column[0].set_title(backbone)
        _column(column, table[table["backbone"] == backbone], shown_conditions(study), changes)
    for row, label in zip(axes, labels, strict=True):
        style.share_y_where_it_fits(row)
        row[0].set_ylabel(label)
    style.letter(axes[:, 0])
    between = fig.add_subplot(grid[2, :])
    between.axis("off")
    lines = [Line2D([], [], ls=dashes, color="black", lw=1.2, label=name) for name, dashes in PAIR_STYLES.items()]
    between.legend(handles=lines, ncols=len(lines), loc="center", handlelength=2.8, borderpad=0)
    return style.legend_and_small_print(fig, shown_conditions(study), f"{style.LINES}. {READING}. {note}", lines=True)


def _column(axes: np.ndarray, table: pd.DataFrame, conditions: Sequence[str], changes: pd.DataFrame) -> None:
    """Draw one backbone from top to bottom."""
    once = table[table["pair_type"] == PAIR_TYPES[0]]
    layer_curves(axes[0], once, "preference", conditions, interval=("low", "high"))
    layer_curves(axes[1], with_zero(once, changes), "difference", conditions, interval=("low", "high"))
    for condition in [c for c in SIMILARITY_CONDITIONS if c in conditions]:
        similarity_curves(axes[2], table[table["condition"] == condition], condition)
    for ax in axes:
        ax.set(xticks=sorted(once["layer"].unique()), xlabel="layer" if ax is axes[2] else "")
    for ax in axes[1:]:
        ax.axhline(0, color="black", lw=0.5, zorder=1)


def with_zero(table: pd.DataFrame, changes: pd.DataFrame) -> pd.DataFrame:
    """Part of `compare`'s table on the backbones of a table, and pretrained models, whose change is zero."""
    pretrained = table[table["condition"] == "pretrained"].assign(difference=0.0, low=0.0, high=0.0)
    of_backbone = changes[changes["backbone"].isin(table["backbone"])]
    return pd.concat([pretrained[of_backbone.columns], of_backbone], ignore_index=True)


def similarity_curves(ax: Axes, table: pd.DataFrame, condition: str) -> Axes:
    """Draw the similarity of each type of pairs over layers in the condition's colour and with its marker.

    Lines are means over the condition's models; the means of `similarity_low` and `similarity_high`, where the table
    has them, are the edges of a band.
    """
    look = looks_of([condition])[condition]
    ink = dict(color=look.colour, marker=look.marker, ms=3.2, mec="white", mew=0.3)
    for pair_type, dashes in PAIR_STYLES.items():
        mean = table[table["pair_type"] == pair_type].groupby("layer").mean(numeric_only=True)
        ax.plot(mean.index, mean["similarity"], dashes, lw=1.2, zorder=3, **ink)
        if "similarity_low" in mean:
            ends = mean["similarity_low"], mean["similarity_high"]
            ax.fill_between(mean.index, *ends, color=look.colour, alpha=0.25, lw=0)
    return ax
