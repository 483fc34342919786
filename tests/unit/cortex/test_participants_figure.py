from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from braintuning.cortex.brainplot import Panel, participants_figure
from braintuning.cortex.raster import flat_image
from braintuning.cortex.regions import hcp_mmp_labels, members
from braintuning.cortex.surface import Surface, fs_lr
from braintuning.errors import InputError
from matplotlib.backends.backend_agg import FigureCanvasAgg

LOOK = dict(label="noise ceiling (r)", vmin=0.0, vmax=1.0)


def ceilings(level):
    values = np.where(members(hcp_mmp_labels(), "late_language"), level, 0.1)
    return np.where(fs_lr().cortex, values, np.nan)


def panel(number, level=0.8):
    caption = f"SIM{number:02d}: 12,345 vertices above 0.4 (authors: 23,539)"
    return Panel(fs_lr(), ceilings(level), hcp_mmp_labels(), caption)


def own_surface():
    """A participant with 9 vertices a hemisphere: a sheet three by three."""
    x, y = np.meshgrid(*2 * [np.arange(3) * 60.0])
    sheet = np.column_stack([x.ravel(), y.ravel()])
    faces = np.array([[i, i + 1, i + 3] for i in (0, 1, 3, 4)] + [[i + 1, i + 4, i + 3] for i in (0, 1, 3, 4)])
    return Surface(
        name="UTS03",
        vertices_per_hemisphere=(9, 9),
        inflated=dict.fromkeys(("left", "right"), (np.column_stack([np.zeros(9), sheet]), faces)),
        sphere={},
        sulcal_depth=np.linspace(-1, 1, 18),
        cortex=np.ones(18, bool),
        flat_coordinates=np.concatenate([sheet, sheet + np.array([150, 0])]),
        flat_faces=np.concatenate([faces, faces + 9]),
    )


def pixels(fig):
    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


@pytest.mark.parametrize("n", [1, 2, 4, 8, 9])
@pytest.mark.parametrize("width", [7.2, 3.5])
def test_panels_and_texts_are_apart_and_inside_the_page(n, width):
    panels = [panel(k + 1) for k in range(n)]
    note = "Demo on simulated listeners; surface and regions: HCP S1200 fs_LR, Glasser et al. 2016"
    fig = participants_figure(panels, **LOOK, title="Noise ceilings", threshold=0.4, note=note, width_inches=width)
    FigureCanvasAgg(fig).draw()
    maps, (bar, legend) = fig.axes[:n], fig.axes[n:]
    texts = [*fig.texts, bar.xaxis.label, *bar.get_xticklabels(), *legend.get_legend().get_texts()]
    boxes = [ax.get_window_extent() for ax in maps] + [text.get_window_extent() for text in texts]
    assert len(fig.texts) == n + 2
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    for box in boxes:
        assert 0 <= box.x0 and box.x1 <= fig.bbox.width and 0 <= box.y0 and box.y1 <= fig.bbox.height
    widths = [box.width / fig.dpi for box in boxes[:n]]
    assert np.ptp(widths) < 0.01 and min(widths) > 1.5


def test_one_scale_for_all_and_the_threshold_hides():
    panels = [panel(1, 0.9), panel(2, 0.5), panel(3, 0.3)]
    fig = participants_figure(panels, **LOOK, threshold=0.4, width_inches=7.2)
    image = pixels(fig)
    warm = []
    for ax in fig.axes[:3]:
        box = ax.get_window_extent()
        rows = slice(int(len(image) - box.y1), int(len(image) - box.y0))
        shown = image[rows, int(box.x0) : int(box.x1)]
        red = shown[..., 0] - shown[..., 2] > 60
        warm.append((red.mean(), np.median(shown[red].sum(axis=-1)) if red.any() else 0))
    assert warm[0][0] > 0.02 and warm[1][0] > 0.02
    assert warm[0][1] > warm[1][1] + 30
    assert warm[2][0] < 0.2 * warm[0][0]


def test_participants_have_their_own_surfaces_and_may_have_no_labels_or_no_values():
    own = own_surface()
    panels = [
        panel(1),
        Panel(own, np.linspace(0, 1, 18), None, "own"),
        Panel(fs_lr(), np.full(64984, np.nan), None, "nothing measured"),
    ]
    fig = participants_figure(panels, **LOOK)
    limits = [ax.get_xlim() for ax in fig.axes[:3]]
    assert np.ptp(limits[1]) == pytest.approx(270 + 8, rel=0.01)
    assert limits[0] == limits[2] != limits[1]
    assert [len(ax.collections) > 0 for ax in fig.axes[:3]] == [True, False, False]
    assert flat_image(own).vertex.max() == 17


def test_bad_panels_are_named():
    with pytest.raises(InputError, match="found 0, expected 1 to 9"):
        participants_figure([], **LOOK)
    with pytest.raises(InputError, match="found 10, expected 1 to 9"):
        participants_figure([panel(k) for k in range(10)], **LOOK)
    with pytest.raises(InputError, match=r"values of 'SIM07' on fs_LR-32k: found shape \(5,\), expected \(64984,\)"):
        participants_figure([panel(1), Panel(fs_lr(), np.zeros(5), None, "SIM07")], **LOOK)
    flatless = replace(own_surface(), flat_coordinates=None, flat_faces=None)
    with pytest.raises(InputError, match="surface UTS03: has no flat mesh"):
        participants_figure([Panel(flatless, np.zeros(18), None, "own")], **LOOK)
    with pytest.raises(InputError, match="no vertex is labelled"):
        participants_figure([Panel(own_surface(), np.zeros(18), np.full(18, "V1"), "own")], **LOOK)
