from dataclasses import replace
from itertools import combinations

import numpy as np
import pypdf
import pytest
from braintuning.cortex.colours import DIFFERENCE, Reliability
from braintuning.cortex.figure import Panel, cortex_figure, participants_figure, save_figure
from braintuning.cortex.flatmap import INSET_REGIONS, draw_inflated, plot_flatmap
from braintuning.cortex.outlines import _outlines
from braintuning.cortex.raster import CAMERA_X, facing_light, view_image
from braintuning.cortex.regions import hcp_mmp_labels, members
from braintuning.cortex.surface import Surface, fs_lr
from braintuning.errors import InputError
from drawn import MAPPABLE, NAMED, SCALE, assert_apart_and_inside, coloured, page_texts, pixels, planted, texts
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

NOTE = "simulated listeners; HCP S1200 fs_LR, regions of Glasser et al. 2016"
LOOK = dict(label="noise ceiling (r)", vmin=0.0, vmax=1.0)


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
    with pytest.raises(InputError, match="'late_language': no vertex is labelled"):
        cortex_figure(surface, values, label="r", labels=np.where(hcp_mmp_labels() == "A1", "A1", ""))


def test_values_defined_in_no_outlined_region_are_still_drawn():
    labels, values = hcp_mmp_labels(), np.where(hcp_mmp_labels() == "V1", 2.0, np.nan)
    ceiling = Reliability(np.full(64984, 0.9), "noise ceiling", 0.4, 0.6)
    fig = cortex_figure(fs_lr(), values, label="change", symmetric=True, labels=labels, reliability=ceiling)
    (key,) = (ax for ax in fig.axes if ax.get_xlabel() == "change" or ax.get_ylabel() == "change")
    assert max(map(abs, key.get_xlim())) == 2.0


def test_figure_without_limits_is_centred_when_symmetric():
    surface = fs_lr()
    values = np.linspace(-1, 3, surface.n_vertices)
    fig = cortex_figure(surface, values, label="change", symmetric=True, width_inches=3.5)
    (bar,) = [ax for ax in fig.axes if ax.get_xlabel() == "change"]
    low, high = bar.get_xlim()
    assert -low == high == pytest.approx(np.percentile(np.abs(values), 99))
    assert np.ptp(DIFFERENCE(0.5)[:3]) < 0.02


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
    assert named[0] == sorted(2 * list(NAMED - set(INSET_REGIONS)))
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
    assert all(text.count(name) >= 2 for name in NAMED)
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
        fig = Figure(figsize=(3.5, 2))
        groups = ["early_auditory"]
        plot_flatmap(planted(), **SCALE, groups=groups, ax=fig.add_axes((0, 0.4, 1, 0.6)))
        ax, view = fig.add_axes((0, 0, 1, 0.4)), ("left", "lateral")
        draw_inflated(ax, fs_lr(), view, planted(), MAPPABLE, labels=hcp_mmp_labels(), groups=groups)
        written.append([path.read_bytes() for path in save_figure(fig, tmp_path / run)])
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
    kept = view_image, facing_light, _outlines
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
    assert len(frames) == 4 and len(names) == 2 * len(NAMED - set(INSET_REGIONS))
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


@pytest.mark.parametrize("n", [1, 2, 4, 8, 9])
@pytest.mark.parametrize("width", [7.2, 3.5])
def test_panels_and_texts_are_apart_and_inside_the_page(n, width):
    panels = [panel(k + 1) for k in range(n)]
    note = "Demo on simulated listeners; surface and regions: HCP S1200 fs_LR, Glasser et al. 2016"
    fig = participants_figure(panels, **LOOK, threshold=0.4, note=note, width_inches=width)
    FigureCanvasAgg(fig).draw()
    maps, (bar, legend) = fig.axes[:n], fig.axes[n:]
    texts = [*fig.texts, bar.xaxis.label, *bar.get_xticklabels(), *legend.get_legend().get_texts()]
    boxes = [ax.get_window_extent() for ax in maps] + [text.get_window_extent() for text in texts]
    assert len(fig.texts) == n + 1
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
    assert view_image(own).vertex.max() == 17


def test_bad_panels_are_named():
    with pytest.raises(InputError, match="panels: found none, expected at least one participant"):
        participants_figure([], **LOOK)
    with pytest.raises(InputError, match=r"values of 'SIM07' on fs_LR-32k: found shape \(5,\), expected \(64984,\)"):
        participants_figure([panel(1), Panel(fs_lr(), np.zeros(5), None, "SIM07")], **LOOK)
    flatless = replace(own_surface(), flat_coordinates=None, flat_faces=None)
    with pytest.raises(InputError, match="surface UTS03: has no flat mesh"):
        participants_figure([Panel(flatless, np.zeros(18), None, "own")], **LOOK)
    with pytest.raises(InputError, match="no vertex is labelled"):
        participants_figure([Panel(own_surface(), np.zeros(18), np.full(18, "V1"), "own")], **LOOK)
