"""Figure 1: the method, drawn from a study's own settings, one of its clips and its maps."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from braintuning.cortex.colours import DIFFERENCE, SEQUENTIAL
from braintuning.cortex.flatmap import plot_flatmap
from braintuning.cortex.page import NOTE_LINE, NOTE_POINTS, n_lines, wrap
from braintuning.cortex.subject import Cortex
from braintuning.study import Study

WIDTH, HEIGHT, EDGE = 7.2, 3.92, 0.22
"""Inches: of the page, and at which height from its bottom the small print begins; places on it are in inches."""
TUNED, FROZEN, FITTED = "#f2a877", "#d9d9d9", "#b3d3ea"
POOLED = {
    "mean": "mean over\nthe clip",
    "haemodynamic": "weighted by the\nhaemodynamic response",
    "learned": "with learned\nweights",
}
LOSSES = {"l2": "mean squared error", "cosine + huber": "cosine + Huber"}
HALF, HIGH = 0.42, 0.84
"""Half the height of a box, and all of it."""
ENDS = 2.0
"""Responses at the ends of the colour map, in standard deviations over the voxels of a volume."""


class Model(NamedTuple):
    """What a scheme says of a model: its name, blocks, channels, and the parameters that stay and that are tuned."""

    name: str
    n_layers: int
    dim: int
    n_frozen: int
    n_tuned: int


class Maps(NamedTuple):
    """A volume as the tuned model predicts it and as it was measured, and alignment; (voxels,), NaN where not used."""

    predicted: np.ndarray
    measured: np.ndarray
    alignment: np.ndarray


def draw(
    study: Study, model: Model, clip: np.ndarray, weights: np.ndarray, maps: Maps, cortex: Cortex, note: str
) -> Figure:
    """Draw how a model is tuned (a) and how it is compared with a brain (b).

    `clip`, (samples,), was heard before the volume of the maps, whose voxels lie on `cortex`; `weights`, (frames,), are
    those of its frames, the earliest first.
    """
    small_print = wrap(note, WIDTH - 0.3, NOTE_POINTS)
    below = NOTE_LINE * n_lines(small_print)
    fig = Figure(figsize=(WIDTH, HEIGHT - EDGE + below))
    page = fig.add_axes((0, 0, 1, 1))
    page.set(xlim=(0, WIDTH), ylim=(EDGE - below, HEIGHT))
    page.axis("off")
    _tuning(page, study, model, weights, maps, cortex)
    _alignment(page, study, model, maps, cortex)
    pieces = np.array([np.abs(piece).max() for piece in np.array_split(clip, 260)])
    for middle in (2.95, 0.86):
        wave = page.inset_axes((0.1, middle - 0.3, 1.1, 0.6), transform=page.transData)
        wave.fill_between(np.arange(len(pieces)), -pieces, pieces, color="0.25", lw=0)
        wave.axis("off")
    page.text(WIDTH / 2, EDGE + 0.05 - below, small_print, fontsize=NOTE_POINTS, color="0.35", ha="center", va="bottom")
    return fig


def _tuning(page: Axes, study: Study, model: Model, weights: np.ndarray, maps: Maps, cortex: Cortex) -> None:
    tuning, y = study.tuning_of("brain-tuned"), 2.95
    n_voxels, head, compared = int(np.isfinite(maps.measured).sum()), "linear head\n\n", "the two"
    if tuning.targets == "components":
        head, compared = f"{head}{tuning.n_components or 'principal'} components\nof ", "their components"
    _say(page, 0.1, 3.82, f"a   Brain-tuning: {model.name} learns to predict fMRI volumes", True)
    _box(page, 1.4, y, 0.62, FROZEN, f"front end\n\n{model.n_frozen / 1e6:.1f} M\nfrozen")
    for block in range(model.n_layers):
        corner = (2.22 + (block + 0.1) * 0.8 / model.n_layers, y - HALF)
        page.add_patch(Rectangle(corner, 0.64 / model.n_layers, HIGH, facecolor=TUNED, edgecolor="black", lw=0.5))
    curve = page.inset_axes((3.24, y - 0.3, 0.75, 0.6), transform=page.transData)
    curve.fill_between(np.arange(len(weights)), weights, color=TUNED, lw=0)
    curve.set(xticks=[], yticks=[], ylim=(min(0, 1.1 * weights.min()), 1.25 * weights.max()))
    _box(page, 4.2, y, 0.85, TUNED, f"{head}{n_voxels:,} voxels")
    for x, above, under in (
        (0.65, f"{tuning.clip_seconds:g} s of a story", "up to the end of a volume"),
        (2.62, f"{model.n_layers} blocks of {model.dim}", f"{model.n_tuned / 1e6:.1f} M tuned"),
        (3.62, "frames pooled", POOLED[tuning.pooling]),
    ):
        _say(page, x, y + 0.52, above)
        _say(page, x, y - 0.5, under)
    for start, end in ((1.22, 1.4), (2.02, 2.22), (3.02, 3.22), (4.01, 4.2), (5.05, 5.25)):
        _arrow(page, (start, y), (end, y))
    for name, values, low in (("predicted", maps.predicted, 2.8), ("measured", maps.measured, 1.78)):
        standard = (values - np.nanmean(values)) / (np.nanstd(values) or 1)
        _map(page, standard, cortex, low, f"{name} volume, z from −{ENDS:g} to {ENDS:g}", DIFFERENCE, -ENDS, ENDS)
    _say(page, 4.0, 2.24, f"{LOSSES.get(tuning.loss, tuning.loss)} between {compared}")
    _arrow(page, (5.2, 2.15), (2.62, 2.38), connectionstyle="angle,angleA=180,angleB=-90,rad=4")
    _say(page, 4.0, 2.06, "gradient")


def _alignment(page: Axes, study: Study, model: Model, maps: Maps, cortex: Cortex) -> None:
    features, encoding, y, end = study.features, study.encoding, 0.86, 1.22
    layer, delays = study.figures.layer % (model.n_layers + 1), ", ".join(map(str, encoding.delays))
    low, high = (f"{10**power:,.0f}" for power in (encoding.log10_alpha_min, encoding.log10_alpha_max))
    _say(page, 0.1, 1.62, f"b   Brain alignment: how well layer {layer} predicts a listener's responses", True)
    _say(page, 0.65, y + 0.42, f"windows of {features.window_seconds:g} s")
    _say(page, 0.65, y - 0.42, f"a token every {features.step_seconds:g} s")
    for left, width, colour, text in (
        (1.4, 0.62, TUNED, f"the model\n\nlayers\n0 to {model.n_layers}"),
        (2.22, 0.84, FITTED, f"every TR\n\nz-scored,\nat delays of\n{delays} TRs"),
        (3.26, 0.84, FITTED, f"ridge\n\na penalty for\neach voxel,\n{low} to {high}"),
        (4.3, 0.75, FITTED, "r on the\ntest story\n\nover the\nnoise ceiling"),
    ):
        _box(page, left, y, width, colour, text)
        _arrow(page, (end, y), (left, y))
        end = left + width
    _arrow(page, (end, y), (5.25, y))
    top = max(0.1, np.ceil(10 * np.nanquantile(maps.alignment, 0.99)) / 10)
    _map(page, maps.alignment, cortex, y - HALF, f"alignment from 0 to {top:g}", SEQUENTIAL, 0, top)


def _say(page: Axes, x: float, y: float, text: str, heading: bool = False) -> None:
    style = dict(fontsize=8, ha="left", weight="bold") if heading else dict(fontsize=6.5, ha="center", linespacing=1.1)
    page.text(x, y, text, va="center", **style)


def _box(page: Axes, left: float, middle: float, width: float, colour: str, text: str) -> None:
    style = dict(boxstyle="round,pad=0,rounding_size=0.06", facecolor=colour, edgecolor="black", lw=0.6)
    page.add_patch(FancyBboxPatch((left, middle - HALF), width, HIGH, **style))
    _say(page, left + width / 2, middle, text)


def _arrow(page: Axes, start: Sequence[float], end: Sequence[float], **path: object) -> None:
    style = dict(arrowstyle="-|>", mutation_scale=6, lw=0.8, color="black", shrinkA=0, shrinkB=0)
    page.add_patch(FancyArrowPatch(start, end, **style, **path))


def _map(
    page: Axes, values: np.ndarray, cortex: Cortex, low: float, title: str, cmap: str, vmin: float, vmax: float
) -> None:
    ax = page.inset_axes((5.25, low, 1.9, 0.78), transform=page.transData)
    plot_flatmap(values, cortex, groups=(), cmap=cmap, vmin=vmin, vmax=vmax, ax=ax)
    _say(page, 6.2, low + 0.83, title)
