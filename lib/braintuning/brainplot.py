"""Pictures of the cortex: a flat map with named regions, inflated views, and both as one figure."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import fill

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, TriMesh
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.path import Path as Curve
from matplotlib.patheffects import Stroke, withStroke
from matplotlib.textpath import TextPath
from matplotlib.ticker import MaxNLocator
from matplotlib.tri import Triangulation
from mpl_toolkits.mplot3d.proj3d import proj_transform
from scipy.spatial import cKDTree

from braintuning.errors import InputError
from braintuning.files import atomic_path
from braintuning.rois import GROUPS, Name, members, outlines, place_names
from braintuning.surfaces import FlatImage, Surface, flat_image

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
VIEWS = {("left", "lateral"): 180, ("left", "medial"): 0, ("right", "medial"): 180, ("right", "lateral"): 0}
NAME_POINTS = 4.9
LINE_POINTS = 0.65
PAGE_INCHES = 7.2
DPI = 300
COARSER_DPI = (225, 170, 130)
LARGEST_PDF = 2_000_000


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
        As `vertex_colours`, and if the surface has no flat mesh or a group is unknown or has no vertex.
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


def _scale(ax: Axes) -> float:
    """Size of names and lines: smaller where the axes are narrower than a page, down to what can still be read."""
    width = ax.get_position(original=True).width * ax.get_figure(root=True).get_figwidth()
    return float(np.clip(width / PAGE_INCHES, 0.84, 1.2))


def _draw_regions(
    ax: Axes, surface: Surface, image: FlatImage, labels: np.ndarray, groups: Sequence[str], show_names: bool
) -> None:
    colours = _region_colours(labels, groups)
    drawn = outlines(surface, labels, tuple(colours))
    lines = [line for outline in reversed(drawn) for line in outline.lines]
    line_colours = [colours[outline.region] for outline in reversed(drawn) for _ in outline.lines]
    scale = _scale(ax)
    for ink, width, order in ((CASING, 2 * LINE_POINTS, 4), (line_colours, LINE_POINTS, 5)):
        curves = LineCollection(lines, colors=ink, linewidths=width * scale, zorder=order, joinstyle="round")
        ax.add_collection(curves, autolim=False)
    if show_names and drawn:
        ax.apply_aspect()
        points_per_mm = ax.transData.get_matrix()[0, 0] * 72 / ax.get_figure(root=True).dpi
        bold, size = FontProperties(weight="bold"), NAME_POINTS * scale
        widths = tuple(TextPath((0, 0), o.region, size=size, prop=bold).get_extents().width for o in drawn)
        for name in place_names(drawn, image, widths, 1.15 * size, round(points_per_mm, 4)):
            _draw_name(ax, name, size)


def _draw_name(ax: Axes, name: Name, size: float) -> None:
    """Write one name; its casing is a text of its own beneath it, so that the PDF keeps the name as text."""
    if name.anchor:
        line = np.array([name.anchor, name.leader_end]).T
        ax.plot(*line, color="white", lw=1.1, zorder=6, solid_capstyle="round")
        ax.plot(*line, color=CASING, lw=0.45, zorder=6.1, solid_capstyle="butt")
        ax.plot(*name.anchor, "o", ms=1.5, mfc=CASING, mec="white", mew=0.35, zorder=6.2)
    ink, casing = (CASING, "white") if name.anchor else ("white", CASING)
    style = dict(fontsize=size, weight="bold", ha="center", va="center", clip_on=False)
    shadow = ax.text(name.x, name.y, name.text, color=casing, zorder=8, **style)
    shadow.set_path_effects([Stroke(linewidth=1.1, foreground=casing)])
    shadow.set_gid("casing")
    ax.text(name.x, name.y, name.text, color=ink, zorder=9, **style).set_gid("name")


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
    """Draw values on one inflated hemisphere, with the outlines of groups of regions.

    Parameters
    ----------
    ax : Axes3D
        Made with `projection="3d"`.
    surface, values, cmap, vmin, vmax, alpha
        As in `vertex_colours`; values of both hemispheres.
    hemisphere, view : str
        'left' or 'right'; 'lateral' or 'medial'.
    labels, groups
        As in `flatmap`; each group has one outline here.

    Returns
    -------
    Axes3D
        The same.

    Raises
    ------
    InputError
        As `flatmap`, and if the hemisphere or view is unknown or `ax` is not three-dimensional.
    """
    from nilearn.plotting import plot_surf
    from nilearn.surface import InMemoryMesh

    if (hemisphere, view) not in VIEWS:
        raise InputError(f"view {(hemisphere, view)}: expected one of {', '.join(map(str, VIEWS))}")
    if ax.name != "3d":
        raise InputError(f"axes for an inflated view: found projection {ax.name!r}, expected '3d'")
    side = surface.vertices(hemisphere)
    colours = vertex_colours(surface, values, cmap=cmap, vmin=vmin, vmax=vmax, alpha=alpha)[side]
    coordinates, faces = surface.inflated[hemisphere]
    azimuth = VIEWS[hemisphere, view]
    camera = np.array([np.cos(np.deg2rad(azimuth)), 0.0, 0.0])
    front = faces[np.cross(*np.diff(coordinates[faces], axis=1).transpose(1, 0, 2)) @ camera > 0]
    mesh = InMemoryMesh(coordinates.copy(), front)
    plot_surf(mesh, surf_map=np.zeros(len(coordinates)), hemi=hemisphere, view=(0, azimuth), colorbar=False, axes=ax)
    skin = ax.collections[-1]
    face_colours = colours[front].mean(axis=1)
    skin.set(
        facecolor=face_colours, edgecolor=face_colours, linewidth=0.15, antialiased=True, rasterized=True, clip_on=False
    )
    ax.patch.set_visible(False)
    _fill_axes(ax, coordinates)
    scale = _scale(ax) ** 0.5
    if labels is not None:
        for group in reversed(groups):
            for line in _curves_in_view(surface, np.asarray(labels), group, hemisphere, camera):
                ax.plot(*line.T, color=CASING, lw=2 * scale * LINE_POINTS, zorder=100, clip_on=False)
                ax.plot(*line.T, color=GROUP_COLOURS[group], lw=scale * LINE_POINTS, zorder=101, clip_on=False)
    return ax


def _fill_axes(ax: Axes, coordinates: np.ndarray) -> None:
    """Choose limits and zoom with which the hemisphere, seen from the side, fills the axes' rectangle."""
    low, high = coordinates.min(axis=0), coordinates.max(axis=0)
    rectangle = ax.get_position(original=True).transformed(ax.get_figure().transFigure)
    ax.set_proj_type("ortho")
    ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    ax.set_box_aspect(high - low, zoom=1.0)
    ax.apply_aspect()
    corners = proj_transform(*np.array([low, high]).T, ax.get_proj())[:2]
    width, height = np.abs(np.diff(ax.transData.transform(np.array(corners).T), axis=0))[0]
    ax.set_box_aspect(high - low, zoom=0.97 * min(rectangle.width / width, rectangle.height / height))


