"""Bars of two regions above a flat map, on one page."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from braintuning.figures.style import REGIONS, ROI_TITLES, condition_bars, condition_legend, legend_rows
from braintuning.figures.tables import baseline_label

MOST_BARS_BESIDE = 8
LEGEND_ROW = 0.18
"""Inches of each row of the legend beyond those that there is room for."""


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
) -> None:
    """Make a figure taller and draw bars of `REGIONS` there: beside each other where there are few, else in two rows.

    `table` has the columns of `style.condition_bars`, and roi and `nuisance_features`; `label` is that of the vertical
    axis, and `stars` has roi, backbone and condition of the bars with a star.
    """
    beside = len(backbones) * len(conditions) <= MOST_BARS_BESIDE
    line, of_bars = baseline_label(table), 2.3 if beside else 4.2
    more_rows = legend_rows(len(conditions) + bool(line)) - (1 if beside else 2)
    inches = of_bars + LEGEND_ROW * max(more_rows, 0)
    bottom = room_above(fig, inches)
    for place, roi in enumerate(REGIONS):
        left, low = (0.08 + 0.49 * place, 0.42) if beside else (0.08, of_bars - 1.95 - 1.85 * place)
        width, height = (0.41, 1.4) if beside else (0.9, 1.35)
        unit = (1 - bottom) / inches
        ax = fig.add_axes((left, bottom + low * unit, width, height * unit))
        earned = set(stars.loc[stars["roi"] == roi, ["backbone", "condition"]].itertuples(index=False, name=None))
        ylabel = "" if beside and place else label
        condition_bars(ax, table[table["roi"] == roi], value, backbones, conditions, ylabel, earned, baseline)
        ax.set_title(ROI_TITLES[roi])
    condition_legend(fig, conditions, baseline=line, loc="upper center", bbox_to_anchor=(0.5, 1.0))
