import time
from dataclasses import replace
from itertools import combinations

import numpy as np
import pypdf
import pytest
from braintuning.brainplot import VIEWS, cortex_figure, flatmap, inflated, save_figure, vertex_colours
from braintuning.errors import InputError
from braintuning.rois import GROUPS, hcp_mmp_labels, members, place_names
from braintuning.surfaces import fs_lr
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from scipy.spatial import cKDTree

SCALE = dict(cmap="inferno", vmin=0.0, vmax=1.0)
DRAWN = set(GROUPS["early_auditory"]) | set(GROUPS["late_language"])


def planted():
    """Language regions at 0.8, 0.1 elsewhere, NaN on the medial wall."""
    surface = fs_lr()
    values = np.full(surface.n_vertices, 0.1)
    values[members(hcp_mmp_labels(), "late_language")] = 0.8
    values[~surface.cortex] = np.nan
    return values


def pixels(fig):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(fig)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].astype(int)


def texts(fig, gid):
    return [text for ax in fig.axes for text in ax.texts if text.get_gid() == gid]


def coloured(image):
    return np.ptp(image, axis=-1) > 40


def test_colours_blend_over_the_grey_folds():
    surface = fs_lr()
    values = np.full(surface.n_vertices, 0.7)
    values[10] = np.nan
    alpha = np.ones(surface.n_vertices)
    alpha[20], alpha[30] = 0.0, 0.25
    colours = vertex_colours(surface, values, **SCALE, alpha=alpha)
    folds = vertex_colours(surface, values, **SCALE, alpha=np.zeros(surface.n_vertices))
    top = np.array(colormaps["inferno"](0.7))
    np.testing.assert_allclose(colours[0], top)
    np.testing.assert_array_equal(colours[[10, 20]], folds[[10, 20]])
    np.testing.assert_allclose(colours[30], 0.25 * top + 0.75 * folds[30])
    assert (colours[:, 3] == 1).all()
    np.testing.assert_array_equal(folds[:, 0], folds[:, 2])
    assert folds[surface.sulcal_depth > 0.5, 0].min() > folds[surface.sulcal_depth < -0.8, 0].max()


def test_bad_values_are_named():
    surface, values = fs_lr(), planted()
    with pytest.raises(InputError, match=r"values on fs_LR-32k: found shape \(59412,\), expected \(64984,\)"):
        vertex_colours(surface, values[surface.cortex], **SCALE)
    with pytest.raises(InputError, match=r"alpha on fs_LR-32k: found shape \(3,\)"):
        vertex_colours(surface, values, **SCALE, alpha=np.ones(3))
    with pytest.raises(InputError, match="all 64984 are NaN"):
        cortex_figure(surface, np.full(64984, np.nan), label="r")
    with pytest.raises(InputError, match="vmin 1 and vmax 1"):
        cortex_figure(surface, values, label="r", vmin=1, vmax=1)
    flatless = replace(surface, flat_coordinates=None, flat_faces=None)
    with pytest.raises(InputError, match="has no flat mesh"):
        flatmap(Figure().add_subplot(), flatless, values, **SCALE)
    with pytest.raises(InputError, match="nearest is 'late_language'"):
        flatmap(Figure().add_subplot(), surface, values, **SCALE, labels=hcp_mmp_labels(), groups=["late_languages"])
    with pytest.raises(InputError, match="expected one of"):
        inflated(Figure().add_subplot(projection="3d"), surface, values, "left", "above", **SCALE)
    with pytest.raises(InputError, match="expected '3d'"):
        inflated(Figure().add_subplot(), surface, values, "left", "lateral", **SCALE)


def test_flat_map_shows_each_vertex_at_its_place():
    surface, labels = fs_lr(), hcp_mmp_labels()
    values = np.where(labels == "PGi", 0.7, np.nan)
    fig = Figure(figsize=(6, 3), dpi=150)
    ax = fig.add_axes((0, 0, 1, 1))
    assert flatmap(ax, surface, values, **SCALE) is ax
    image = pixels(fig)
    points = surface.flat_coordinates
    distance = cKDTree(np.nan_to_num(points[labels != "PGi"], nan=-999)).query(points[labels == "PGi"])[0]
    middle = np.flatnonzero(labels == "PGi")[distance > 6]
    elsewhere = np.flatnonzero(np.isin(labels, ["4", "V1", "7m", "TE1m"]) & ~np.isnan(points[:, 0]))
    for vertices, is_coloured in ((middle, True), (elsewhere, False)):
        column, row = np.rint(ax.transData.transform(points[vertices])).astype(int).T
        seen = image[len(image) - 1 - row, column]
        assert len(seen) > 20
        if is_coloured:
            np.testing.assert_allclose(
                seen, np.broadcast_to(255 * np.array(colormaps["inferno"](0.7)[:3]), seen.shape), atol=2
            )
        else:
            assert not coloured(seen).any()


