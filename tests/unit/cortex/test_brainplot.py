import time
from dataclasses import replace
from itertools import combinations

import numpy as np
import pypdf
import pytest
from braintuning.cortex import regions as rois
from braintuning.cortex.auditory_inset import INSET_REGIONS
from braintuning.cortex.brainplot import Reliability, cortex_figure, flatmap, inflated, save_figure
from braintuning.cortex.colours import DIFFERENCE
from braintuning.cortex.flat_names import place_names
from braintuning.cortex.raster import CAMERA_X, facing_light, view_image
from braintuning.cortex.regions import GROUPS, hcp_mmp_labels, members
from braintuning.cortex.surface import fs_lr
from braintuning.errors import InputError
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from scipy.spatial import cKDTree

SCALE = dict(cmap="inferno", vmin=0.0, vmax=1.0)
DRAWN = set(GROUPS["early_auditory"]) | set(GROUPS["late_language"])
NOTE = "simulated listeners; HCP S1200 fs_LR, regions of Glasser et al. 2016"


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


def test_bad_input_is_named():
    surface, values = fs_lr(), planted()
    with pytest.raises(InputError, match=r"values on fs_LR-32k: found shape \(59412,\), expected \(64984,\)"):
        cortex_figure(surface, values[surface.cortex], label="r")
    with pytest.raises(InputError, match=r"labels on fs_LR-32k: found shape \(10,\), expected \(64984,\)"):
        cortex_figure(surface, values, label="r", labels=np.full(10, "A1"), groups=["primary_auditory"])
    with pytest.raises(InputError, match="all 64984 are NaN"):
        cortex_figure(surface, np.full(64984, np.nan), label="r")
    with pytest.raises(InputError, match="vmin 1 and vmax 1"):
        cortex_figure(surface, values, label="r", vmin=1, vmax=1)
    flatless = replace(surface, flat_coordinates=None, flat_faces=None)
    with pytest.raises(InputError, match="fs_LR-32k: has no flat mesh"):
        cortex_figure(flatless, values, label="r")
    with pytest.raises(InputError, match="nearest is 'late_language'"):
        flatmap(Figure().add_subplot(), surface, values, **SCALE, labels=hcp_mmp_labels(), groups=["late_languages"])
    with pytest.raises(InputError, match="'late_language': no vertex is labelled"):
        cortex_figure(surface, values, label="r", labels=np.where(hcp_mmp_labels() == "A1", "A1", ""))
    with pytest.raises(InputError, match="expected 'flat' or one of"):
        inflated(Figure().add_subplot(), surface, values, "left", "above", **SCALE)
    with pytest.raises(InputError, match="found projection '3d'"):
        inflated(Figure().add_subplot(projection="3d"), surface, values, "left", "lateral", **SCALE)


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
            expected = np.broadcast_to(255 * np.array(colormaps["inferno"](0.7)[:3]), seen.shape)
            np.testing.assert_allclose(seen, expected, atol=2)
        else:
            assert not coloured(seen).any()


@pytest.mark.parametrize("width", [7.2, 3.5])
def test_names_in_the_flat_map_do_not_overlap_and_are_not_cut(width):
    fig = Figure(figsize=(width, 0.4 * width))
    flatmap(fig.add_axes((0, 0, 1, 1)), fs_lr(), planted(), **SCALE, labels=hcp_mmp_labels())
    pixels(fig)
    names = texts(fig, "name")
    assert sorted(name.get_text() for name in names) == sorted(2 * list(DRAWN))
    assert_apart_and_inside(fig, names)


def test_names_can_be_left_out_and_groups_chosen():
    fig = Figure(figsize=(5, 2))
    ax = fig.add_axes((0, 0, 1, 1))
    flatmap(ax, fs_lr(), planted(), **SCALE, labels=hcp_mmp_labels(), groups=["angular_gyrus"], show_names=False)
    assert not ax.texts
    assert len(ax.collections[0].get_paths()) == 2 * len(GROUPS["angular_gyrus"])


def test_inflated_views_show_the_hemisphere_and_side_asked_for():
    surface, labels = fs_lr(), hcp_mmp_labels()
    left = np.arange(surface.n_vertices) < surface.vertices_per_hemisphere[0]
    values = np.where(left & np.isin(labels, GROUPS["late_language"]), 0.7, np.nan)
    shown = {}
    for view in CAMERA_X:
        fig = Figure(figsize=(1.5, 1.1), dpi=100)
        inflated(fig.add_axes((0, 0, 1, 1)), surface, values, *view, **SCALE)
        image = pixels(fig)
        shown[view] = coloured(image)
        brain = np.argwhere((image < 250).any(axis=-1))
        assert (np.ptp(brain, axis=0) > 0.9 * np.array(image.shape[:2])).any()
    assert shown["left", "lateral"].mean() > 0.05
    for view in (("left", "medial"), ("right", "medial"), ("right", "lateral")):
        assert shown[view].mean() < 0.002
    frontal = np.where(left & (labels == "44"), 0.7, np.nan)
    fig = Figure(figsize=(1.5, 1.1), dpi=100)
    inflated(fig.add_axes((0, 0, 1, 1)), surface, frontal, "left", "lateral", **SCALE)
    assert np.argwhere(coloured(pixels(fig)))[:, 1].mean() < 0.4 * 150


