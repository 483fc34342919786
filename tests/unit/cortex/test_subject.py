import numpy as np
import pytest
from braintuning.cortex.regions import hcp_mmp_labels
from braintuning.cortex.subject import (
    Cortex,
    fs_lr_cortex_of_points,
    fs_lr_cortex_of_vertices,
    load_cortex,
    regions_of_voxels,
    save_cortex,
    spread_vertices,
)
from braintuning.cortex.surface import Surface, fs_lr
from braintuning.errors import InputError
from scipy.sparse import csr_matrix


def small_cortex(flat: bool = True) -> Cortex:
    rng = np.random.default_rng(0)
    mesh = (rng.normal(size=(3, 3)), np.array([[0, 1, 2]]))
    surface = Surface(
        name="small",
        vertices_per_hemisphere=(3, 3),
        inflated={"left": mesh, "right": mesh},
        sphere={"left": mesh[0]} if flat else {},
        sulcal_depth=rng.normal(size=6),
        cortex=np.array([True] * 5 + [False]),
        flat_coordinates=rng.normal(size=(6, 2)) if flat else None,
        flat_faces=np.array([[0, 1, 2], [3, 4, 5]]) if flat else None,
    )
    shares = np.array(
        [[0.5, 0.5, 0, 0], [0, 0.25, 0.75, 0], [0, 0, 1, 0], [0.2, 0.2, 0.6, 0], [0.1, 0.3, 0, 0], [0, 0, 0, 0]]
    )
    labels = np.array(["A1", "A1", "PGp", "PGp", "", ""])
    matrix = csr_matrix(shares)
    return Cortex(surface, labels, regions_of_voxels(matrix, labels), matrix)


@pytest.mark.parametrize("unknown", [[], [1], [2], [0, 1], [0, 1, 2, 3]])
def test_vertices_take_the_weighted_mean_of_the_voxels_that_are_known(unknown):
    cortex, values = small_cortex(), np.array([3.0, -1.0, 2.0, 7.0])
    values[unknown] = np.nan
    shares = cortex.vertices_from_voxels.toarray()
    expected = []
    for row in shares:
        known = [(w, v) for w, v in zip(row, values, strict=True) if w > 0 and not np.isnan(v)]
        expected.append(sum(w * v for w, v in known) / sum(w for w, _ in known) if known else np.nan)
    np.testing.assert_allclose(cortex.to_vertices(values), expected, rtol=1e-14)


def test_a_constant_stays_constant_where_rows_do_not_sum_to_one():
    vertices = small_cortex().to_vertices(np.full(4, 0.37))
    np.testing.assert_allclose(vertices[:5], 0.37, rtol=1e-14)
    assert np.isnan(vertices[5])


def test_another_number_of_values_is_refused():
    with pytest.raises(InputError, match=r"small: found shape \(5,\), expected \(4,\)"):
        small_cortex().to_vertices(np.zeros(5))


def test_parts_that_do_not_fit_are_refused():
    whole = small_cortex()
    with pytest.raises(InputError, match=r"found a matrix of shape \(6, 4\).* expected \(6, 3\)"):
        Cortex(whole.surface, whole.vertex_labels, whole.voxel_labels[:3], whole.vertices_from_voxels)


def test_voxels_take_the_region_that_most_of_their_weight_goes_to():
    rng = np.random.default_rng(1)
    shares = np.where(rng.random((40, 30)) < 0.1, rng.random((40, 30)), 0)
    shares[:, 7] = 0
    labels = np.array(["A1", "LBelt", ""])[rng.integers(0, 3, 40)]
    found = regions_of_voxels(csr_matrix(shares), labels)
    for voxel, region in enumerate(found):
        weight = {name: shares[labels == name, voxel].sum() for name in ("", "A1", "LBelt")}
        assert region == (max(weight, key=weight.get) if shares[:, voxel].any() else "")
    assert found[7] == ""


def test_the_group_cortex_spreads_values_as_its_surface_does():
    cortex, rng = fs_lr_cortex_of_vertices(), np.random.default_rng(2)
    assert cortex.surface is fs_lr()
    assert cortex.n_voxels == 59_412
    values = rng.normal(size=cortex.n_voxels)
    spread = cortex.to_vertices(values)
    np.testing.assert_array_equal(spread[fs_lr().cortex], values)
    assert np.isnan(spread[~fs_lr().cortex]).all()
    np.testing.assert_array_equal(cortex.voxel_labels, hcp_mmp_labels()[fs_lr().cortex])


def test_points_are_spread_evenly_and_every_vertex_samples_the_nearest():
    cortex, whole, chosen = fs_lr_cortex_of_points(500), fs_lr(), spread_vertices(500)
    assert cortex.n_voxels == len(chosen) and 880 < len(chosen) < 940  # 91 % of the sphere is off the medial wall
    assert whole.cortex[chosen].all()
    np.testing.assert_array_equal(cortex.voxel_labels, hcp_mmp_labels()[chosen])
    spread = cortex.to_vertices(np.arange(cortex.n_voxels))
    assert np.isnan(spread[~whole.cortex]).all()
    np.testing.assert_array_equal(spread[chosen], np.arange(cortex.n_voxels))
    for hemisphere in ("left", "right"):
        part = whole.vertices(hemisphere)
        mine = chosen[(chosen >= part.start) & (chosen < part.stop)]
        sphere, points = whole.sphere[hemisphere], whole.sphere[hemisphere][mine - part.start]
        apart = np.linalg.norm(points[:, None] - points[None], axis=-1) + 1e9 * np.eye(len(points))
        assert 0.6 < apart.min(axis=1).min() / np.sqrt(4 * np.pi * 100**2 / 500) < 1.3
        some = np.random.default_rng(0).choice(np.flatnonzero(whole.cortex[part]), 200)
        nearest = np.linalg.norm(sphere[some][:, None] - points[None], axis=-1).argmin(axis=1)
        np.testing.assert_array_equal(chosen[spread[part][some].astype(int)], mine[nearest])


@pytest.mark.parametrize("flat", [True, False])
def test_what_is_stored_comes_back(tmp_path, flat):
    cortex = small_cortex(flat)
    save_cortex(cortex, tmp_path / "cortex.h5")
    back = load_cortex(tmp_path / "cortex.h5")
    np.testing.assert_array_equal(back.vertices_from_voxels.toarray(), cortex.vertices_from_voxels.toarray())
    assert back.vertex_labels.tolist() == cortex.vertex_labels.tolist()
    assert back.voxel_labels.tolist() == cortex.voxel_labels.tolist()
    assert back.surface.name == "small" and back.surface.vertices_per_hemisphere == (3, 3)
    assert set(back.surface.sphere) == set(cortex.surface.sphere)
    for key in ("sulcal_depth", "cortex", "flat_coordinates", "flat_faces"):
        np.testing.assert_array_equal(getattr(back.surface, key), getattr(cortex.surface, key))
    for found, expected in zip(back.surface.inflated["left"], cortex.surface.inflated["left"], strict=True):
        np.testing.assert_array_equal(found, expected)
    assert (back.surface.flat_faces is None) is not flat


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "cortex.h5"
    save_cortex(small_cortex(), path)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"cortex\.h5: found a damaged result"):
        load_cortex(path)
