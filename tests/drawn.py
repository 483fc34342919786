"""Planted values on fs_LR, and what a figure of them shows."""

from itertools import combinations

import numpy as np
from braintuning.cortex.regions import GROUPS, hcp_mmp_labels, members
from braintuning.cortex.surface import fs_lr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

SCALE = dict(cmap="inferno", vmin=0.0, vmax=1.0)
MAPPABLE = ScalarMappable(Normalize(0.0, 1.0), "inferno")
NAMED = set(GROUPS["early_auditory"]) | set(GROUPS["late_language"])


def planted():
    """Language regions at 0.8, 0.1 elsewhere, NaN on the medial wall."""
    surface = fs_lr()
    values = np.full(surface.n_vertices, 0.1)
    values[members(hcp_mmp_labels(), "late_language")] = 0.8
    values[~surface.cortex] = np.nan
    return values


def pixels(fig):
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def texts(fig, gid):
    return [text for ax in fig.axes for text in ax.texts if text.get_gid() == gid]


def coloured(image):
    return np.ptp(image, axis=-1) > 40


def page_texts(fig):
    """Every text around the maps: titles, notes, axis labels, tick labels and the legend."""
    labels = [label for ax in fig.axes for label in (ax.xaxis.label, ax.yaxis.label) if label.get_text()]
    ticks = [t for ax in fig.axes if ax.axison for t in (*ax.get_xticklabels(), *ax.get_yticklabels()) if t.get_text()]
    legend = [text for ax in fig.axes if ax.get_legend() for text in ax.get_legend().get_texts()]
    return [text for text in [*fig.texts, *labels, *ticks, *legend] if text.get_text()]


def assert_apart_and_inside(fig, texts):
    boxes = {text: text.get_window_extent() for text in texts}
    overlapping = [(a.get_text(), b.get_text()) for a, b in combinations(texts, 2) if boxes[a].overlaps(boxes[b])]
    assert not overlapping
    for text, box in boxes.items():
        inside = (
            box.x0 >= -0.5 and box.x1 <= fig.bbox.width + 0.5 and box.y0 >= -0.5 and box.y1 <= fig.bbox.height + 0.5
        )
        assert inside, text.get_text()