def _curves_in_view(
    surface: Surface, labels: np.ndarray, group: str, hemisphere: str, camera: np.ndarray, spread: float = 2.0
) -> list[np.ndarray]:
    """Outline of a group on the inflated hemisphere, (points, 3) each, NaN where the camera does not see it."""
    coordinates, faces = surface.inflated[hemisphere]
    side = surface.vertices(hemisphere)
    flat = surface.flat_coordinates[side]
    on_map = np.flatnonzero(~np.isnan(flat[:, 0]))
    tree = cKDTree(flat[on_map])
    seen = _visible(coordinates, faces, camera)
    curves = []
    for outline in outlines(surface, np.where(members(labels, group), group, ""), (group,)):
        if outline.hemisphere != hemisphere:
            continue
        for line in outline.lines:
            distance, nearest = tree.query(line, k=12)
            weight = np.exp(-((distance / spread) ** 2) / 2)
            weight /= weight.sum(axis=1, keepdims=True)
            curve = (coordinates[on_map[nearest]] * weight[..., None]).sum(axis=1)
            visible = (seen[on_map[nearest]] * weight).sum(axis=1) > 0.5
            curves.append(np.where(visible[:, None], curve, np.nan))
    return curves


def _visible(coordinates: np.ndarray, faces: np.ndarray, camera: np.ndarray, cell: float = 2.0) -> np.ndarray:
    """Vertices that no part of the surface over 4 mm nearer to the camera hides; `camera` points along x."""
    depth = coordinates @ camera
    y, z = (np.rint((coordinates[:, k] - coordinates[:, k].min()) / cell).astype(int) for k in (1, 2))
    nearest = np.full((y.max() + 1, z.max() + 1), -np.inf)
    np.maximum.at(nearest, (y, z), depth)
    return depth > nearest[y, z] - 4.0


