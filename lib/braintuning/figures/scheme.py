"""Figure 1: what is done, drawn from a study's own settings, a clip that was heard and maps that came out."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from braintuning.cortex.colours import DIFFERENCE, SEQUENTIAL
from braintuning.cortex.flatmap import plot_flatmap
from braintuning.cortex.page import NOTE_POINTS, wrap
from braintuning.cortex.subject import Cortex
from braintuning.study import Study
from braintuning.timing import SAMPLE_RATE

WIDTH, HEIGHT = 7.2, 3.95
"""Inches; places on the page are in inches from its lower left corner."""
POINTS = 6.5
TUNED, FROZEN, FITTED = "#f2a877", "#d9d9d9", "#b3d3ea"
POOLED = {
    "mean": "mean over the\nframes of the clip",
    "haemodynamic": "frames weighted as\nthe blood responds",
    "learned": "frames weighted,\nweights learnt",
}
LOSSES = {"l2": "mean squared error", "spatial correlation": "spatial correlation", "cosine + huber": "cosine + Huber"}
STRONGEST = 2.0
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

    Parameters
    ----------
    clip : (samples,) float32
        What was heard before the volume of the maps, 16 kHz.
    weights : (frames,) float
        Of the clip's frames, the earliest first.
    cortex : Cortex
        Where the voxels of the maps lie.
    """
    fig = Figure(figsize=(WIDTH, HEIGHT))
    page = fig.add_axes((0, 0, 1, 1))
    page.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    page.axis("off")
    _tuning(page, study, model, clip, weights, maps, cortex)
    _alignment(page, study, model, clip, maps, cortex)
    text = wrap(note, WIDTH - 0.3, NOTE_POINTS)
    page.text(WIDTH / 2, 0.05, text, fontsize=NOTE_POINTS, color="0.35", ha="center", va="bottom")
    return fig


def _tuning(
    page: Axes, study: Study, model: Model, clip: np.ndarray, weights: np.ndarray, maps: Maps, cortex: Cortex
) -> None:
    tuning, middle = study.tuning_of("brain-tuned"), 2.95
    _say(page, 0.1, 3.82, f"a   Brain-tuning: {model.name} learns to predict volumes", 8, ha="left", weight="bold")
    _wave(page, clip, (0.1, middle - 0.3, 1.1, 0.6))
    _say(page, 0.65, middle + 0.52, f"{tuning.clip_seconds:g} s of a story")
    _say(page, 0.65, middle - 0.5, "that end with a volume")
    _box(page, (1.4, middle - 0.42, 0.62, 0.84), f"front end\n\n{_millions(model.n_frozen)}\nfrozen", FROZEN)
    _blocks(page, (2.22, middle - 0.42, 0.8, 0.84), model.n_layers)
    _say(page, 2.62, middle + 0.52, f"{model.n_layers} blocks of {model.dim}")
    _say(page, 2.62, middle - 0.5, f"{_millions(model.n_tuned)} tuned")
    curve = page.inset_axes((3.24, middle - 0.3, 0.75, 0.6), transform=page.transData)
    curve.fill_between(np.linspace(-len(clip) / SAMPLE_RATE, 0, len(weights)), weights, color=TUNED, lw=0)
    curve.set(xticks=[], yticks=[], ylim=(min(0, 1.1 * weights.min()), 1.25 * weights.max()))
    _say(page, 3.62, middle + 0.52, "one state of them")
    _say(page, 3.62, middle - 0.5, POOLED[tuning.pooling])
    n_voxels = int(np.isfinite(maps.measured).sum())
    of_components = f"{tuning.n_components or 'principal'} components\nof " if tuning.targets == "components" else ""
    _box(page, (4.2, middle - 0.42, 0.85, 0.84), f"linear head\n\n{of_components}{n_voxels:,} voxels", TUNED)
    for start, end in ((1.22, 1.4), (2.02, 2.22), (3.02, 3.22), (4.01, 4.2), (5.05, 5.25)):
        _arrow(page, (start, middle), (end, middle))
    for name, values, low in (("predicted", maps.predicted, 2.8), ("measured", maps.measured, 1.78)):
        standard = (values - np.nanmean(values)) / (np.nanstd(values) or 1)
        _map(page, standard, cortex, (5.25, low, 1.9, 0.78), DIFFERENCE, -STRONGEST, STRONGEST)
        _say(page, 6.2, low + 0.83, f"{name} volume")
    _say(page, 5.15, 2.24, f"{LOSSES[tuning.loss]} between the two", ha="right")
    path = dict(connectionstyle="angle,angleA=180,angleB=-90,rad=4")
    page.add_patch(FancyArrowPatch((5.2, 2.15), (2.62, 2.38), **_line(), **path))
    _say(page, 3.9, 2.06, "gradient")