@pytest.mark.parametrize("width", [7.2, 3.5])
def test_names_in_the_figure_do_not_overlap_and_are_not_cut(width):
    fig = Figure(figsize=(width, 0.4 * width))
    flatmap(fig.add_axes((0, 0, 1, 1)), fs_lr(), planted(), **SCALE, labels=hcp_mmp_labels())
    pixels(fig)
    names = texts(fig, "name")
    assert sorted(name.get_text() for name in names) == sorted(2 * list(DRAWN))
    boxes = {name: name.get_window_extent() for name in names}
    assert not [(a.get_text(), b.get_text()) for a, b in combinations(names, 2) if boxes[a].overlaps(boxes[b])]
    for box in boxes.values():
        assert 0 <= box.x0 and box.x1 <= fig.bbox.width and 0 <= box.y0 and box.y1 <= fig.bbox.height


def test_names_can_be_left_out_and_groups_chosen():
    fig = Figure(figsize=(5, 2))
    ax = fig.add_axes((0, 0, 1, 1))
    flatmap(ax, fs_lr(), planted(), **SCALE, labels=hcp_mmp_labels(), groups=["angular_gyrus"], show_names=False)
    assert not ax.texts
    assert sum(len(c.get_paths()) for c in ax.collections[1:2]) == 2 * len(GROUPS["angular_gyrus"])


def test_inflated_views_show_the_hemisphere_and_side_asked_for():
    surface, labels = fs_lr(), hcp_mmp_labels()
    left = np.arange(surface.n_vertices) < surface.vertices_per_hemisphere[0]
    values = np.where(left & np.isin(labels, GROUPS["late_language"]), 0.7, np.nan)
    shown = {}
    for view in VIEWS:
        fig = Figure(figsize=(1.5, 1.1), dpi=100)
        inflated(fig.add_axes((0, 0, 1, 1), projection="3d"), surface, values, *view, **SCALE)
        image = pixels(fig)
        shown[view] = coloured(image)
        brain = np.argwhere((image < 250).any(axis=-1))
        assert (np.ptp(brain, axis=0) > 0.8 * np.array(image.shape[:2])).any()
        assert brain.min() >= 0
    assert shown["left", "lateral"].mean() > 0.05
    for view in (("left", "medial"), ("right", "medial"), ("right", "lateral")):
        assert shown[view].mean() < 0.002
    frontal = np.where(left & (labels == "44"), 0.7, np.nan)
    fig = Figure(figsize=(1.5, 1.1), dpi=100)
    inflated(fig.add_axes((0, 0, 1, 1), projection="3d"), surface, frontal, "left", "lateral", **SCALE)
    assert np.argwhere(coloured(pixels(fig)))[:, 1].mean() < 0.4 * 150


def test_figure_without_limits_is_centred_when_symmetric():
    surface = fs_lr()
    values = np.linspace(-1, 3, surface.n_vertices)
    fig = cortex_figure(surface, values, label="change", symmetric=True, width_inches=3.5)
    (bar,) = [ax for ax in fig.axes if ax.get_xlabel() == "change"]
    low, high = bar.get_xlim()
    assert -low == high == pytest.approx(np.percentile(np.abs(values), 99))
    assert np.min(colormaps["RdBu_r"](0.5)[:3]) > 0.9


def test_threshold_above_all_values_leaves_the_folds_alone():
    fig = cortex_figure(fs_lr(), planted(), label="r", vmin=0, vmax=1, threshold=0.9, width_inches=3.5)
    for ax in fig.axes[1:]:
        ax.set_visible(False)
    image = pixels(fig)
    assert (image < 250).any()
    assert not coloured(image).any()


