"""Flat maps, their magnified auditory regions and inflated views on one Axes, with outlined and named regions."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colorbar import make_axes
from matplotlib.colors import Normalize
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Rectangle
from matplotlib.path import Path as Curve
from matplotlib.patheffects import Stroke
from matplotlib.textpath import TextPath

from braintuning.cortex.colours import CASING, GROUP_COLOURS, SEQUENTIAL, limits, vertex_colours
from braintuning.cortex.outlines import Box, Name, Outline, outlines, place_names
from braintuning.cortex.page import NOTE_POINTS, colour_bar
from braintuning.cortex.raster import FLAT, Raster, View, facing_light, view_image
from braintuning.cortex.regions import DEFAULT_GROUPS, GROUPS, members
from braintuning.cortex.subject import Cortex, fs_lr_cortex_of_vertices
from braintuning.cortex.surface import HEMISPHERES, Surface
from braintuning.errors import InputError

INSET_REGIONS = GROUPS["early_auditory"]
INSET_MARGIN = 7.0
NAME_POINTS = NOTE_POINTS
LINE_POINTS, PARCEL_POINTS = 0.65, 0.3
PAGE_INCHES = 7.2


def plot_flatmap(
    values: np.ndarray,
    cortex: str | Cortex | Surface = "fs_LR",
    *,
    labels: np.ndarray | None = None,
    groups: Sequence[str] = DEFAULT_GROUPS,
    names: bool = True,
    cmap: str = SEQUENTIAL,
    vmin: float | None = None,
    vmax: float | None = None,
    alpha: np.ndarray | None = None,
    colour_label: str | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw values on the flattened cortex, with the outlines and names of groups of regions.

    Parameters
    ----------
    values : ndarray, (n_vertices,) or (n_voxels,)
        One per vertex of the surface or voxel of a `Cortex`, left hemisphere first: for 'fs_LR' the 64,984 vertices of
        fs_LR-32k or the 59,412 outside the medial wall. Where a value is NaN, the cortical folds show in grey.
    cortex : 'fs_LR', Cortex or Surface
        The HCP's group surface with the HCP-MMP1.0 regions, a participant's cortex such as `dataset.cortex("UTS03")`,
        or any surface with a flat mesh.
    labels : ndarray of str, (n_vertices,), optional
        Region at each vertex; by default those of the cortex. A bare `Surface` has none, and no outlines.
    groups : sequence of str
        Keys of `regions.GROUPS` to outline; a region in two of them has the colour of the first.
    names : bool
        Whether to write the names of the regions.
    cmap, vmin, vmax
        Colour map and the values at its ends, by default as `colours.limits` chooses them.
    alpha : ndarray, optional
        Opacity of each value over the folds, 0 to 1.
    colour_label : str, optional
        Label of a colour bar below the map; without one there is no bar.
    ax : Axes, optional
        Where to draw, without a projection; by default a new pyplot figure. Names are fitted to its current size.

    Raises
    ------
    InputError
        If `values`, `alpha` or `labels` has another length than the cortex, all values are NaN, the surface has no
        flat mesh, or a group is unknown or has no vertex.

    Examples
    --------
    >>> bt.plot_flatmap(scores, colour_label="r").figure.savefig("r.pdf")  # an array over the vertices of fs_LR
    >>> bt.plot_flatmap(ceiling, dataset.cortex("UTS03"), vmin=0, vmax=1)  # over a participant's voxels
    """
    values = np.asarray(values, np.float64)
    if isinstance(cortex, str):
        if cortex != "fs_LR":
            raise InputError(f"cortex {cortex!r}: expected 'fs_LR', a Cortex or a Surface")
        cortex = fs_lr_cortex_of_vertices()
    surface = cortex
    if isinstance(cortex, Cortex):
        surface, labels = cortex.surface, cortex.vertex_labels if labels is None else labels
        values, alpha = (
            cortex.to_vertices(one) if one is not None and np.shape(one) == (cortex.n_voxels,) else one
            for one in (values, alpha)
        )
    image = view_image(surface)
    scale = ScalarMappable(Normalize(*limits(surface, values, vmin, vmax, symmetric=False)), cmap)
    if ax is None:
        import matplotlib.pyplot as plt

        height = PAGE_INCHES * image.aspect * (1 if colour_label is None else 1.2)
        ax = plt.figure(figsize=(PAGE_INCHES, height)).add_axes((0, 0, 1, 1))
    if colour_label is not None:
        below, _ = make_axes(ax, location="bottom", fraction=0.12, shrink=0.4, aspect=30, pad=0.01)
        colour_bar(below, values, colour_label, scale, alpha)
    show_image(ax, image, vertex_colours(surface, values, scale, alpha))
    if labels is not None:
        drawn = _draw_regions(ax, surface, labels, groups)
        _write_names(ax, surface, drawn if names else ())
    return ax