def test_significance_shows_as_transparency():
    surface = fs_lr()
    alpha = np.where(np.arange(surface.n_vertices) < 32492, 1.0, 0.0)
    fig = Figure(figsize=(6, 3), dpi=100)
    flatmap(fig.add_axes((0, 0, 1, 1)), surface, np.full(surface.n_vertices, 0.7), **SCALE, alpha=alpha)
    columns = coloured(pixels(fig)).any(axis=0)
    assert columns[30:270].all()
    assert not columns[330:].any()


def test_figure_without_limits_is_centred_when_symmetric():
    surface = fs_lr()
    values = np.linspace(-1, 3, surface.n_vertices)
    fig = cortex_figure(surface, values, label="change", symmetric=True, width_inches=3.5)
    (bar,) = [ax for ax in fig.axes if ax.get_xlabel() == "change"]
    low, high = bar.get_xlim()
    assert -low == high == pytest.approx(np.percentile(np.abs(values), 99))
    assert np.ptp(colormaps[DIFFERENCE](0.5)[:3]) < 0.02


def test_threshold_above_all_values_leaves_the_folds_alone():
    fig = cortex_figure(fs_lr(), planted(), label="r", vmin=0, vmax=1, threshold=0.9, width_inches=3.5)
    for ax in fig.axes:
        ax.set_visible(not ax.get_xlabel())
    image = pixels(fig)
    assert (image < 250).any()
    assert not coloured(image).any()


def test_insets_magnify_the_auditory_regions_and_bear_their_names():
    fig = cortex_figure(fs_lr(), planted(), label="r", labels=hcp_mmp_labels())
    pixels(fig)
    flat, *_, left, right = fig.axes
    named = [sorted(text.get_text() for text in ax.texts if text.get_gid() == "name") for ax in (flat, left, right)]
    assert named[1] == named[2] == sorted(INSET_REGIONS)
    assert named[0] == sorted(2 * list(DRAWN - set(INSET_REGIONS)))
    for inset, hemisphere in ((left, "left"), (right, "right")):
        scales = [ax.transData.get_matrix()[0, 0] for ax in (flat, inset)]
        assert scales[1] > 1.8 * scales[0]
        side = fs_lr().vertices(hemisphere)
        points = fs_lr().flat_coordinates[side][np.isin(hcp_mmp_labels()[side], INSET_REGIONS)]
        points = points[~np.isnan(points[:, 0])]
        low, high = np.array([inset.get_xlim(), inset.get_ylim()]).T
        assert ((points > low) & (points < high)).all()


def test_insets_go_with_the_groups_that_need_them():
    look = dict(label="r", labels=hcp_mmp_labels(), width_inches=3.5)
    n_axes = {
        groups: len(cortex_figure(fs_lr(), planted(), groups=groups, **look).axes)
        for groups in (("late_language",), ("primary_auditory",))
    }
    assert n_axes["primary_auditory",] == n_axes["late_language",] + 2
    assert len(cortex_figure(fs_lr(), planted(), inset=False, **look).axes) == n_axes["late_language",]
    one_sided = np.where((np.arange(64984) < 32492) | ~np.isin(hcp_mmp_labels(), INSET_REGIONS), hcp_mmp_labels(), "")
    fig = cortex_figure(fs_lr(), planted(), label="r", labels=one_sided, width_inches=3.5)
    assert [bool(ax.images) for ax in fig.axes].count(True) == 6


def test_reliability_fades_values_and_has_a_square_key():
    surface = fs_lr()
    left = np.arange(surface.n_vertices) < 32492
    reliability = Reliability(np.where(left, 0.9, 0.1), "noise ceiling", 0.2, 0.6)
    fig = cortex_figure(surface, np.full(surface.n_vertices, 0.9), label="r", vmin=0, vmax=1, reliability=reliability)
    (key,) = [ax for ax in fig.axes if ax.get_ylabel() == "noise ceiling"]
    assert (key.get_xlim(), key.get_ylim()) == ((0, 1), (0.2, 0.6))
    square = key.images[0].get_array()
    np.testing.assert_allclose(square[-1], colormaps["inferno"](np.linspace(0, 1, square.shape[1]))[:, :3], atol=0.02)
    assert np.ptp(square[0], axis=-1).max() == 0
    key.set_visible(False)
    image = coloured(pixels(fig))
    middle = image.shape[1] // 2
    assert image[:, :middle].mean() > 0.2
    assert image[:, middle + 20 :].mean() == 0


