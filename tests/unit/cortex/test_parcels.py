"""Atlases made here: spheres and blocks at known places in MNI space."""

import nibabel
import numpy as np
import pandas as pd
import pytest
from braintuning.cortex import parcels
from braintuning.cortex.figure import cortex_figure
from braintuning.cortex.flatmap import PARCEL_POINTS
from braintuning.cortex.regions import GROUPS, hcp_mmp_labels, members
from braintuning.cortex.surface import HEMISPHERES, fs_lr, hcp_mesh
from matplotlib.collections import LineCollection
from nilearn.surface import vol_to_surf
from tiny import refused

LEFT_TEMPORAL, RIGHT_FRONTAL = (-58.0, -20.0, 4.0), (46.0, 28.0, 8.0)


def ribbon(hemisphere):
    """White and pial surface, each with coordinates and faces."""
    return hcp_mesh(hemisphere, "white_MSMAll"), hcp_mesh(hemisphere, "pial_MSMAll")


def ribbon_distances(centroid):
    """Distance of the ten points of every vertex from a place, (n_vertices, 10) mm."""
    found = []
    for hemisphere in HEMISPHERES:
        (white, _), (pial, _) = ribbon(hemisphere)
        found.append([np.linalg.norm(white + depth * (pial - white) - centroid, axis=1) for depth in parcels.DEPTHS])
    return np.concatenate(found, axis=1).T


def test_a_planted_sphere_lands_on_the_vertices_nearest_to_its_centroid():
    on_surface, cortex = parcels.vertex_parcels(parcels.sphere_atlas([LEFT_TEMPORAL, RIGHT_FRONTAL])), fs_lr()
    for number, centroid in enumerate((LEFT_TEMPORAL, RIGHT_FRONTAL), start=1):
        distances, inside = ribbon_distances(centroid), on_surface == number
        half_diagonal = np.sqrt(3)
        assert inside.sum() > 30 and inside[distances.min(axis=1).argmin()]
        assert inside[cortex.cortex & (distances.max(axis=1) < parcels.RADIUS - half_diagonal)].all()
        assert not inside[distances.min(axis=1) > parcels.RADIUS + half_diagonal].any()
        side = cortex.vertices("left" if centroid[0] < 0 else "right")
        assert inside[side].sum() == inside.sum()


def test_vertices_read_the_atlas_as_nilearn_does_and_have_fewer_holes():
    blocks = np.random.default_rng(3).integers(0, 9, (19, 23, 19))
    values = blocks.repeat(5, 0).repeat(5, 1).repeat(5, 2)[:91, :109, :91].astype(np.int32)
    atlas = nibabel.Nifti1Image(values, parcels.GRID)
    found, cortex, n_more = parcels.vertex_parcels(atlas), fs_lr(), 0
    for hemisphere in HEMISPHERES:
        white, pial = ribbon(hemisphere)
        options = {"depth": list(parcels.DEPTHS), "interpolation": "nearest_most_frequent"}
        expected = vol_to_surf(atlas, list(pial), inner_mesh=list(white), **options)
        own, there = found[cortex.vertices(hemisphere)], cortex.cortex[cortex.vertices(hemisphere)]
        sure = there & (expected > 0)
        np.testing.assert_array_equal(own[sure], expected[sure])
        n_more += (own[there & (expected == 0)] > 0).sum()
    assert n_more > 0 and not found[~cortex.cortex].any()


def test_of_two_spheres_a_voxel_belongs_to_the_nearer_centroid():
    atlas = parcels.sphere_atlas([(-58, -20, 4), (-58, -12, 4)])
    values, places = np.asarray(atlas.dataobj), np.argwhere(np.asarray(atlas.dataobj) > 0)
    middles = nibabel.affines.apply_affine(atlas.affine, places)
    apart = np.linalg.norm(middles[:, None] - [(-58, -20, 4), (-58, -12, 4)], axis=2)
    assert (apart.min(axis=1) <= parcels.RADIUS + 1e-6).all()
    nearer, equal = apart.argmin(axis=1) + 1, apart[:, 0] == apart[:, 1]
    np.testing.assert_array_equal(values[tuple(places.T)][~equal], nearer[~equal])
    one = np.asarray(parcels.sphere_atlas([(-58, -20, 4)]).dataobj)
    assert abs((one > 0).sum() * 8 - 4 / 3 * np.pi * 1000) < 150
    refused(lambda: parcels.sphere_atlas([(-58, -20, 4), (0, 120, 0)]), "centroid 2", "(0, 120, 0)", "MNI152's brain")
    refused(lambda: parcels.sphere_atlas(np.zeros((3, 2))), "(3, 2)", "expected finite x, y and z")