def draw_inflated(
    ax: Axes,
    surface: Surface,
    view: tuple[str, str],
    values: np.ndarray,
    scale: ScalarMappable,
    alpha: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    groups: Sequence[str] = (),
) -> None:
    """Draw values on one inflated view, lit from the front, with one outline around each group of regions."""
    image = view_image(surface, view)
    show_image(ax, image, vertex_colours(surface, values, scale, alpha, facing_light(surface, view)))
    draw_groups(ax, surface, labels, groups, view)


def show_image(ax: Axes, image: Raster, colours: np.ndarray, window: Box | None = None) -> None:
    """Show a view, or a window of it, with vertices of the given colours on axes without ticks or frame."""
    x, y, painted = image.x, image.y, image.paint(colours)
    if window:
        columns, rows = (slice(*np.searchsorted(axis, ends)) for axis, ends in ((x, window[:2]), (y, window[2:])))
        x, y, painted = x[columns], y[rows], painted[rows, columns]
    half = (x[1] - x[0]) / 2
    extent = (x[0] - half, x[-1] + half, y[0] - half, y[-1] + half)
    shown = ax.imshow(painted, origin="lower", extent=extent, aspect="equal", interpolation="bilinear")
    shown.set_clip_path(Curve.make_compound_path(*(Curve(line, closed=True) for line in image.sheet)), ax.transData)
    ax.axis("off")
    ax.set(xlim=(window or extent)[:2], ylim=(window or extent)[2:])


def region_colours(labels: np.ndarray, groups: Sequence[str]) -> dict[str, str]:
    """Colour of each region of the groups, by the first that has it; `InputError` as from `regions.members`."""
    colours: dict[str, str] = {}
    for group in groups:
        members(np.asarray(labels), group)
        for region in GROUPS[group]:
            colours.setdefault(region, GROUP_COLOURS[group])
    return colours


def _draw_regions(
    ax: Axes, surface: Surface, labels: np.ndarray, groups: Sequence[str], scale: float | None = None
) -> tuple[Outline, ...]:
    """Draw and return the outline of every region of the groups on a flat map; `scale` as in `_draw_outlines`."""
    colours = region_colours(labels, groups)
    drawn = outlines(surface, labels, tuple(colours))
    _draw_outlines(ax, drawn, colours, scale)
    return drawn


def draw_groups(ax: Axes, surface: Surface, labels: np.ndarray, groups: Sequence[str], view: View = FLAT) -> None:
    """Draw one outline around each group on a view, the first on top; `InputError` as from `regions.members`."""
    for group in reversed(groups):
        members(labels, group)
        _draw_outlines(ax, outlines(surface, labels, (group,), view), GROUP_COLOURS)


def draw_parcels(ax: Axes, surface: Surface, parcels: np.ndarray, view: View = FLAT) -> None:
    """Draw a thin outline around each parcel, a number from 1 on in (n_vertices,) int, on a view."""
    names = tuple(map(str, np.unique(parcels[parcels > 0])))
    lines = [line for outline in outlines(surface, parcels.astype(str), names, view) for line in outline.lines]
    ax.add_collection(LineCollection(lines, colors="white", linewidths=PARCEL_POINTS, alpha=0.75, zorder=3), False)


def _draw_outlines(ax: Axes, drawn: Sequence[Outline], colours: dict[str, str], scale: float | None = None) -> None:
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


def _share_of_page(ax: Axes) -> float:
    return ax.get_position(original=True).width * ax.get_figure(root=True).get_figwidth() / PAGE_INCHES


