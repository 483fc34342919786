"""Bars of two regions above a flat map, on one page."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from braintuning.figures import style
from braintuning.figures.style import REGIONS
from braintuning.figures.tables import baseline_label

MOST_BARS_BESIDE = 8
LEGEND_ROW, BELOW = 0.18, 0.8
"""Inches of a row of the legend that there is no room for yet, and of what differs from pretrained."""


def room_above(fig: Figure, inches: float) -> float:
    """Make a figure taller without moving or scaling what is on it; where the free room begins, as a share of it."""
    width, height = fig.get_size_inches()
    scale = height / (height + inches)
    for ax in fig.axes:
        box = ax.get_position()
        ax.set_position((box.x0, box.y0 * scale, box.width, box.height * scale))
    for text in fig.texts:
        x, y = text.get_position()
        text.set_position((x, y * scale))
    fig.set_size_inches(width, height + inches)
    return scale


def bars_above(
    fig: Figure,
    table: pd.DataFrame,
    value: str,
    label: str,
    backbones: Sequence[str],
    conditions: Sequence[str],
    stars: pd.DataFrame,
    baseline: str,
    changes: pd.DataFrame,
) -> None:
    """Make a figure taller and draw bars of `REGIONS` there: beside each other where there are few, else in two rows.

    `table` has the columns of `style.condition_bars`, and roi and `nuisance_features`; `label` is that of the vertical
    axis, and `stars` has roi, backbone and condition of the bars with a star. `changes` has these, difference, low and
    high of what differs from pretrained, one row or more a bar, which are drawn below.
    """
    beside = len(backbones) * len(conditions) <= MOST_BARS_BESIDE
    below, lettered = BELOW if len(changes) else 0.0, fig.axes[:1]
    line, of_bars = baseline_label(table), 2.3 + below if beside else 4.2 + 2 * below
    more_rows = style.legend_rows(len(conditions) + bool(line)) - (1 if beside else 2)
    inches = of_bars + LEGEND_ROW * max(more_rows, 0)
    bottom = room_above(fig, inches)
    for place, roi in enumerate(REGIONS):
        left, low = (0.08 + 0.49 * place, 0.42 + below) if beside else (0.08, of_bars - 1.95 - (1.85 + below) * place)
        width, height = (0.41, 1.4) if beside else (0.9, 1.35)
        unit = (1 - bottom) / inches
        ax = fig.add_axes((left, bottom + low * unit, width, height * unit))
        earned = set(stars.loc[stars["roi"] == roi, ["backbone", "condition"]].itertuples(index=False, name=None))
        ylabel = "" if beside and place else label
        style.condition_bars(ax, table[table["roi"] == roi], value, backbones, conditions, ylabel, earned, baseline)
        ax.set_title(style.ROI_TITLES[roi])
        lettered.insert(place, ax)
        if below:
            under = fig.add_axes((left, bottom + (low - below) * unit, width, (below - 0.15) * unit), sharex=ax)
            draw_changes(under, changes[changes["roi"] == roi], table, backbones, conditions)
            under.set_ylabel("" if beside and place else "change")
            ax.tick_params(labelbottom=False)
    style.letter(lettered)
    style.condition_legend(fig, conditions, baseline=line, loc="upper center", bbox_to_anchor=(0.5, 1.0))


def draw_changes(
    ax: Axes, changes: pd.DataFrame, table: pd.DataFrame, backbones: Sequence[str], conditions: Sequence[str]
) -> None:
    """Draw differences and their intervals below where `condition_bars` has a table's bars, several side by side."""
    places, looks = style.bar_places(table, backbones, conditions), style.looks_of(conditions)
    for model, rows in changes.groupby(["backbone", "condition"]):
        if model in places:
            at = places[model] + 0.2 * (np.arange(len(rows)) - (len(rows) - 1) / 2)
            ax.vlines(at, rows["low"], rows["high"], color="black", lw=0.8)
            ax.plot(at, rows["difference"], "o", ms=3.4, mfc=looks[model[1]].colour, mec="black", mew=0.5)
    ax.axhline(0, color="black", lw=0.5, zorder=0)
    ax.tick_params(axis="x", length=0)
    ax.margins(y=0.15)
    ax.yaxis.set_major_locator(MaxNLocator(3) if changes["difference"].notna().any() else NullLocator())