@pytest.mark.parametrize("width", [7.2, 3.5])
@pytest.mark.parametrize("two_dimensional", [False, True])
def test_texts_of_a_figure_are_apart_and_inside_it(width, two_dimensional):
    reliability = Reliability(np.full(64984, 0.5), "noise ceiling", 0.2, 0.6) if two_dimensional else None
    fig = cortex_figure(
        fs_lr(),
        planted(),
        label="change of the noise-ceiling-normalised alignment, brain-tuned minus pretrained (r)",
        title="Alignment in late language regions of all simulated participants and stories",
        note=f"{NOTE}; " * 2,
        labels=hcp_mmp_labels(),
        width_inches=width,
        reliability=reliability,
    )
    pixels(fig)
    around = page_texts(fig)
    assert len(around) > 8
    assert_apart_and_inside(fig, [*around, *texts(fig, "name")])


def test_a_greyscale_print_tells_values_apart():
    values = np.full(64984, np.nan)
    levels = {"PGi": 0.2, "PGs": 0.5, "45": 0.8, "TPOJ2": 1.0}
    for region, level in levels.items():
        values[hcp_mmp_labels() == region] = level
    fig = Figure(figsize=(6, 3), dpi=150)
    ax = fig.add_axes((0, 0, 1, 1))
    flatmap(ax, fs_lr(), values, **SCALE)
    grey = np.asarray(Image.fromarray(pixels(fig).astype(np.uint8)).convert("L")).astype(int)
    left = np.arange(64984) < 32492
    seen = []
    for region in levels:
        points = fs_lr().flat_coordinates[left & (hcp_mmp_labels() == region)]
        column, row = np.rint(ax.transData.transform(points[~np.isnan(points[:, 0])])).astype(int).T
        seen.append(np.median(grey[len(grey) - 1 - row, column]))
    assert (np.diff(seen) > 25).all()


def test_page_figure_is_small_and_keeps_text_as_truetype(tmp_path):
    fig = cortex_figure(
        fs_lr(), planted(), label="correlation (r)", title="Planted", labels=hcp_mmp_labels(), note=NOTE
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
    assert all(text.count(name) >= 2 for name in DRAWN)
    fonts = {font.get_object()["/Subtype"] for font in page["/Resources"]["/Font"].values()}
    assert fonts <= {"/Type0", "/TrueType"}
    images = [item for item in page["/Resources"]["/XObject"].values() if item.get_object()["/Subtype"] == "/Image"]
    flat_map_views_insets_and_colour_bar = 1 + len(CAMERA_X) + 2 + 1
    assert len(images) == flat_map_views_insets_and_colour_bar


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
        inflated(fig.add_axes((0, 0, 1, 0.4)), fs_lr(), planted(), "left", "lateral", **style)
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


def test_a_further_figure_of_the_same_surface_computes_no_geometry_again():
    look = dict(label="r", title="alignment", labels=hcp_mmp_labels(), threshold=0.2)
    cortex_figure(fs_lr(), planted(), **look)
    kept = (view_image, facing_light, place_names, rois._outlines, rois._numbered, rois._gathered)
    before = [function.cache_info().misses for function in kept]
    labels_elsewhere_in_memory = hcp_mmp_labels().copy()
    cortex_figure(fs_lr(), planted() + 0.05, **look | {"labels": labels_elsewhere_in_memory})
    assert [function.cache_info().misses for function in kept] == before


def test_names_lie_on_no_frame_and_hide_little_of_their_region():
    fig = cortex_figure(fs_lr(), planted(), label="r", labels=hcp_mmp_labels())
    pixels(fig)
    flat, *_ = fig.axes
    frames = [patch.get_window_extent() for patch in flat.patches]
    names = [(text.get_text(), text.get_window_extent()) for text in flat.texts if text.get_gid() == "name"]
    assert len(frames) == 4 and len(names) == 2 * len(DRAWN - set(INSET_REGIONS))
    for frame in frames:
        for name, box in names:
            within = frame.x0 < box.x0 and box.x1 < frame.x1 and frame.y0 < box.y0 and box.y1 < frame.y1
            assert within or not frame.overlaps(box), name


def test_a_smoothed_map_fades_what_is_reliable_by_chance_and_says_so():
    surface, labels = fs_lr(), hcp_mmp_labels()
    rng = np.random.default_rng(0)
    language = members(labels, "late_language")
    ceiling = Reliability(np.where(language, 0.8, np.where(rng.random(64984) < 0.05, 0.7, 0.2)), "ceiling", 0.4, 0.6)
    change = 0.05 + 0.2 * rng.normal(size=64984)
    look = dict(label="change", symmetric=True, reliability=ceiling, labels=labels, note="planted")
    shares, limits = {}, {}
    for mm in (0.0, 3.0):
        fig = cortex_figure(surface, change, smooth_mm=mm, **look)
        shares[mm] = coloured(fig.axes[1].images[0].get_array()[::3, ::3, :3].astype(int)).mean()
        limits[mm] = next(ax for ax in fig.axes if ax.get_ylabel() == "ceiling").get_xlim()[1]
    assert "smoothed on the surface for display alone (standard deviation 3 mm)" in " ".join(
        fig.texts[-1].get_text().split()
    )
    assert limits[3.0] < 0.5 * limits[0.0]
    assert shares[3.0] > 0