def saved(path, values, affine=parcels.GRID):
    nibabel.save(nibabel.Nifti1Image(values, affine), path)
    return path


def test_an_atlas_in_another_space_or_shape_is_refused(tmp_path):
    atlas = np.asarray(parcels.sphere_atlas([LEFT_TEMPORAL, RIGHT_FRONTAL]).dataobj)
    path = tmp_path / "atlas.nii.gz"
    read = parcels.read_atlas(saved(path, atlas.astype(np.float32)[..., None]))
    assert read.shape == (91, 109, 91) and np.asarray(read.dataobj).dtype == np.int32
    np.testing.assert_array_equal(read.dataobj, atlas)
    for values, affine, *parts in (
        (atlas, np.diag([2.0, 2, 2, 1]), "of its labelled voxels in MNI152's brain", "(91, 109, 91)", "at least 90%"),
        (atlas, parcels.GRID + shift(60), "MNI152's brain"),
        (np.stack([atlas] * 2, axis=3), parcels.GRID, "(91, 109, 91, 2)", "expected one volume"),
        (atlas[:, :, 40], parcels.GRID, "found shape", "expected one volume"),
        (atlas * np.float32(0.25), parcels.GRID, "found 0.5 at a voxel"),
        (-atlas, parcels.GRID, "found -2 at a voxel"),
        (np.zeros_like(atlas), parcels.GRID, "no labelled voxel"),
    ):
        refused(lambda v=values, a=affine: parcels.read_atlas(saved(path, v, a)), path, *parts)
    path.write_text("no image at all")
    refused(lambda: parcels.read_atlas(path), path, "unreadable", "expected NIfTI")
    refused(lambda: parcels.read_atlas(tmp_path / "none.nii.gz"), "none.nii.gz", "expected a file")


def shift(millimetres):
    moved = np.zeros((4, 4))
    moved[0, 3] = millimetres
    return moved


def test_a_table_of_regions_that_does_not_fit_the_atlas_is_refused():
    places = np.array([LEFT_TEMPORAL, RIGHT_FRONTAL])
    atlas = parcels.sphere_atlas(places)
    parcels.require_parcels(atlas, [2, 1], places[::-1] + 3, "regions.csv")
    for numbers, centroids, *parts in (
        ([1, 3], places, "parcel 3", "its 2"),
        ([1, 2], places * [-1, 1, 1], "parcel 1 at 116 mm", "at most 8 mm"),
        ([2, 2], None, "found 2 regions with a parcel twice"),
    ):
        refused(lambda n=numbers, c=centroids: parcels.require_parcels(atlas, n, c, "regions.csv"), "regions", *parts)


