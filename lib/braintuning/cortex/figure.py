"""One brain on a page: flat map, inflated views, magnified auditory regions, colour key and legend."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from braintuning.cortex.auditory_inset import INSET_REGIONS, Window, auditory_window, draw_frame, draw_inset
from braintuning.cortex.colours import DIFFERENCE, SMOOTHED, Reliability, limits, per_vertex, smoothed, vertex_colours
from braintuning.cortex.flatmap import DEFAULT_GROUPS, flatmap, inflated, region_colours
from braintuning.cortex.layout import INSET_HEIGHT, INSET_WIDTH, arrange
from braintuning.cortex.page import colour_bar, colour_square, group_legend
from braintuning.cortex.raster import CAMERA_X, flat_image
from braintuning.cortex.surface import HEMISPHERES, Surface


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
    reliability: Reliability | None = None,
    inset: bool = True,
    smooth_mm: float = 0.0,
) -> Figure:
    """One brain as a flat map, four inflated views, magnified auditory regions, a colour bar and a legend.

    Parameters
    ----------
    surface, values, alpha, labels, groups
        As in `flatmap`.
    label : str
        What the values are, with their unit; written at the colour bar.
    title, note : str, optional
        Written above and, small, below the figure.
    cmap : str, optional
        Colour map; 'inferno', and `colours.DIFFERENCE` if `symmetric`, without it.
    vmin, vmax : float, optional
        Values at the ends of the colour map. Without them the 99th percentile and 0 (the 1st percentile if values are
        negative), and if `symmetric` plus and minus the 99th percentile of the absolute values; with `labels` and
        `reliability`, of those that show inside the outlined regions.
    threshold : float, optional
        Values whose size is smaller are not shown.
    symmetric : bool
        Centre the colour map on zero.
    width_inches : float
        Width of the figure.
    reliability : Reliability, optional
        A second dimension that fades values, with a two-dimensional colour legend in place of the colour bar.
    inset : bool
        Magnify the early auditory regions of each hemisphere, whose names then stand there and not on the map. Without
        effect where `groups` have none of them.
    smooth_mm : float
        Standard deviation by which values are smoothed on the surface, those alone that `reliability` shows, and the
        reliability itself, so that a vertex that is reliable by chance among others that are not fades. The small print
        says so.

    Returns
    -------
    Figure

    Raises
    ------
    InputError
        As `flatmap`, and if `vmin` is not below `vmax`.
    """
    values = per_vertex(surface, values, "values")
    if smooth_mm:
        values, reliability = _smooth(surface, values, reliability, smooth_mm)
        note = f"{note}. {SMOOTHED.format(smooth_mm)}" if note else SMOOTHED.format(smooth_mm)
    if reliability is not None:
        alpha = reliability.alpha(surface) * (1 if alpha is None else per_vertex(surface, alpha, "alpha"))
    in_regions = _shown_in_regions(labels, groups, alpha) if reliability is not None else slice(None)
    vmin, vmax = limits(surface, values[in_regions], vmin, vmax, symmetric)
    shown = values if threshold is None else np.where(np.abs(values) >= threshold, values, np.nan)
    if np.isnan(shown).all():
        shown, alpha = values, np.zeros(len(values))
    scale = dict(cmap=cmap or (DIFFERENCE if symmetric else "inferno"), vmin=vmin, vmax=vmax)
    groups = () if labels is None else groups
    windows = _inset_windows(surface, labels, groups) if inset and groups else {}
    image = flat_image(surface)
    page = arrange(
        width_inches,
        np.ptp(image.y) / np.ptp(image.x),
        title=title,
        label=label,
        note=note,
        n_groups=len(groups),
        two_dimensional=reliability is not None,
        insets=bool(windows),
    )
    fig, axes = page.figure()
    _draw_brain(axes, surface, shown, windows, alpha=alpha, labels=labels, groups=groups, **scale)
    if reliability is None:
        colour_bar(axes["key"], shown, page.label, alpha=alpha, threshold=threshold, **scale)
    else:
        colour_square(axes["key"], page.label, reliability, threshold=threshold, **scale)
    group_legend(axes["legend"], groups)
    return fig


def _smooth(
    surface: Surface, values: np.ndarray, reliability: Reliability | None, mm: float
) -> tuple[np.ndarray, Reliability | None]:
    """Values and reliability smoothed; only values that the reliability shows take part."""
    if reliability is None:
        return smoothed(surface, values, mm), None
    kept = np.where(reliability.alpha(surface) > 0, values, np.nan)
    return smoothed(surface, kept, mm), replace(reliability, values=smoothed(surface, reliability.values, mm))


def _shown_in_regions(labels: np.ndarray | None, groups: Sequence[str], alpha: np.ndarray) -> np.ndarray | slice:
    """Vertices that show and lie in an outlined region; all where there are none."""
    if labels is None:
        return slice(None)
    inside = np.isin(labels, list(region_colours(labels, groups))) & (alpha > 0)
    return inside if inside.any() else slice(None)


def _draw_brain(
    axes: dict[str | tuple[str, str], Axes],
    surface: Surface,
    shown: np.ndarray,
    windows: dict[str, Window],
    *,
    alpha: np.ndarray | None,
    labels: np.ndarray | None,
    groups: Sequence[str],
    **scale: str | float,
) -> None:
    regions = dict(alpha=alpha, labels=labels, groups=groups)
    without = dict(unnamed=INSET_REGIONS if windows else (), frames=tuple(windows.values()))
    flatmap(axes["flat"], surface, shown, **without, **regions, **scale)
    for hemisphere, view in CAMERA_X:
        inflated(axes[hemisphere, view], surface, shown, hemisphere, view, **regions, **scale)
    colours = vertex_colours(surface, shown, alpha=alpha, **scale)
    for hemisphere, window in windows.items():
        draw_frame(axes["flat"], window)
        draw_inset(axes[hemisphere], surface, colours, labels, groups, window)


def _inset_windows(surface: Surface, labels: np.ndarray, groups: Sequence[str]) -> dict[str, Window]:
    """Part of the flat map that is magnified for each hemisphere; none where no group has an auditory region."""
    if not set(INSET_REGIONS) & set(region_colours(labels, groups)):
        return {}
    windows = {side: auditory_window(surface, labels, side, INSET_WIDTH / INSET_HEIGHT) for side in HEMISPHERES}
    return {side: window for side, window in windows.items() if window}
