"""One flat map for each of several participants, side by side on one scale."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from braintuning.cortex.colours import SMOOTHED, limits, per_vertex, smoothed
from braintuning.cortex.flatmap import DEFAULT_GROUPS, flatmap
from braintuning.cortex.page import (
    LABEL_POINTS,
    NOTE_LINE,
    NOTE_POINTS,
    TITLE_POINTS,
    colour_bar,
    group_legend,
    n_lines,
    wrap,
)
from braintuning.cortex.raster import flat_image
from braintuning.cortex.surface import Surface
from braintuning.errors import InputError

CAPTION_POINTS = 5.6
COLUMNS_FOR = {1: 1, 2: 2, 3: 3, 4: 2}
MOST_PANELS = 9
NARROWEST_INCHES = 1.6
GAP_INCHES = 0.1


@dataclass(frozen=True, eq=False)
class Panel:
    """One participant's map.

    Attributes
    ----------
    surface : Surface
        The participant's own cortex or a group surface; it needs a flat mesh.
    values : ndarray, (n_vertices,)
        NaN where there is nothing to show.
    labels : ndarray of str, (n_vertices,), or None
        Region at each vertex; None draws no outlines.
    caption : str
        Written under the map.
    """

    surface: Surface
    values: np.ndarray
    labels: np.ndarray | None
    caption: str


def participants_figure(
    panels: Sequence[Panel],
    *,
    label: str,
    title: str | None = None,
    cmap: str = "inferno",
    vmin: float | None = None,
    vmax: float | None = None,
    threshold: float | None = None,
    note: str | None = None,
    width_inches: float = 7.2,
    groups: Sequence[str] = DEFAULT_GROUPS,
    smooth_mm: float = 0.0,
) -> Figure:
    """Draw flat maps of 1 to 9 participants in a grid, with one colour bar and one legend below.

    Parameters
    ----------
    panels : sequence of Panel
        Filled row by row.
    label : str
        What the values are, with their unit; written at the colour bar.
    title, note : str, optional
        Written above and, small, below the figure.
    cmap : str
        Colour map.
    vmin, vmax : float, optional
        Values at the ends of the colour map; see `colours.limits` for what they are without.
    threshold : float, optional
        Values whose size is smaller are not shown.
    width_inches : float
        Width of the figure; where it is narrow the grid has fewer columns.
    groups : sequence of str
        Groups of regions whose outlines are drawn.
    smooth_mm : float
        Standard deviation by which values are smoothed on the surface before the threshold; the small print says so.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        If there are no panels or more than 9, as `brainplot.flatmap`, and if `vmin` is not below `vmax`.
    """
    if not 1 <= len(panels) <= MOST_PANELS:
        raise InputError(f"panels: found {len(panels)}, expected 1 to {MOST_PANELS} participants")
    values = [per_vertex(panel.surface, panel.values, f"values of {panel.caption!r}") for panel in panels]
    if smooth_mm:
        values = [smoothed(panel.surface, one, smooth_mm) for panel, one in zip(panels, values, strict=True)]
        note = f"{note}. {SMOOTHED.format(smooth_mm)}" if note else SMOOTHED.format(smooth_mm)
    vmin, vmax = limits(panels[0].surface, np.concatenate(values), vmin, vmax, symmetric=False)
    style = dict(cmap=cmap, vmin=vmin, vmax=vmax)
    fig, boxes, strip = _grid(panels, width_inches, title or "", label, note or "")
    visible = [np.abs(one) >= (threshold or 0) for one in values]
    for panel, box, one, alpha in zip(panels, boxes, values, visible, strict=True):
        some = np.where(np.isnan(one), vmin, one)
        regions = dict(labels=panel.labels, groups=groups, whole_groups=True)
        flatmap(fig.add_axes(box), panel.surface, some, alpha=alpha, **style, **regions)
    bar, legend = (fig.add_axes(box) for box in strip)
    seen = np.where(np.concatenate(visible), np.concatenate(values), np.nan)
    colour_bar(bar, seen, wrap(label, 0.45 * width_inches, LABEL_POINTS), threshold=threshold, **style)
    legend.axis("off")
    if any(panel.labels is not None for panel in panels):
        group_legend(legend, groups)
    return fig


Box = tuple[float, float, float, float]


def _grid(
    panels: Sequence[Panel], width: float, title: str, label: str, note: str
) -> tuple[Figure, list[Box], tuple[Box, Box]]:
    """A figure with its title, captions and note, a box for each map, and those of the colour bar and the legend."""
    n_columns = max(1, min(COLUMNS_FOR.get(len(panels), 3), int(width / NARROWEST_INCHES)))
    column = (width - GAP_INCHES * (n_columns + 1)) / n_columns
    title, label, note = (
        wrap(text, share * width, size)
        for text, share, size in ((title, 0.96, TITLE_POINTS), (label, 0.45, LABEL_POINTS), (note, 0.96, NOTE_POINTS))
    )
    captions = [wrap(panel.caption, column, CAPTION_POINTS) for panel in panels]
    map_height = max(column * np.ptp(image.y) / np.ptp(image.x) for image in (flat_image(p.surface) for p in panels))
    row = map_height + 0.09 * max(map(n_lines, captions)) + 0.08
    n_rows = -(-len(panels) // n_columns)
    note_height = 0.06 + NOTE_LINE * n_lines(note)
    strip_height = max(0.33 + 0.11 * n_lines(label), 0.42)
    title_height = 0.13 * n_lines(title) + 0.07 if title else 0.03
    total = note_height + strip_height + n_rows * row + title_height

    def box(left: float, bottom: float, wide: float, high: float) -> Box:
        return left / width, bottom / total, wide / width, high / total

    fig = Figure(figsize=(width, total))
    boxes = []
    for k, caption in enumerate(captions):
        left = GAP_INCHES + (k % n_columns) * (column + GAP_INCHES)
        bottom = note_height + strip_height + (n_rows - 1 - k // n_columns) * row
        boxes.append(box(left, bottom + row - map_height, column, map_height))
        middle = (left + column / 2) / width, (bottom + row - map_height - 0.02) / total
        fig.text(*middle, caption, ha="center", va="top", fontsize=CAPTION_POINTS)
    fig.text(0.5, 1 - 0.04 / total, title, ha="center", va="top", fontsize=TITLE_POINTS, weight="bold")
    fig.text(0.5, 0.03 / total, note, ha="center", va="bottom", fontsize=NOTE_POINTS, color="0.35")
    strip_top = note_height + strip_height
    bar = box(0.1 * width, strip_top - 0.13, 0.36 * width, 0.07)
    return fig, boxes, (bar, box(0.58 * width, note_height, 0.4 * width, strip_height))
