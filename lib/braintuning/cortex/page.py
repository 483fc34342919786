"""Page layout around maps: wrapped text, colour bars, legends, and the place of each part."""

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from braintuning.cortex.colours import CASING, GROUP_COLOURS, MIDDLE_FOLD, Reliability
from braintuning.cortex.raster import CAMERA_X

TITLE_POINTS = 8.0
LABEL_POINTS = 6.5
NOTE_POINTS = 6.2
"""The smallest print: 6 points of a figure of 7.2 inches that is printed 7 inches wide."""
TICK_INCHES = 0.33
INSET_SHARE, SMALLEST_INSET = 0.2, 0.95
VIEW_HEIGHT = 0.185
BAR, SQUARE, TICKS, SIDE_LABEL, LEGEND_WIDTH = 0.07, 0.4, 0.17, 0.3, 1.25
TITLE_LINE, LABEL_LINE, LEGEND_LINE, NOTE_LINE = 0.13, 0.115, 0.135, 0.104
EDGE, AIR = 0.03, 0.09
COLUMNS_FOR = {1: 1, 2: 2, 4: 2}
NARROWEST_MAP, GAP = 1.6, 0.1

Boxes = dict[str | int | tuple[str, str], tuple[float, float, float, float]]


def wrap(text: str | None, inches: float, points: float) -> str:
    """Text broken into lines of about equal length that fit `inches` at a size of `points`; '' for None."""
    text, widest = text or "", max(8, int(inches * 72 / (0.56 * points)))
    lines = n_lines(fill(text, widest))
    narrowest = min(widest, len(text) // max(lines, 1))
    equal = (width for width in range(max(narrowest, 1), widest) if n_lines(fill(text, width)) <= lines)
    return fill(text, next(equal, widest))


def n_lines(text: str) -> int:
    """Lines of a text, 0 for an empty one."""
    return len(text.splitlines())


def colour_bar(
    ax: Axes,
    values: np.ndarray,
    label: str,
    scale: ScalarMappable,
    alpha: np.ndarray | None = None,
    threshold: float | None = None,
) -> None:
    """Fill axes with a horizontal colour bar, pointed where values go beyond it, grey where the threshold hides them.

    `values` and `alpha` (n_vertices,) are what is shown; a value of opacity 0 makes no point.
    """
    values, (vmin, vmax) = values if alpha is None else np.where(alpha > 0, values, np.nan), scale.get_clim()
    extend = ("neither", "min", "max", "both")[(values < vmin).any() + 2 * (values > vmax).any()]
    bar = ax.get_figure().colorbar(scale, cax=ax, orientation="horizontal", extend=extend, extendfrac=0.04)
    bar.outline.set_linewidth(0.5)
    _label_axis(bar.ax, label)
    if threshold:
        bar.ax.axvspan(max(vmin, -threshold), min(vmax, threshold), color=str(MIDDLE_FOLD), lw=0)


def colour_square(ax: Axes, label: str, reliability: Reliability, scale: ScalarMappable) -> None:
    """Fill axes with a two-dimensional colour legend: values from left to right, reliability from bottom to top."""
    values, alpha = np.linspace(*scale.get_clim(), 128), np.linspace(0, 1, 32)[:, None, None]
    top = scale.to_rgba(values)[None, :, :3]
    square = MIDDLE_FOLD * (1 - alpha) + top * alpha
    extent = (*scale.get_clim(), reliability.low, reliability.high)
    ax.imshow(square, origin="lower", extent=extent, aspect="auto", interpolation="nearest")
    _label_axis(ax, label)
    ax.set_yticks([reliability.low, reliability.high], [f"{reliability.low:g}", f"≥ {reliability.high:g}"])
    for tick, alignment in zip(ax.get_yticklabels(), ("bottom", "top"), strict=True):
        tick.set_verticalalignment(alignment)
    ax.set_ylabel(reliability.label, fontsize=NOTE_POINTS, labelpad=1.5)
    ax.spines[:].set_linewidth(0.5)


def _label_axis(ax: Axes, label: str) -> None:
    inches = ax.get_position().width * ax.get_figure().get_figwidth()
    ax.xaxis.set_major_locator(MaxNLocator(int(np.clip(inches / TICK_INCHES, 2, 5)), steps=[1, 2, 2.5, 4, 5, 10]))
    ax.tick_params(labelsize=NOTE_POINTS, width=0.5, length=2, pad=1.5)
    ax.set_xlabel(label, fontsize=LABEL_POINTS, labelpad=1.5)


def group_legend(ax: Axes, groups: Sequence[str] | Mapping[str, str]) -> None:
    """Fill axes with a line of each group's colour beside its name, or beside what `groups` calls it."""
    ax.axis("off")
    casing = [withStroke(linewidth=2.4, foreground=CASING)]
    handles = [Line2D([], [], color=GROUP_COLOURS[group], lw=1.2, path_effects=casing) for group in groups]
    names = [name.replace("_", " ") for name in (groups.values() if isinstance(groups, Mapping) else groups)]
    style = dict(loc="center left", frameon=False, labelspacing=0.3, handlelength=1.8, borderpad=0)
    if groups:
        ax.legend(handles, names, fontsize=LABEL_POINTS, **style)


def brain_page(
    width: float,
    aspect: float,
    *,
    title: str | None,
    label: str,
    note: str | None,
    n_groups: int,
    two_dimensional: bool,
    insets: bool,
) -> tuple[Figure, dict[str | tuple[str, str], Axes], str]:
    """A page for one brain, `width` inches wide: the figure, its empty axes, and the label broken into lines that fit.

    Below each other stand the title, the axes 'flat' (of height over width `aspect`), a row of views such as
    ('left', 'medial'), the colour 'key' (a square if `two_dimensional`), the 'legend' of `n_groups` lines, and the
    note. With `insets` the key stands above the legend between the axes 'left' and 'right', else beside it.
    """
    inset = max(INSET_SHARE * width, SMALLEST_INSET) if insets else 0.0
    column = width - 2 * (inset + EDGE + AIR) if insets else 0.46 * width
    label, side = wrap(label, column, LABEL_POINTS), SIDE_LABEL if two_dimensional else 0
    key = (SQUARE if two_dimensional else BAR), TICKS + LABEL_LINE * max(1, n_lines(label))
    legend = LEGEND_LINE * n_groups
    strip = max(inset, sum(key) + legend + AIR) if insets else max(sum(key), legend)
    note_lines = n_lines(wrap(note, 0.96 * width, NOTE_POINTS))
    floor = EDGE + (NOTE_LINE * note_lines + 0.02 + EDGE if note else 0)
    views_bottom = floor + strip + AIR
    map_bottom = views_bottom + VIEW_HEIGHT * width
    boxes: Boxes = {"flat": (0.0, map_bottom, width, width * aspect)}
    for k, view in enumerate(CAMERA_X):
        boxes[view] = (k * width / 4, views_bottom, width / 4, VIEW_HEIGHT * width)
    key_width = min(0.8 * column - side, 2.2)
    key_left = (column - key_width + side) / 2
    if insets:
        left, slack = (width - column) / 2, (strip - sum(key) - legend - AIR) / 2
        boxes["key"] = (left + key_left, floor + strip - slack - key[0], key_width, key[0])
        boxes["legend"] = (max(left, (width - LEGEND_WIDTH) / 2), floor + slack, min(column, LEGEND_WIDTH), legend)
        boxes["left"] = (EDGE, floor + strip - inset, inset, inset)
        boxes["right"] = (width - EDGE - inset, floor + strip - inset, inset, inset)
    else:
        boxes["key"] = (0.05 * width + key_left, floor + strip - key[0], key_width, key[0])
        boxes["legend"] = (0.58 * width, floor, 0.4 * width, strip)
    return *_figure(width, map_bottom + width * aspect, boxes, title, note), label


def participants_page(
    width: float, aspect: float, captions: Sequence[str], *, label: str, note: str | None
) -> tuple[Figure, dict[str | int, Axes], str]:
    """A page for a grid of maps, each above its caption, with a colour bar and a legend below; as `brain_page`.

    The axes are 0, 1, ... of the maps, of height over width `aspect` or less, 'key' and 'legend'.
    """
    n_columns = max(1, min(COLUMNS_FOR.get(len(captions), 3), int(width / NARROWEST_MAP)))
    column = (width - GAP * (n_columns + 1)) / n_columns
    label, captions = wrap(label, 0.45 * width, LABEL_POINTS), [wrap(one, column, NOTE_POINTS) for one in captions]
    row = column * aspect + NOTE_LINE * max(map(n_lines, captions)) + 0.08
    n_rows = -(-len(captions) // n_columns)
    floor = 0.06 + NOTE_LINE * n_lines(wrap(note, 0.96 * width, NOTE_POINTS))
    strip = max(0.33 + 0.11 * n_lines(label), 0.42)
    boxes: Boxes = {}
    for k in range(len(captions)):
        left, above = GAP + (k % n_columns) * (column + GAP), n_rows - k // n_columns
        boxes[k] = (left, floor + strip + above * row - column * aspect, column, column * aspect)
    boxes["key"] = (0.1 * width, floor + strip - 0.13, 0.36 * width, 0.07)
    boxes["legend"] = (0.58 * width, floor, 0.4 * width, strip)
    fig, axes = _figure(width, floor + strip + n_rows * row + EDGE, boxes, None, note)
    for k, caption in enumerate(captions):
        left, bottom, wide, _ = boxes[k]
        x, y = (left + wide / 2) / width, (bottom - 0.02) / fig.get_figheight()
        fig.text(x, y, caption, ha="center", va="top", fontsize=NOTE_POINTS)
    return fig, axes, label


def _figure(
    width: float, height: float, boxes: Boxes, title: str | None, note: str | None
) -> tuple[Figure, dict[str | int | tuple[str, str], Axes]]:
    """A figure of `height` inches and a title above it, its note at the bottom, and its empty axes."""
    title, note = wrap(title, 0.96 * width, TITLE_POINTS), wrap(note, 0.96 * width, NOTE_POINTS)
    height += TITLE_LINE * n_lines(title) + 0.07 if title else 0
    fig = Figure(figsize=(width, height))
    axes = {
        name: fig.add_axes((left / width, bottom / height, wide / width, high / height))
        for name, (left, bottom, wide, high) in boxes.items()
    }
    style = dict(x=0.5, ha="center")
    if title:
        fig.text(y=1 - 0.04 / height, s=title, va="top", fontsize=TITLE_POINTS, weight="bold", **style)
    if note:
        fig.text(y=EDGE / height, s=note, va="bottom", fontsize=NOTE_POINTS, color="0.35", **style)
    return fig, axes