def _write_names(ax: Axes, surface: Surface, named: Sequence[Outline], keep_off: Sequence[Box] = ()) -> None:
    """Write the names of outlined regions on a flat map; `keep_off` as in `outlines.place_names`."""
    ax.apply_aspect()
    points_per_mm = ax.transData.get_matrix()[0, 0] * 72 / ax.get_figure(root=True).dpi
    points = NAME_POINTS * float(np.clip(_share_of_page(ax), 1, 1.2))
    bounds = (*ax.get_xlim(), *ax.get_ylim())
    names, points = place_names(surface, named, points_per_mm, points, bounds, keep_off)
    for name in names:
        _write_name(ax, name, points, points_per_mm)


def _write_name(ax: Axes, name: Name, points: float, points_per_mm: float) -> None:
    """Write one name; its casing is a text of its own beneath it, so that the PDF keeps the name as text."""
    if name.anchor:
        centre = np.array([name.x, name.y])
        half = np.array([_text_width(name.text, points), 1.15 * points]) / points_per_mm / 2
        line = np.array([name.anchor, np.clip(name.anchor, centre - half, centre + half)]).T
        ax.plot(*line, color="white", lw=1.1, zorder=6, solid_capstyle="round")
        ax.plot(*line, color=CASING, lw=0.45, zorder=6.1, solid_capstyle="butt")
        ax.plot(*name.anchor, "o", ms=1.5, mfc=CASING, mec="white", mew=0.35, zorder=6.2)
    ink, casing = (CASING, "white") if name.anchor else ("white", CASING)
    style = dict(fontsize=points, weight="bold", ha="center", va="center", clip_on=False)
    shadow = ax.text(name.x, name.y, name.text, color=casing, zorder=8, **style)
    shadow.set_path_effects([Stroke(linewidth=0.9, foreground=casing)])
    shadow.set_gid("casing")
    ax.text(name.x, name.y, name.text, color=ink, zorder=9, **style).set_gid("name")


@lru_cache(maxsize=1024)
def _text_width(text: str, points: float) -> float:
    """Width in points of a bold text."""
    return float(TextPath((0, 0), text, size=points, prop=FontProperties(weight="bold")).get_extents().width)


def auditory_windows(surface: Surface, labels: np.ndarray) -> dict[str, Box]:
    """Square part of the flat map, in mm, with the early auditory regions of a hemisphere and some margin.

    For 'left' and 'right', unless the flat map of the hemisphere shows none of these regions.
    """
    windows = {}
    drawn = outlines(surface, labels, INSET_REGIONS)
    for hemisphere in HEMISPHERES:
        if lines := [line for outline in drawn if outline.hemisphere == hemisphere for line in outline.lines]:
            points = np.concatenate(lines)
            low, high = points.min(axis=0) - INSET_MARGIN, points.max(axis=0) + INSET_MARGIN
            corners = np.stack([(low + high + sign * (high - low).max()) / 2 for sign in (-1, 1)], axis=1)
            windows[hemisphere] = tuple(corners.ravel().tolist())
    return windows


def draw_flat(
    axes: Mapping[str, Axes],
    surface: Surface,
    colours: np.ndarray,
    labels: np.ndarray | None,
    groups: Sequence[str],
    windows: Mapping[str, Box],
) -> None:
    """Draw the axes 'flat', and windows of it into the axes of their hemisphere, where the names in them then stand."""
    flat, image = axes["flat"], view_image(surface)
    show_image(flat, image, colours)
    if groups:
        drawn = _draw_regions(flat, surface, labels, groups)
        named = [outline for outline in drawn if not (windows and outline.region in INSET_REGIONS)]
        _write_names(flat, surface, named, list(windows.values()))
    for hemisphere, window in windows.items():
        show_image(axes[hemisphere], image, colours, window)
        drawn = _draw_regions(axes[hemisphere], surface, labels, groups, scale=1.0)
        named = [o for o in drawn if o.region in INSET_REGIONS and o.hemisphere == hemisphere]
        _write_names(axes[hemisphere], surface, named)
        for ax in (flat, axes[hemisphere]):
            _draw_frame(ax, window)


def _draw_frame(ax: Axes, window: Box) -> None:
    """Draw the frame of a window, on the flat map or around its inset."""
    left, right, bottom, top = window
    for ink, width, order in (("white", 1.3, 7.0), (CASING, 0.5, 7.1)):
        style = dict(fill=False, edgecolor=ink, linewidth=width, zorder=order, clip_on=False)
        ax.add_patch(Rectangle((left, bottom), right - left, top - bottom, **style))
