from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from braintuning.cortex.flatmap import draw_inflated, plot_flatmap
from braintuning.cortex.raster import CAMERA_X
from braintuning.cortex.regions import GROUPS, hcp_mmp_labels
from braintuning.cortex.subject import fs_lr_cortex_of_vertices
from braintuning.cortex.surface import fs_lr
from braintuning.errors import InputError
from drawn import MAPPABLE, NAMED, SCALE, assert_apart_and_inside, coloured, pixels, planted, texts
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from scipy.spatial import cKDTree


def test_a_map_takes_values_of_vertices_of_the_cortex_alone_and_of_voxels_and_brings_its_own_figure():
    whole = plot_flatmap(planted(), colour_label="alignment (r)")
    cortex_alone = plot_flatmap(planted()[fs_lr().cortex], colour_label="alignment (r)")
    assert (pixels(whole.figure) == pixels(cortex_alone.figure)).all()
    bar = whole.figure.axes[1]
    assert bar.get_xlabel() == "alignment (r)"
    assert bar.get_xlim() == (0, pytest.approx(0.8))
    assert bar.get_window_extent().y1 < whole.get_window_extent().y0 + 1
    cortex = fs_lr_cortex_of_vertices()
    alpha = np.zeros(cortex.n_voxels)
    hidden = plot_flatmap(np.full(cortex.n_voxels, 0.5), cortex, alpha=alpha, vmin=0, vmax=1, groups=())
    assert hidden.figure is not whole.figure
    assert not coloured(pixels(hidden.figure)).any() and not hidden.texts
    plt.close("all")


def test_bad_input_is_named():
    surface, values, ax = fs_lr(), planted(), Figure().add_subplot()
    with pytest.raises(InputError, match=r"values on fs_LR-32k: found shape \(10,\), expected \(64984,\)"):
        plot_flatmap(values[:10], ax=ax)
    with pytest.raises(InputError, match="cortex 'fsaverage': expected 'fs_LR', a Cortex or a Surface"):
        plot_flatmap(values, "fsaverage", ax=ax)
    with pytest.raises(InputError, match="did you mean 'late_language'"):
        plot_flatmap(values, groups=["late_languages"], ax=ax)
    with pytest.raises(InputError, match="fs_LR-32k: has no flat mesh"):
        plot_flatmap(values, replace(surface, flat_coordinates=None, flat_faces=None), ax=ax)
    with pytest.raises(InputError, match="expected 'flat' or one of"):
        draw_inflated(ax, surface, ("left", "above"), values, MAPPABLE)


def test_flat_map_shows_each_vertex_at_its_place():
    surface, labels = fs_lr(), hcp_mmp_labels()
    values = np.where(labels == "PGi", 0.7, np.nan)
    fig = Figure(figsize=(6, 3), dpi=150)
    ax = fig.add_axes((0, 0, 1, 1))
    assert plot_flatmap(values, surface, **SCALE, ax=ax) is ax
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
    plot_flatmap(planted(), **SCALE, ax=fig.add_axes((0, 0, 1, 1)))
    pixels(fig)
    names = texts(fig, "name")
    assert sorted(name.get_text() for name in names) == sorted(2 * list(NAMED))
    assert_apart_and_inside(fig, names)


def test_names_can_be_left_out_and_groups_chosen():
    fig = Figure(figsize=(5, 2))
    ax = fig.add_axes((0, 0, 1, 1))
    plot_flatmap(planted(), **SCALE, groups=["angular_gyrus"], names=False, ax=ax)
    assert not ax.texts
    assert len(ax.collections[0].get_paths()) == 2 * len(GROUPS["angular_gyrus"])


def test_inflated_views_show_the_hemisphere_and_side_asked_for():
    surface, labels = fs_lr(), hcp_mmp_labels()
    left = np.arange(surface.n_vertices) < surface.vertices_per_hemisphere[0]
    values = np.where(left & np.isin(labels, GROUPS["late_language"]), 0.7, np.nan)
    shown = {}
    for view in CAMERA_X:
        fig = Figure(figsize=(1.5, 1.1), dpi=100)
        draw_inflated(fig.add_axes((0, 0, 1, 1)), surface, view, values, MAPPABLE)
        image = pixels(fig)
        shown[view] = coloured(image)
        brain = np.argwhere((image < 250).any(axis=-1))
        assert (np.ptp(brain, axis=0) > 0.9 * np.array(image.shape[:2])).any()
    assert shown["left", "lateral"].mean() > 0.05
    for view in (("left", "medial"), ("right", "medial"), ("right", "lateral")):
        assert shown[view].mean() < 0.002
    frontal = np.where(left & (labels == "44"), 0.7, np.nan)
    fig = Figure(figsize=(1.5, 1.1), dpi=100)
    draw_inflated(fig.add_axes((0, 0, 1, 1)), surface, ("left", "lateral"), frontal, MAPPABLE)
    assert np.argwhere(coloured(pixels(fig)))[:, 1].mean() < 0.4 * 150


def test_significance_shows_as_transparency():
    surface = fs_lr()
    alpha = np.where(np.arange(surface.n_vertices) < 32492, 1.0, 0.0)
    fig = Figure(figsize=(6, 3), dpi=100)
    ax = fig.add_axes((0, 0, 1, 1))
    plot_flatmap(np.full(surface.n_vertices, 0.7), surface, **SCALE, alpha=alpha, ax=ax)
    columns = coloured(pixels(fig)).any(axis=0)
    assert columns[30:270].all()
    assert not columns[330:].any()


def test_a_greyscale_print_tells_values_apart():
    values = np.full(64984, np.nan)
    levels = {"PGi": 0.2, "PGs": 0.5, "45": 0.8, "TPOJ2": 1.0}
    for region, level in levels.items():
        values[hcp_mmp_labels() == region] = level
    fig = Figure(figsize=(6, 3), dpi=150)
    ax = fig.add_axes((0, 0, 1, 1))
    plot_flatmap(values, fs_lr(), **SCALE, ax=ax)
    grey = np.asarray(Image.fromarray(pixels(fig).astype(np.uint8)).convert("L")).astype(int)
    left = np.arange(64984) < 32492
    seen = []
    for region in levels:
        points = fs_lr().flat_coordinates[left & (hcp_mmp_labels() == region)]
        column, row = np.rint(ax.transData.transform(points[~np.isnan(points[:, 0])])).astype(int).T
        seen.append(np.median(grey[len(grey) - 1 - row, column]))
    assert (np.diff(seen) > 25).all()
