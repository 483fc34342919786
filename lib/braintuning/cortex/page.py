"""What stands around pictures of the cortex on a page: wrapped text, colour bars and legends."""

from collections.abc import Sequence
from textwrap import fill

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator

from braintuning.cortex.colours import MIDDLE_FOLD, Reliability
from braintuning.cortex.flatmap import CASING, GROUP_COLOURS

TITLE_POINTS = 8.0
LABEL_POINTS = 6.5
NOTE_POINTS = 6.0
NOTE_LINE = 0.1
TICK_INCHES = 0.33


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
    *,
    cmap: str,
    vmin: float,
    vmax: float,
    alpha: np.ndarray | None = None,
    threshold: float | None = None,
) -> None:
    """Fill axes with a horizontal colour bar, pointed where values go beyond it, grey where the threshold hides them.

    Parameters
    ----------
    ax : Axes
    values, alpha : ndarray, (n_vertices,)
        What is shown; a value of opacity 0 makes no point.
    label : str
    cmap, vmin, vmax : str, float, float
    threshold : float, optional
    """
    values = values if alpha is None else np.where(alpha > 0, values, np.nan)
    beyond = {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}
    extend = beyond[bool((values < vmin).any()), bool((values > vmax).any())]
    bar = ax.get_figure().colorbar(
        ScalarMappable(Normalize(vmin, vmax), cmap), cax=ax, orientation="horizontal", extend=extend, extendfrac=0.04
    )
    bar.outline.set_linewidth(0.5)
    _label_axis(bar.ax, label)
    if threshold:
        bar.ax.axvspan(max(vmin, -threshold), min(vmax, threshold), color=str(MIDDLE_FOLD), lw=0)


def colour_square(
    ax: Axes,
    label: str,
    reliability: Reliability,
    *,
    cmap: str,
    vmin: float,
    vmax: float,
    threshold: float | None = None,
) -> None:
    """Fill axes with a two-dimensional colour legend: values from left to right, reliability from bottom to top.

    Parameters
    ----------
    ax : Axes
    label : str
        What the values are.
    reliability : Reliability
        What fades them, and between which limits.
    cmap, vmin, vmax : str, float, float
    threshold : float, optional
        Values whose size is smaller are grey.
    """
    values, alpha = np.linspace(vmin, vmax, 128), np.linspace(0, 1, 32)[:, None, None]
    top = colormaps[cmap](Normalize(vmin, vmax)(values))[None, :, :3]
    hidden = np.abs(values) < (threshold or 0)
    square = MIDDLE_FOLD * (1 - alpha) + top * alpha
    square[:, hidden] = MIDDLE_FOLD
    extent = (vmin, vmax, reliability.low, reliability.high)
    ax.imshow(square, origin="lower", extent=extent, aspect="auto", interpolation="nearest")
    _label_axis(ax, label)
    ax.set_yticks([reliability.low, reliability.high], [f"{reliability.low:g}", f"≥ {reliability.high:g}"])
    for tick, alignment in zip(ax.get_yticklabels(), ("bottom", "top"), strict=True):
        tick.set_verticalalignment(alignment)
    ax.set_ylabel(reliability.label, fontsize=LABEL_POINTS - 0.5, labelpad=1.5)
    ax.spines[:].set_linewidth(0.5)


def _label_axis(ax: Axes, label: str) -> None:
    inches = ax.get_position().width * ax.get_figure().get_figwidth()
    ax.xaxis.set_major_locator(MaxNLocator(int(np.clip(inches / TICK_INCHES, 2, 5)), steps=[1, 2, 2.5, 4, 5, 10]))
    ax.tick_params(labelsize=6, width=0.5, length=2, pad=1.5)
    ax.set_xlabel(label, fontsize=LABEL_POINTS, labelpad=1.5)


def group_legend(ax: Axes, groups: Sequence[str], n_columns: int = 1) -> None:
    """Fill axes with a line of each group's colour beside its name."""
    ax.axis("off")
    if not groups:
        return
    casing = [withStroke(linewidth=2.4, foreground=CASING)]
    handles = [Line2D([], [], color=GROUP_COLOURS[group], lw=1.2, path_effects=casing) for group in groups]
    names = [group.replace("_", " ") for group in groups]
    style = dict(loc="center left", frameon=False, labelspacing=0.3, handlelength=1.8, borderpad=0, columnspacing=1.2)
    ax.legend(handles, names, fontsize=LABEL_POINTS, ncols=n_columns, **style)