def cortex_figure(
    surface: Surface,
    values: np.ndarray,
    *,
    label: str,
    title: str | None = None,
    cmap: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    threshold: float | None = None,
    symmetric: bool = False,
    alpha: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    groups: Sequence[str] = DEFAULT_GROUPS,
    note: str | None = None,
    width_inches: float = 7.2,
) -> Figure:
    """One brain as a flat map, four inflated views, a colour bar and a legend.

    Parameters
    ----------
    surface, values, alpha, labels, groups
        As in `flatmap`.
    label : str
        What the values are, with their unit; written at the colour bar.
    title, note : str, optional
        Written above and, small, below the figure.
    cmap : str, optional
        Colour map; 'inferno', and 'RdBu_r' if `symmetric`, without it.
    vmin, vmax : float, optional
        Values at the ends of the colour map. Without them the 99th percentile and 0 (the 1st percentile if values are
        negative), and if `symmetric` plus and minus the 99th percentile of the absolute values.
    threshold : float, optional
        Values whose size is smaller are not shown.
    symmetric : bool
        Centre the colour map on zero.
    width_inches : float
        Width of the figure.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        As `flatmap`, and if `vmin` is not below `vmax`.
    """
    values = _per_vertex(surface, values, "values")
    vmin, vmax = _limits(surface, values, vmin, vmax, symmetric)
    style = dict(cmap=cmap or ("RdBu_r" if symmetric else "inferno"), vmin=vmin, vmax=vmax, alpha=alpha)
    shown = values if threshold is None else np.where(np.abs(values) >= threshold, values, np.nan)
    if np.isnan(shown).all():
        shown, style["alpha"] = values, np.zeros(len(values))
    texts = [_wrap(*text) for text in ((title, 0.96 * width_inches, 8), (label, 0.5 * width_inches, 6.5))]
    fig, panels = _panels(flat_image(surface), width_inches, *texts, _wrap(note, 0.96 * width_inches, 4.8))
    regions = dict(labels=labels, groups=groups)
    flatmap(panels["flat"], surface, shown, **style, **regions)
    for hemisphere, view in VIEWS:
        inflated(panels[hemisphere, view], surface, shown, hemisphere, view, **style, **regions)
    _colour_bar(panels["bar"], shown, texts[1], style, threshold)
    if labels is not None:
        _group_legend(panels["legend"], groups)
    return fig


def _limits(
    surface: Surface, values: np.ndarray, vmin: float | None, vmax: float | None, symmetric: bool
) -> tuple[float, float]:
    """The ends of the colour map that the caller left out; see `cortex_figure`."""
    known = values[np.isfinite(values)]
    if not known.size:
        raise InputError(f"values on {surface.name}: all {len(values)} are NaN, expected at least one number")
    if symmetric:
        given = [abs(end) for end in (vmin, vmax) if end is not None]
        vmax = max(given) if given else float(np.percentile(np.abs(known), 99))
        vmin = -vmax
    vmax = float(np.percentile(known, 99)) if vmax is None else vmax
    vmin = min(0.0, float(np.percentile(known, 1))) if vmin is None else vmin
    if not vmin < vmax:
        raise InputError(f"colour map limits: found vmin {vmin:g} and vmax {vmax:g}, expected vmin below vmax")
    return vmin, vmax


def _wrap(text: str | None, width: float, size: float) -> str:
    """Text broken into lines that fit `width` inches at `size` points; '' for None."""
    return fill(text or "", max(8, int(width * 72 / (0.56 * size))))


def _lines(text: str) -> int:
    return len(text.splitlines())


