"""Each kind of figure against a picture of it in tests/images; `pytest --mpl` compares.

`pytest --mpl-generate-path=tests/images tests/unit/cortex/test_images.py` makes the pictures anew; look at them before
you commit them.
"""

import numpy as np
import pandas as pd
import pytest
from braintuning.cortex.colours import Reliability
from braintuning.cortex.figure import Panel, cortex_figure, participants_figure
from braintuning.cortex.flatmap import draw_inflated, plot_flatmap
from braintuning.cortex.regions import DEFAULT_GROUPS, hcp_mmp_labels, members
from braintuning.cortex.surface import fs_lr
from braintuning.figures import style as plots
from braintuning.figures.preference import PAIR_STYLES, similarity_curves
from matplotlib import rc_context
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

compared = pytest.mark.mpl_image_compare(
    baseline_dir="../../images", tolerance=4, style="default", deterministic=True, savefig_kwargs={"dpi": 95}
)
SCALE = dict(cmap="inferno", vmin=0.0, vmax=1.0)
CONDITIONS = ("pretrained", "brain-tuned", "random-brain-tuned")


def planted():
    """Alignment that falls from the auditory to the language regions, with a gradient from back to front."""
    surface, labels = fs_lr(), hcp_mmp_labels()
    along = np.concatenate([surface.inflated[side][0][:, 1] for side in ("left", "right")])
    values = 0.05 + 0.1 * (along - along.min()) / np.ptp(along)
    values += 0.4 * members(labels, "late_language") + 0.7 * members(labels, "early_auditory")
    return np.where(surface.cortex, values, np.nan)


def table():
    rows = [
        (participant, condition, layer, 0.2 + 0.05 * k + 0.02 * layer - 0.01 * person)
        for person, participant in enumerate(("SIM01", "SIM02"))
        for k, condition in enumerate(CONDITIONS)
        for layer in range(4)
    ]
    return pd.DataFrame(rows, columns=["participant", "condition", "layer", "alignment"])


@compared
def test_cortex_figure():
    look = dict(label="alignment (r)", title="Planted alignment", threshold=0.2, vmin=0, vmax=1, note="planted values")
    return cortex_figure(fs_lr(), planted(), labels=hcp_mmp_labels(), width_inches=3.5, **look)


@compared
def test_difference_with_reliability():
    change = np.where(members(hcp_mmp_labels(), "late_language"), 0.1, -0.05)
    reliability = Reliability(planted(), "noise ceiling", 0.2, 0.6)
    look = dict(label="change of alignment", symmetric=True, reliability=reliability, width_inches=3.5)
    return cortex_figure(fs_lr(), change, labels=hcp_mmp_labels(), **look)


@compared
def test_participants_figure():
    panels = [Panel(fs_lr(), planted() * share, hcp_mmp_labels(), f"SIM: {share:g}") for share in (1, 0.8, 0.6)]
    return participants_figure(panels, label="noise ceiling (r)", vmin=0, vmax=1, threshold=0.3, width_inches=4.2)


@compared
def test_flatmap_with_all_names():
    fig = Figure(figsize=(5, 2))
    plot_flatmap(planted(), ax=fig.add_axes((0, 0, 1, 1)), **SCALE)
    return fig


@compared
def test_inflated():
    fig = Figure(figsize=(2, 1.5))
    ax, scale = fig.add_axes((0, 0, 1, 1)), ScalarMappable(Normalize(0.0, 1.0), "inferno")
    groups = dict(labels=hcp_mmp_labels(), groups=DEFAULT_GROUPS)
    draw_inflated(ax, fs_lr(), ("left", "lateral"), planted(), scale, **groups)
    return fig


@compared
def test_condition_bars():
    with rc_context(fname=plots.STYLE):
        fig = Figure(figsize=(3, 2))
        first = table()[lambda rows: rows["layer"] == 0].assign(backbone="whisper")
        plots.condition_bars(
            fig.add_axes((0.25, 0.2, 0.7, 0.75)), first, "alignment", ["whisper"], CONDITIONS, "alignment"
        )
    return fig


@compared
def test_layer_curves():
    with rc_context(fname=plots.STYLE):
        fig = Figure(figsize=(2.4, 2))
        plots.layer_curves(fig.add_axes((0.25, 0.2, 0.7, 0.75)), table(), "alignment", CONDITIONS, "alignment")
    return fig


@compared
def test_similarity_curves():
    rows = [(layer, kind, 0.9 - 0.3 * k + 0.02 * layer) for layer in range(4) for k, kind in enumerate(PAIR_STYLES)]
    with rc_context(fname=plots.STYLE):
        fig = Figure(figsize=(2.4, 2))
        frame = pd.DataFrame(rows, columns=["layer", "pair_type", "similarity"])
        similarity_curves(fig.add_axes((0.2, 0.2, 0.75, 0.75)), frame, "brain-tuned")
    return fig
