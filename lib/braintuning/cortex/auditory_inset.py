"""A magnified piece of the flat map around the small auditory regions of one hemisphere."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from braintuning.cortex.flatmap import CASING, draw_outlines, region_colours, show_image, write_names
from braintuning.cortex.raster import Raster, flat_image
from braintuning.cortex.regions import GROUPS, Outline, outlines
from braintuning.cortex.surface import Surface

INSET_REGIONS = GROUPS["early_auditory"]
MARGIN = 7.0

Window = tuple[float, float, float, float]


def auditory_window(surface: Surface, labels: np.ndarray, hemisphere: str, aspect: float) -> Window | None:
    """Part of the flat map that shows the early auditory regions of a hemisphere with some room around them.

    Parameters
    ----------
    surface : Surface
        With a flat mesh.
    labels : ndarray of str, (n_vertices,)
        Region at each vertex.
    hemisphere : str
        'left' or 'right'.
    aspect : float
        Width over height.

    Returns
    -------
    left, right, bottom, top : float
        In the map's mm; None if the flat map of the hemisphere shows none of these regions.
    """
    drawn = [o for o in outlines(surface, labels, INSET_REGIONS) if o.hemisphere == hemisphere]
    lines = [line for outline in drawn for line in outline.lines]
    if not lines:
        return None
    points = np.concatenate(lines)
    low, high = points.min(axis=0) - MARGIN, points.max(axis=0) + MARGIN
    size = high - low
    size = np.maximum(size, [size[1] * aspect, size[0] / aspect])
    (left, bottom), (right, top) = (low + high - size) / 2, (low + high + size) / 2
    return float(left), float(right), float(bottom), float(top)


def draw_inset(
    ax: Axes, surface: Surface, colours: np.ndarray, labels: np.ndarray, groups: Sequence[str], window: Window
) -> Axes:
    """Draw a window of the flat map in a frame, with the outlines of all regions and the names of the auditory ones.

    Parameters
    ----------
    ax : Axes
        Of the window's aspect.
    surface : Surface
    colours : ndarray, (n_vertices, 4)
        From `colours.vertex_colours`.
    labels : ndarray of str, (n_vertices,)
    groups : sequence of str
        Keys of `rois.GROUPS` that are outlined.
    window : tuple of float
        From `auditory_window`.

    Returns
    -------
    Axes
        The same.
    """
    ink = region_colours(labels, groups)
    drawn = outlines(surface, labels, tuple(ink))
    image, seen = _cropped(flat_image(surface), drawn, window)
    show_image(ax, image, colours)
    draw_outlines(ax, drawn, ink, scale=1.0)
    ax.set_xlim(window[:2])
    ax.set_ylim(window[2:])
    draw_frame(ax, window)
    write_names(ax, image, seen, tuple(set(ink) - set(INSET_REGIONS)))
    return ax


def draw_frame(ax: Axes, window: Window) -> None:
    """Draw the frame of a window, on the flat map or around its inset."""
    left, right, bottom, top = window
    for ink, width, order in (("white", 1.3, 7.0), (CASING, 0.5, 7.1)):
        style = dict(fill=False, edgecolor=ink, linewidth=width, zorder=order, clip_on=False)
        ax.add_patch(Rectangle((left, bottom), right - left, top - bottom, **style))


@lru_cache(maxsize=64)
def _cropped(image: Raster, drawn: tuple[Outline, ...], window: Window) -> tuple[Raster, tuple[Outline, ...]]:
    """The pixels of a window, and the outlines that it shows with their masks cut to it."""
    columns, rows = (
        slice(*np.searchsorted(axis, ends).tolist()) for axis, ends in ((image.x, window[:2]), (image.y, window[2:]))
    )
    kept = np.zeros(image.vertex.shape, bool)
    kept[rows, columns] = True
    blend = image.blend[kept[image.vertex >= 0]]
    cut = Raster(image.x[columns], image.y[rows], image.vertex[rows, columns], image.sheet, blend)
    masks = [outline.mask[rows, columns] for outline in drawn]
    seen = (
        replace(outline, shape=mask.shape, window=(slice(None), slice(None)), inside=mask)
        for outline, mask in zip(drawn, masks, strict=True)
        if mask.any()
    )
    return cut, tuple(seen)