def _panels(
    image: FlatImage, width: float, title: str, label: str, note: str
) -> tuple[Figure, dict[str | tuple[str, str], Axes]]:
    """A figure of `width` inches and its axes: flat map above, four views below it, then colour bar and legend."""
    heights = {
        "note": 0.06 + 0.08 * _lines(note),
        "strip": 0.33 + 0.11 * max(1, _lines(label)),
        "views": 0.185 * width,
        "map": width * np.ptp(image.y) / np.ptp(image.x),
    }
    total = sum(heights.values()) + 0.13 * _lines(title) + (0.07 if title else 0)
    fig = Figure(figsize=(width, total))

    def panel(left: float, bottom: float, wide: float, high: float, **kind: str) -> Axes:
        return fig.add_axes((left / width, bottom / total, wide / width, high / total), **kind)

    strip_top = heights["note"] + heights["strip"]
    panels = {"flat": panel(0, strip_top + heights["views"], width, heights["map"])}
    for k, view in enumerate(VIEWS):
        panels[view] = panel(k * width / 4, strip_top, width / 4, heights["views"], projection="3d")
    panels["bar"] = panel(0.14 * width, strip_top - 0.13, 0.3 * width, 0.07)
    panels["legend"] = panel(0.56 * width, heights["note"], 0.4 * width, heights["strip"])
    panels["legend"].axis("off")
    if title:
        fig.text(0.5, 1 - 0.04 / total, title, ha="center", va="top", fontsize=8, weight="bold")
    if note:
        fig.text(0.5, 0.03 / total, note, ha="center", va="bottom", fontsize=4.8, color="0.35")
    return fig, panels


def _colour_bar(ax: Axes, values: np.ndarray, label: str, style: dict, threshold: float | None) -> None:
    """Horizontal colour bar, pointed where values go beyond it, grey where the threshold hides them."""
    low, high = style["vmin"], style["vmax"]
    values = values if style["alpha"] is None else np.where(style["alpha"] > 0, values, np.nan)
    beyond = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    extend = beyond[bool((values < low).any()), bool((values > high).any())]
    bar = ax.get_figure().colorbar(
        ScalarMappable(Normalize(low, high), style["cmap"]),
        cax=ax,
        orientation="horizontal",
        extend=extend,
        extendfrac=0.04,
    )
    bar.ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    bar.ax.tick_params(labelsize=6, width=0.5, length=2, pad=1.5)
    bar.outline.set_linewidth(0.5)
    bar.set_label(label, fontsize=6.5, labelpad=1.5)
    if threshold:
        bar.ax.axvspan(max(low, -threshold), min(high, threshold), color="0.7", lw=0)


def _group_legend(ax: Axes, groups: Sequence[str]) -> None:
    casing = [withStroke(linewidth=2.4, foreground=CASING)]
    handles = [Line2D([], [], color=GROUP_COLOURS[group], lw=1.2, path_effects=casing) for group in groups]
    names = [group.replace("_", " ") for group in groups]
    ax.legend(
        handles, names, loc="center left", fontsize=6.5, frameon=False, labelspacing=0.3, handlelength=1.8, borderpad=0
    )


def save_figure(fig: Figure, path_without_suffix: Path) -> tuple[Path, Path]:
    """Write a figure as PNG and PDF, each whole or not at all, with the same bytes every time.

    Parameters
    ----------
    fig : Figure
        What to write. The PNG has 300 dots an inch, and so have the rasterised parts of the PDF unless it would then
        exceed 2 MB, as with values that differ from vertex to vertex. Text in the PDF stays text (TrueType).
    path_without_suffix : Path
        '.png' and '.pdf' are appended to it; its folder is made.

    Returns
    -------
    tuple of Path
        The PNG and the PDF.
    """
    base = Path(path_without_suffix)
    metadata = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Producer": None, "Creator": None}}
    paths = []
    with rc_context({"pdf.fonttype": 42}):
        for suffix, facts in metadata.items():
            paths.append(base.with_name(f"{base.name}.{suffix}"))
            with atomic_path(paths[-1]) as temporary:
                for dpi in (DPI, *COARSER_DPI):
                    fig.savefig(temporary, format=suffix, dpi=dpi, metadata=facts)
                    if suffix == "png" or temporary.stat().st_size < LARGEST_PDF:
                        break
    return tuple(paths)
