"""One view of the cortex on one Axes: the flat map or an inflated hemisphere, with named regions."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.font_manager import FontProperties
from matplotlib.path import Path as Curve
from matplotlib.patheffects import Stroke
from matplotlib.textpath import TextPath

from braintuning.cortex.colours import vertex_colours
from braintuning.cortex.flat_names import Name, place_names
from braintuning.cortex.raster import FLAT, Raster, View, facing_light, view_image
from braintuning.cortex.regions import GROUPS, Outline, group_outline, members, outlines
from braintuning.cortex.surface import Surface
from braintuning.errors import InputError

DEFAULT_GROUPS = ("primary_auditory", "early_auditory", "late_language")
GROUP_COLOURS = {
    "primary_auditory": "#22d3ff",
    "early_auditory": "#ffffff",
    "late_language": "#7cfc00",
    "angular_gyrus": "#7cfc00",
    "lateral_temporal": "#ffb3e6",
    "inferior_middle_frontal": "#ffe14d",
}
CASING = "#111111"
NAME_POINTS = 4.9
LINE_POINTS = 0.65
PAGE_INCHES = 7.2


def flatmap(
    ax: Axes,
    surface: Surface,
    values: np.ndarray,
    *,
    cmap: str,
    vmin: float,
    vmax: float,
    alpha: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    groups: Sequence[str] = DEFAULT_GROUPS,
    show_names: bool = True,
    unnamed: Sequence[str] = (),
    whole_groups: bool = False,
    frames: Sequence[tuple[float, float, float, float]] = (),
) -> Axes:
    """Draw values on the flattened cortex, with the outlines and names of groups of regions.

    Parameters
    ----------
    ax : Axes
        Where to draw. Names are laid out for the size it has now.
    surface, values, cmap, vmin, vmax, alpha
        As in `colours.vertex_colours`.
    labels : ndarray of str, (n_vertices,), optional
        Region at each vertex; without it no outlines are drawn.
    groups : sequence of str
        Keys of `rois.GROUPS`; a region takes the colour of the first that has it.
    show_names : bool
        Whether to write the names of the regions.
    unnamed : sequence of str
        Regions whose names are left out, as an inset shows them.
    whole_groups : bool
        Draw one outline around each group instead of its regions, without names: for small maps.
    frames : sequence of tuple of float
        Left, right, bottom and top of frames, in the map's mm, that names keep off.

    Returns
    -------
    Axes
        The same.

    Raises
    ------
    InputError
        As `vertex_colours`, and if the surface has no flat mesh or a group is unknown or has no vertex.
    """
    image = view_image(surface, FLAT)
    show_image(ax, image, vertex_colours(surface, values, cmap=cmap, vmin=vmin, vmax=vmax, alpha=alpha))
    if labels is not None and whole_groups:
        draw_groups(ax, surface, labels, groups, FLAT)
    elif labels is not None:
        colours = region_colours(labels, groups)
        drawn = outlines(surface, labels, tuple(colours))
        draw_outlines(ax, drawn, colours)
        if show_names:
            write_names(ax, image, drawn, unnamed, tuple(frames))
    return ax


def inflated(
    ax: Axes,
    surface: Surface,
    values: np.ndarray,
    hemisphere: str,
    view: str,
    *,
    cmap: str,
    vmin: float,
    vmax: float,
    alpha: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    groups: Sequence[str] = DEFAULT_GROUPS,
) -> Axes:
    """Draw values on one inflated hemisphere, lit from the front, with the outlines of groups of regions.

    Parameters
    ----------
    ax : Axes
        Ordinary two-dimensional axes.
    surface, values, cmap, vmin, vmax, alpha
        As in `colours.vertex_colours`; values of both hemispheres. No flat mesh is needed.
    hemisphere, view : str
        'left' or 'right'; 'lateral' or 'medial'.
    labels, groups
        As in `flatmap`; each group has one outline here.

    Returns
    -------
    Axes
        The same.

    Raises
    ------
    InputError
        As `flatmap`, and if the hemisphere or view is unknown or `ax` is three-dimensional.
    """
    if ax.name == "3d":
        raise InputError("axes for an inflated view: found projection '3d', expected axes without a projection")
    seen_from: View = (hemisphere, view)
    image = view_image(surface, seen_from)
    light = facing_light(surface, seen_from)
    show_image(ax, image, vertex_colours(surface, values, cmap=cmap, vmin=vmin, vmax=vmax, alpha=alpha, light=light))
    if labels is not None:
        draw_groups(ax, surface, labels, groups, seen_from)
    return ax


def show_image(ax: Axes, image: Raster, colours: np.ndarray) -> None:
    """Show vertices of the given colours on axes without ticks or frame, as large as they allow."""
    half = (image.x[1] - image.x[0]) / 2
    extent = (image.x[0] - half, image.x[-1] + half, image.y[0] - half, image.y[-1] + half)
    shown = ax.imshow(image.paint(colours), origin="lower", extent=extent, aspect="equal", interpolation="bilinear")
    shown.set_clip_path(Curve.make_compound_path(*(Curve(line, closed=True) for line in image.sheet)), ax.transData)
    ax.set_xlim(extent[:2])
    ax.set_ylim(extent[2:])
    ax.axis("off")


def region_colours(labels: np.ndarray, groups: Sequence[str]) -> dict[str, str]:
    """Colour of each region of the groups; a region that two of them have takes the colour of the first.

    Raises
    ------
    InputError
        If a group is unknown or none of its regions occurs in `labels`.
    """
    colours: dict[str, str] = {}
    for group in groups:
        members(np.asarray(labels), group)
        for region in GROUPS[group]:
            colours.setdefault(region, GROUP_COLOURS[group])
    return colours


def _share_of_page(ax: Axes) -> float:
    return ax.get_position(original=True).width * ax.get_figure(root=True).get_figwidth() / PAGE_INCHES


def draw_groups(ax: Axes, surface: Surface, labels: np.ndarray, groups: Sequence[str], view: View) -> None:
    """Draw one outline around each group of regions on a view, the first group on top."""
    for group in reversed(groups):
        draw_outlines(ax, group_outline(surface, labels, group, view), GROUP_COLOURS)


def draw_outlines(ax: Axes, drawn: Sequence[Outline], colours: dict[str, str], scale: float | None = None) -> None:
    """Draw outlines in the colour of their region, the first on top, each within a dark casing.

    `scale` times `LINE_POINTS` is their width; without it lines are thinner where axes are narrower.
    """
    lines = [line for outline in reversed(drawn) for line in outline.lines]
    line_colours = [colours[outline.region] for outline in reversed(drawn) for _ in outline.lines]
    if scale is None:
        scale = float(np.clip(_share_of_page(ax) ** 0.35, 0.6, 1.1))
    for ink, width, order in ((CASING, 2 * LINE_POINTS, 4), (line_colours, LINE_POINTS, 5)):
        curves = LineCollection(lines, colors=ink, linewidths=width * scale, zorder=order, joinstyle="round")
        ax.add_collection(curves, autolim=False)


def write_names(
    ax: Axes,
    image: Raster,
    drawn: tuple[Outline, ...],
    unnamed: Sequence[str] = (),
    frames: tuple[tuple[float, float, float, float], ...] = (),
) -> None:
    """Write the names of outlined regions but those in `unnamed`, where none overlaps another, a line or a frame."""
    named, others = (tuple(o for o in drawn if (o.region in unnamed) is without) for without in (False, True))
    if not named:
        return
    ax.apply_aspect()
    points_per_mm = ax.transData.get_matrix()[0, 0] * 72 / ax.get_figure(root=True).dpi
    size = NAME_POINTS * float(np.clip(_share_of_page(ax), 0.84, 1.2))
    widths = tuple(_text_width(outline.region, size) for outline in named)
    for name in place_names(named, image, widths, 1.15 * size, round(points_per_mm, 4), others, frames):
        _write_name(ax, name, size)


@lru_cache(maxsize=1024)
def _text_width(text: str, size: float) -> float:
    """Width in points of a bold text of `size` points."""
    return float(TextPath((0, 0), text, size=size, prop=FontProperties(weight="bold")).get_extents().width)


def _write_name(ax: Axes, name: Name, size: float) -> None:
    """Write one name; its casing is a text of its own beneath it, so that the PDF keeps the name as text."""
    if name.anchor:
        line = np.array([name.anchor, name.leader_end]).T
        ax.plot(*line, color="white", lw=1.1, zorder=6, solid_capstyle="round")
        ax.plot(*line, color=CASING, lw=0.45, zorder=6.1, solid_capstyle="butt")
        ax.plot(*name.anchor, "o", ms=1.5, mfc=CASING, mec="white", mew=0.35, zorder=6.2)
    ink, casing = (CASING, "white") if name.anchor else ("white", CASING)
    style = dict(fontsize=size, weight="bold", ha="center", va="center", clip_on=False)
    shadow = ax.text(name.x, name.y, name.text, color=casing, zorder=8, **style)
    shadow.set_path_effects([Stroke(linewidth=0.9, foreground=casing)])
    shadow.set_gid("casing")
    ax.text(name.x, name.y, name.text, color=ink, zorder=9, **style).set_gid("name")
