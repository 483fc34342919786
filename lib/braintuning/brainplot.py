"""Pictures of the cortex: a flat map with named regions, inflated views, and both as one figure."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, TriMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.path import Path as Curve
from matplotlib.patheffects import Stroke, withStroke
from matplotlib.textpath import TextPath
from matplotlib.font_manager import FontProperties
from matplotlib.tri import Triangulation
from scipy.spatial import cKDTree

from braintuning.errors import InputError
from braintuning.files import atomic_path
from braintuning.rois import GROUPS, Name, outlines, place_names, members
from braintuning.surfaces import FlatImage, Surface, flat_image

DEFAULT_GROUPS = ("primary_auditory", "early_auditory", "late_language")
GROUP_COLOURS = {
    "primary_auditory": "#4db8ff",
    "early_auditory": "#ffffff",
    "late_language": "#7cfc00",
    "angular_gyrus": "#7cfc00",
    "lateral_temporal": "#ffb3e6",
    "inferior_middle_frontal": "#ffe14d",
}
CASING = "#111111"
VIEWS = {"lateral": -1.0, "medial": 1.0}
ROW = (("left", "lateral"), ("left", "medial"), ("right", "medial"), ("right", "lateral"))
NAME_POINTS = 4.8
DPI = 300


def vertex_colours(
    surface: Surface,
    values: np.ndarray,
    *,
    cmap: str,
    vmin: float,
    vmax: float,
    alpha: np.ndarray | None = None,
) -> np.ndarray:
    """Opaque colour of each vertex: its value over the grey of the folds.

    Parameters
    ----------
    surface : Surface
        Gives the sulcal depth: gyri are light, sulci dark.
    values : ndarray, (n_vertices,)
        NaN shows the folds alone.
    cmap, vmin, vmax : str, float, float
        Colour map and the values at its ends.
    alpha : ndarray, (n_vertices,), optional
        Share of the value's colour, 0 to 1; 1 without it.

    Returns
    -------
    ndarray of float64, (n_vertices, 4)

    Raises
    ------
    InputError
        If `values` or `alpha` has another length than the surface has vertices, or all values are NaN.
    """
    values = _per_vertex(surface, values, "values")
    if np.isnan(values).all():
        raise InputError(f"values on {surface.name}: all {len(values)} are NaN, expected at least one number")
    share = (
        np.ones(len(values)) if alpha is None else np.clip(np.nan_to_num(_per_vertex(surface, alpha, "alpha")), 0, 1)
    )
    share = np.where(np.isnan(values), 0, share)[:, None]
    depth = surface.sulcal_depth
    low, high = np.percentile(depth[surface.cortex], [1, 99])
    grey = 0.40 + 0.47 * np.clip((depth - low) / (high - low), 0, 1)
    folds = np.stack([grey, grey, grey, np.ones_like(grey)], axis=1)
    return folds * (1 - share) + colormaps[cmap](Normalize(vmin, vmax)(np.nan_to_num(values, nan=vmin))) * share


def _per_vertex(surface: Surface, values: np.ndarray, what: str) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (surface.n_vertices,):
        raise InputError(
            f"{what} on {surface.name}: found shape {values.shape}, expected ({surface.n_vertices},); "
            f"Surface.expand spreads {int(surface.cortex.sum())} cortex values over them"
        )
    return values


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
) -> Axes:
    """Draw values on the flattened cortex, with the outlines and names of groups of regions.

    Parameters
    ----------
    ax : Axes
        Where to draw. Names are laid out for the size it has now.
    surface, values, cmap, vmin, vmax, alpha
        As in `vertex_colours`.
    labels : ndarray of str, (n_vertices,), optional
        Region at each vertex; without it no outlines are drawn.
    groups : sequence of str
        Keys of `rois.GROUPS`; a region takes the colour of the first that has it.
    show_names : bool
        Whether to write the names of the regions.

    Returns
    -------
    Axes
        The same.

    Raises
    ------
    InputError
        As `vertex_colours`, and if the surface has no flat mesh, a group is unknown or none of its regions is in `labels`.
    """
    image = flat_image(surface)
    colours = vertex_colours(surface, values, cmap=cmap, vmin=vmin, vmax=vmax, alpha=alpha)
    points = np.nan_to_num(surface.flat_coordinates)
    mesh = TriMesh(Triangulation(points[:, 0], points[:, 1], surface.flat_faces))
    mesh.set_facecolor(colours)
    mesh.set_rasterized(True)
    ax.add_collection(mesh, autolim=False)
    mesh.set_clip_path(Curve.make_compound_path(*(Curve(line, closed=True) for line in image.sheet)), ax.transData)
    ax.set_xlim(image.x[0], image.x[-1])
    ax.set_ylim(image.y[0], image.y[-1])
    ax.set_aspect("equal")
    ax.axis("off")
    if labels is not None:
        _draw_regions(ax, surface, image, np.asarray(labels), groups, show_names)
    return ax


def _region_colours(labels: np.ndarray, groups: Sequence[str]) -> dict[str, str]:
    """Colour of each region that the groups have and that occurs in `labels`."""
    colours: dict[str, str] = {}
    for group in groups:
        members(labels, group)
        for region in GROUPS[group]:
            colours.setdefault(region, GROUP_COLOURS[group])
    return colours


def _draw_regions(
    ax: Axes, surface: Surface, image: FlatImage, labels: np.ndarray, groups: Sequence[str], show_names: bool
) -> None:
    colours = _region_colours(labels, groups)
    drawn = outlines(surface, labels, tuple(colours))
    lines = [line for outline in reversed(drawn) for line in outline.lines]
    line_colours = [colours[outline.region] for outline in reversed(drawn) for _ in outline.lines]
    order = dict(joinstyle="round", capstyle="round")
    ax.add_collection(LineCollection(lines, colors=CASING, linewidths=1.25, zorder=4, **order), autolim=False)
    ax.add_collection(LineCollection(lines, colors=line_colours, linewidths=0.65, zorder=5, **order), autolim=False)
    if show_names and drawn:
        ax.apply_aspect()
        points_per_mm = ax.transData.get_matrix()[0, 0] * 72 / ax.figure.dpi
        bold = FontProperties(weight="bold")
        widths = tuple(TextPath((0, 0), o.region, NAME_POINTS, prop=bold).get_extents().width for o in drawn)
        for name in place_names(drawn, image, widths, 1.15 * NAME_POINTS, round(points_per_mm, 4)):
            _draw_name(ax, name)


def _draw_name(ax: Axes, name: Name) -> None:
    """Write one name; its casing is a text of its own beneath it, so that the PDF keeps the name as text."""
    if name.anchor:
        line = np.array([name.anchor, name.leader_end]).T
        ax.plot(*line, color="white", lw=1.1, zorder=6, solid_capstyle="round")
        ax.plot(*line, color=CASING, lw=0.45, zorder=6.1, solid_capstyle="butt")
        ax.plot(*name.anchor, "o", ms=1.5, mfc=CASING, mec="white", mew=0.35, zorder=6.2)
    ink, casing = (CASING, "white") if name.anchor else ("white", CASING)
    style = dict(fontsize=NAME_POINTS, weight="bold", ha="center", va="center", clip_on=False)
    shadow = ax.text(name.x, name.y, name.text, color=casing, zorder=8, **style)
    shadow.set_path_effects([Stroke(linewidth=1.1, foreground=casing)])
    shadow.set_gid("casing")
    ax.text(name.x, name.y, name.text, color=ink, zorder=9, **style).set_gid("name")