def test_a_parcel_belongs_to_the_group_that_has_half_of_it_or_of_which_it_has_half():
    regions, sides = hcp_mmp_labels(), np.repeat([0, 1], len(hcp_mmp_labels()) // 2)
    on_surface = np.zeros(len(regions), int)
    left = sides == 0
    primary = np.flatnonzero((regions == "A1") & left)
    around = np.flatnonzero(np.isin(regions, ("PFcm", "OP1", "Ig")) & left)
    on_surface[primary[: int(0.6 * len(primary))]] = 1
    on_surface[around[: 3 * len(primary)]] = 1
    late = np.flatnonzero((regions == "PGi") & left)
    other = np.flatnonzero((regions == "PFm") & left)
    on_surface[late[:60]] = 2
    on_surface[other[:50]] = 2
    on_surface[late[60:100]] = 3
    on_surface[other[50:120]] = 3
    on_surface[np.isin(regions, ("PBelt", "A4"))] = 4
    table = parcels.parcel_table(on_surface, [1, 2, 3, 4, 9]).set_index("parcel")
    groups = ["primary_auditory + early_auditory", "late_language", "", "early_auditory", ""]
    assert table["groups"].tolist() == groups
    assert table["label"].tolist()[:3] == ["A1", "PGi", "PFm"] and table["label"][9] == ""
    assert table["hemisphere"].tolist() == ["left", "left", "left", "both", ""]
    assert table["primary_auditory"][1] < 0.5 < table["primary_auditory_held"][1] == pytest.approx(0.6, abs=0.01)
    assert table["late_language"][2] == pytest.approx(60 / 110) and table["late_language"][3] == pytest.approx(40 / 110)
    assert table["vertices"][9] == 0 and table["region"][3] == "PFm"


def test_the_cortex_of_parcels_takes_values_to_vertices_and_knows_its_groups():
    atlas = parcels.sphere_atlas([LEFT_TEMPORAL, RIGHT_FRONTAL, (-46, 18, 14), (0, -60, -30)])
    cortex, on_surface = parcels.parcel_cortex(atlas, [3, 1, 4, 2]), parcels.vertex_parcels(atlas)
    on_vertices = cortex.to_vertices(np.array([0.3, 0.1, 0.4, 0.2]))
    np.testing.assert_allclose(on_vertices[on_surface > 0], 0.1 * on_surface[on_surface > 0])
    assert np.isnan(on_vertices[on_surface == 0]).all() and cortex.n_voxels == 4
    assert members(cortex.voxel_labels, "late_language").tolist() == [True, False, False, True]
    assert cortex.voxel_labels[2] == "" and set(cortex.voxel_labels[[0, 3]]) <= set(GROUPS["late_language"])
    np.testing.assert_array_equal(cortex.vertex_labels, hcp_mmp_labels())


def test_each_of_two_regions_at_one_place_has_a_column(tmp_path):
    centroids = np.array([LEFT_TEMPORAL, LEFT_TEMPORAL, RIGHT_FRONTAL])
    cortex = parcels.cortex_of_regions([1, 2, 3], tmp_path, centroids)
    shown = np.asarray(cortex.vertices_from_voxels.sum(axis=0)).ravel() > 0
    assert cortex.n_voxels == 3 and shown.tolist() == [True, False, True]


def test_the_figure_outlines_every_parcel_and_the_groups_of_parcels():
    atlas = parcels.sphere_atlas([LEFT_TEMPORAL, RIGHT_FRONTAL])
    on_surface = parcels.vertex_parcels(atlas)
    labels, values = np.array(["", "A5", "45"])[on_surface], np.array([np.nan, 0.3, 0.05])[on_surface]
    fig = cortex_figure(
        fs_lr(), values, label="r", vmin=0, vmax=0.4, threshold=0.1,
        labels=labels, parcels=on_surface, groups=("late_language",),
    )  # fmt: skip
    lines = [found for ax in fig.axes for found in ax.collections if isinstance(found, LineCollection)]
    thin = [len(found.get_segments()) for found in lines if found.get_linewidths()[0] == PARCEL_POINTS]
    assert len(thin) == 5 and thin[0] == 2 and sum(thin[1:]) == 2


def test_real_parcels_lie_in_their_hemisphere_and_in_the_groups_that_they_are_known_for(shared):
    folder = shared / "data" / "pieman"
    atlas, table = parcels.read_atlas(folder / "shen_268_2mm.nii.gz"), pd.read_csv(folder / "parcels.csv")
    parcels.require_parcels(atlas, table["parcel"].tolist(), table[["x", "y", "z"]].to_numpy(), "parcels.csv")
    moved = table[["x", "y", "z"]].to_numpy() * [-1, 1, 1]
    refused(lambda: parcels.require_parcels(atlas, table["parcel"].tolist(), moved, "parcels.csv"), "parcels.csv")
    on_surface, cortex = parcels.vertex_parcels(atlas), fs_lr()
    assert (on_surface[cortex.cortex] > 0).mean() > 0.9
    right = np.unique(on_surface[cortex.vertices("right")][on_surface[cortex.vertices("right")] > 0])
    left = on_surface[cortex.vertices("left")]
    assert np.isin(right, np.arange(1, 135)).mean() > 0.95 and (left[left > 0] > 130).mean() > 0.95
    groups = parcels.parcel_table(on_surface, range(1, 269)).set_index("parcel")["groups"]
    assert all("late_language" in groups[number] for number in (63, 64, 65, 156, 183, 191, 192, 197))
    assert all("primary_auditory" in groups[number] for number in (62, 180)) and groups[1] == ""