def test_long_texts_stay_in_the_figure():
    fig = cortex_figure(
        fs_lr(),
        planted(),
        label="change of the noise-ceiling-normalised alignment, brain-tuned minus pretrained (r)",
        title="Alignment in late language regions of all simulated participants and stories",
        note="simulated listeners; HCP S1200 fs_LR, regions of Glasser et al. 2016; " * 2,
        labels=hcp_mmp_labels(),
        width_inches=3.5,
    )
    for ax in fig.axes[: 1 + len(VIEWS)]:
        ax.set_visible(False)
    pixels(fig)
    labels = [ax.xaxis.label for ax in fig.axes if ax.get_xlabel()]
    legend = [text for ax in fig.axes if ax.get_legend() for text in ax.get_legend().get_texts()]
    boxes = [text.get_window_extent() for text in [*fig.texts, *labels, *legend]]
    assert len(boxes) == 6
    for a, b in combinations(boxes, 2):
        assert not a.overlaps(b)
    for box in boxes:
        assert 0 <= box.x0 and box.x1 <= fig.bbox.width and 0 <= box.y0 and box.y1 <= fig.bbox.height


def test_page_figure_is_small_and_keeps_text_as_truetype(tmp_path):
    fig = cortex_figure(
        fs_lr(),
        planted(),
        label="correlation (r)",
        title="Planted",
        labels=hcp_mmp_labels(),
        note="simulated listeners",
    )
    png, pdf = save_figure(fig, tmp_path / "made" / "fig2.draft")
    assert (png.name, pdf.name) == ("fig2.draft.png", "fig2.draft.pdf")
    assert sorted(path.name for path in png.parent.iterdir()) == ["fig2.draft.pdf", "fig2.draft.png"]
    assert pdf.stat().st_size < 2_000_000
    with Image.open(png) as image:
        assert image.width == 2160
        assert round(image.info["dpi"][0]) == 300
    (page,) = pypdf.PdfReader(pdf).pages
    text = page.extract_text()
    assert all(words in text for words in ("correlation (r)", "Planted", "simulated listeners", "primary auditory"))
    assert all(text.count(name) == 2 for name in DRAWN)
    fonts = {font.get_object()["/Subtype"] for font in page["/Resources"]["/Font"].values()}
    assert fonts <= {"/Type0", "/TrueType"}
    flat_map_views_and_colour_bar = 1 + len(VIEWS) + 1
    images = [item for item in page["/Resources"]["/XObject"].values() if item.get_object()["/Subtype"] == "/Image"]
    assert len(images) == flat_map_views_and_colour_bar


def test_pdf_of_values_that_differ_from_vertex_to_vertex_is_small(tmp_path):
    fig = Figure(figsize=(3.4, 3.4))
    ax = fig.add_axes((0, 0, 1, 1))
    ax.axis("off")
    ax.imshow(np.random.default_rng(0).uniform(size=(1020, 1020, 3)), aspect="auto")
    fig.text(0.5, 0.5, "text")
    png, pdf = save_figure(fig, tmp_path / "noise")
    assert png.stat().st_size > 2_500_000
    assert pdf.stat().st_size < 2_000_000
    assert pypdf.PdfReader(pdf).pages[0].extract_text() == "text"
    with Image.open(png) as image:
        assert image.size == (1020, 1020)


def test_two_runs_write_the_same_bytes(tmp_path):
    written = []
    for run in "ab":
        place_names.cache_clear()
        fig = Figure(figsize=(3.5, 2))
        style = dict(**SCALE, labels=hcp_mmp_labels(), groups=["early_auditory"])
        flatmap(fig.add_axes((0, 0.4, 1, 0.6)), fs_lr(), planted(), **style)
        inflated(fig.add_axes((0, 0, 1, 0.4), projection="3d"), fs_lr(), planted(), "left", "lateral", **style)
        written.append([path.read_bytes() for path in save_figure(fig, tmp_path / run)])
        time.sleep(1.1 if run == "a" else 0)
    assert written[0] == written[1]
    assert b"CreationDate" not in written[0][1]


def test_failed_save_leaves_nothing(tmp_path, monkeypatch):
    fig = Figure()

    def fail(*args, **kwargs):
        args[0].write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(fig, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        save_figure(fig, tmp_path / "x")
    assert not list(tmp_path.iterdir())