def _alignment(page: Axes, study: Study, model: Model, clip: np.ndarray, maps: Maps, cortex: Cortex) -> None:
    features, encoding, middle = study.features, study.encoding, 0.86
    title = f"b   Brain alignment: how well its layer {study.figures.layer % (model.n_layers + 1)} predicts a listener"
    _say(page, 0.1, 1.62, title, 8, ha="left", weight="bold")
    _wave(page, clip, (0.1, middle - 0.3, 1.1, 0.6))
    _say(page, 0.65, middle + 0.42, f"windows of {features.window_seconds:g} s")
    _say(page, 0.65, middle - 0.42, f"a token every {features.step_seconds:g} s")
    delays = ", ".join(map(str, encoding.delays))
    low, high = (f"{10**power:,.0f}" for power in (encoding.log10_alpha_min, encoding.log10_alpha_max))
    boxes = (
        (1.4, 0.62, f"the model\n\nlayers\n0 to {model.n_layers}", TUNED),
        (2.22, 0.84, f"every TR\n\nz-scored,\nat delays of\n{delays} TRs", FITTED),
        (3.26, 0.84, f"ridge\n\na penalty for\neach voxel,\n{low} to {high}", FITTED),
        (4.3, 0.75, "r on the\ntest story\n\nover the\nnoise ceiling", FITTED),
    )
    start = 1.22
    for left, width, text, colour in boxes:
        _box(page, (left, middle - 0.42, width, 0.84), text, colour)
        _arrow(page, (start, middle), (left, middle))
        start = left + width
    _arrow(page, (start, middle), (5.25, middle))
    top = max(0.1, np.ceil(10 * np.nanquantile(maps.alignment, 0.99)) / 10)
    _map(page, maps.alignment, cortex, (5.25, middle - 0.42, 1.9, 0.78), SEQUENTIAL, 0, top)
    _say(page, 6.2, middle + 0.42, f"alignment, 0 to {top:g}")


def _say(page: Axes, x: float, y: float, text: str, size: float = POINTS, ha: str = "center", **style: object) -> None:
    page.text(x, y, text, fontsize=size, ha=ha, va="center", linespacing=1.1, **style)


def _box(page: Axes, place: Sequence[float], text: str, colour: str) -> None:
    left, bottom, width, height = place
    style = dict(boxstyle="round,pad=0,rounding_size=0.06", facecolor=colour, edgecolor="black", lw=0.6)
    page.add_patch(FancyBboxPatch((left, bottom), width, height, **style))
    _say(page, left + width / 2, bottom + height / 2, text)


def _blocks(page: Axes, place: Sequence[float], n_layers: int) -> None:
    """A bar for each transformer block."""
    left, bottom, width, height = place
    each = width / n_layers
    for number in range(n_layers):
        corner = (left + number * each + 0.1 * each, bottom)
        page.add_patch(Rectangle(corner, 0.8 * each, height, facecolor=TUNED, edgecolor="black", lw=0.5))


def _line() -> dict[str, object]:
    return dict(arrowstyle="-|>", mutation_scale=6, lw=0.8, color="black", shrinkA=0, shrinkB=0)


def _arrow(page: Axes, start: tuple[float, float], end: tuple[float, float], kind: str = "-|>") -> None:
    page.add_patch(FancyArrowPatch(start, end, **{**_line(), "arrowstyle": kind}))


def _wave(page: Axes, clip: np.ndarray, place: Sequence[float]) -> None:
    """The envelope of a sound, both ways from the middle."""
    pieces = np.array([np.abs(piece).max() for piece in np.array_split(clip, 260)])
    ax = page.inset_axes(place, transform=page.transData)
    ax.fill_between(np.arange(len(pieces)), -pieces, pieces, color="0.25", lw=0)
    ax.axis("off")


def _map(
    page: Axes, values: np.ndarray, cortex: Cortex, place: Sequence[float], cmap: str, vmin: float, vmax: float
) -> None:
    ax = page.inset_axes(place, transform=page.transData)
    plot_flatmap(values, cortex, groups=(), cmap=cmap, vmin=vmin, vmax=vmax, ax=ax)


def _millions(n_parameters: int) -> str:
    return f"{n_parameters / 1e6:.1f} M"
