"""Figures of the cortex: one brain with all its views, maps of several participants, and how a figure is saved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from braintuning.cortex import flatmap, page
from braintuning.cortex.colours import DIFFERENCE, SEQUENTIAL, Reliability, limits, per_vertex, smoothed, vertex_colours
from braintuning.cortex.raster import CAMERA_X, FLAT, view_image
from braintuning.cortex.regions import DEFAULT_GROUPS
from braintuning.cortex.surface import Surface
from braintuning.errors import InputError
from braintuning.results import atomic_path

DPI = 300
COARSER_DPI = (225, 170, 130)
LARGEST_PDF = 2_000_000
SAVE_OPTIONS = {
    "png": {"metadata": {"Software": None}, "pil_kwargs": {"compress_level": 1}},
    "pdf": {"metadata": {"CreationDate": None, "Producer": None, "Creator": None}},
}


def cortex_figure(
    surface: Surface,
    values: np.ndarray,
    *,
    label: str,
    title: str | None = None,
    vmin: float | None = None,
    vmax: float | None = None,
    threshold: float | None = None,
    symmetric: bool = False,
    labels: np.ndarray | None = None,
    parcels: np.ndarray | None = None,
    groups: Sequence[str] | Mapping[str, str] = DEFAULT_GROUPS,
    note: str | None = None,
    width_inches: float = 7.2,
    reliability: Reliability | None = None,
    smooth_mm: float = 0.0,
) -> Figure:
    """One brain as a flat map, four inflated views, magnified auditory regions, a colour bar and a legend.

    Parameters
    ----------
    surface, values, labels, groups
        As in `plot_flatmap`, a value per vertex; `groups` may map each to its name in the legend. The names of early
        auditory regions stand in magnified windows and not on the map.
    parcels : ndarray of int, (n_vertices,), optional
        Parcel at each vertex, 0 for none: each has a thin outline, groups have one around all of theirs, no region is
        named and nothing is magnified.
    label : str
        What the values are, with their unit; written at the colour bar.
    title, note : str, optional
        Written above and, small, below the figure.
    vmin, vmax : float, optional
        Values at the ends of the colour map, by default as `colours.limits` chooses them; with `labels` and
        `reliability`, from those that show inside the outlined regions.
    threshold : float, optional
        Values whose size is smaller are not shown.
    symmetric : bool
        Use `colours.DIFFERENCE`, centred on zero, instead of `colours.SEQUENTIAL`.
    reliability : Reliability, optional
        A second dimension that fades values, with a two-dimensional colour legend in place of the colour bar.
    smooth_mm : float
        Standard deviation of smoothing on the surface, for display. Only values that `reliability` shows are smoothed;
        the reliability is smoothed too, so that isolated vertices that pass by chance fade. The note says so.

    Raises
    ------
    InputError
        As `plot_flatmap`, and if `vmin` is not below `vmax`.
    """
    values = per_vertex(surface, values, "values")
    if smooth_mm:
        if reliability is not None:
            values = np.where(reliability.alpha(surface) > 0, values, np.nan)
            reliability = replace(reliability, values=smoothed(surface, reliability.values, smooth_mm))
        values, note = smoothed(surface, values, smooth_mm), _smoothing_note(note, smooth_mm)
    alpha = None if reliability is None else reliability.alpha(surface)
    groups = () if labels is None else groups
    ink = flatmap.region_colours(labels, groups)
    visible = np.isin(labels, list(ink)) & (alpha > 0) if ink and alpha is not None else np.zeros(len(values), bool)
    inside = values[visible & np.isfinite(values)]
    vmin, vmax = limits(surface, inside if inside.size else values, vmin, vmax, symmetric)
    scale = ScalarMappable(Normalize(vmin, vmax), DIFFERENCE if symmetric else SEQUENTIAL)
    shown = values if threshold is None else np.where(np.abs(values) >= threshold, values, np.nan)
    magnified = parcels is None and set(ink) & set(flatmap.INSET_REGIONS)
    windows = flatmap.auditory_windows(surface, labels) if magnified else {}
    fig, axes, label = page.brain_page(
        width_inches,
        view_image(surface).aspect,
        title=title,
        label=label,
        note=note,
        n_groups=len(groups),
        two_dimensional=reliability is not None,
        insets=bool(windows),
    )
    named = groups if parcels is None else ()
    flatmap.draw_flat(axes, surface, vertex_colours(surface, shown, scale, alpha), labels, named, windows)
    for view in CAMERA_X:
        flatmap.draw_inflated(axes[view], surface, view, shown, scale, alpha, labels, groups)
    if parcels is not None:
        flatmap.draw_groups(axes["flat"], surface, labels, groups)
        for view, ax in {FLAT: axes["flat"], **{view: axes[view] for view in CAMERA_X}}.items():
            flatmap.draw_parcels(ax, surface, parcels, view)
    if reliability is None:
        page.colour_bar(axes["key"], shown, label, scale, alpha, threshold)
    else:
        page.colour_square(axes["key"], label, reliability, scale)
    page.group_legend(axes["legend"], groups)
    return fig


def _smoothing_note(note: str | None, mm: float) -> str:
    how = f"Map smoothed on the surface for display alone (standard deviation {mm:g} mm)"
    return f"{f'{note}. ' if note else ''}{how}; numbers are of unsmoothed values"


@dataclass(frozen=True, eq=False)
class Panel:
    """One participant's map: `values` and, if regions are to be outlined, `labels` at the vertices of a flat surface.

    The caption is written under the map. NaN shows the grey of the folds.
    """

    surface: Surface
    values: np.ndarray
    labels: np.ndarray | None
    caption: str


def participants_figure(
    panels: Sequence[Panel],
    *,
    label: str,
    vmin: float | None = None,
    vmax: float | None = None,
    threshold: float | None = None,
    note: str | None = None,
    width_inches: float = 7.2,
    smooth_mm: float = 0.0,
) -> Figure:
    """Flat maps of participants in a grid, with one colour bar and one legend below.

    The grid is filled row by row, in fewer columns where `width_inches` is narrow. Everything else is as in
    `cortex_figure`, one scale for all; values are smoothed before the threshold. `InputError` also if there are no
    panels.
    """
    if not panels:
        raise InputError("panels: found none, expected at least one participant")
    values = [per_vertex(panel.surface, panel.values, f"values of {panel.caption!r}") for panel in panels]
    if smooth_mm:
        values = [smoothed(panel.surface, one, smooth_mm) for panel, one in zip(panels, values, strict=True)]
        note = _smoothing_note(note, smooth_mm)
    vmin, vmax = limits(panels[0].surface, np.concatenate(values), vmin, vmax, symmetric=False)
    scale = ScalarMappable(Normalize(vmin, vmax), SEQUENTIAL)
    images = [view_image(panel.surface) for panel in panels]
    aspect = max(image.aspect for image in images)
    captions = [panel.caption for panel in panels]
    fig, axes, label = page.participants_page(width_inches, aspect, captions, label=label, note=note)
    shown = [np.where(np.abs(one) >= (threshold or 0), one, np.nan) for one in values]
    for k, (panel, image) in enumerate(zip(panels, images, strict=True)):
        flatmap.show_image(axes[k], image, vertex_colours(panel.surface, shown[k], scale))
        if panel.labels is not None:
            flatmap.draw_groups(axes[k], panel.surface, panel.labels, DEFAULT_GROUPS)
    page.colour_bar(axes["key"], np.concatenate(shown), label, scale, threshold=threshold)
    labelled = any(panel.labels is not None for panel in panels)
    page.group_legend(axes["legend"], DEFAULT_GROUPS if labelled else ())
    return fig


def save_figure(fig: Figure, path_without_suffix: Path) -> tuple[Path, Path]:
    """Write a figure as PNG and PDF, each whole or not at all, with the same bytes every time; their paths.

    '.png' and '.pdf' are appended to the path; its folder is made. The PNG has 300 dots an inch, and so have the
    rasterised parts of the PDF unless it would then exceed 2 MB, as with values that differ from vertex to vertex. Text
    in the PDF stays text (TrueType).
    """
    base = Path(path_without_suffix)
    paths = []
    with rc_context({"pdf.fonttype": 42}):
        for suffix, options in SAVE_OPTIONS.items():
            paths.append(base.with_name(f"{base.name}.{suffix}"))
            with atomic_path(paths[-1]) as temporary:
                for dpi in (DPI, *COARSER_DPI):
                    fig.savefig(temporary, format=suffix, dpi=dpi, **options)
                    if suffix == "png" or temporary.stat().st_size < LARGEST_PDF:
                        break
    return tuple(paths)
