from dataclasses import replace

import numpy as np
import pytest
from braintuning.cortex import raster
from braintuning.cortex.raster import facing_light, smooth_curves, view_image
from braintuning.cortex.surface import Surface, fs_lr
from braintuning.errors import InputError

SQUARE = np.array([[0, 0], [40, 0], [0, 40], [40, 40]], float)
FACES = np.array([[0, 1, 2], [2, 1, 3]])


def squares(inflated=None):
    """Four vertices a hemisphere, each a flat square of two triangles."""
    inflated = inflated or (np.column_stack([np.zeros(4), SQUARE]), FACES)
    return Surface(
        name="squares",
        vertices_per_hemisphere=(len(inflated[0]),) * 2,
        inflated=dict.fromkeys(("left", "right"), inflated),
        sphere={},
        sulcal_depth=np.linspace(-1, 1, 2 * len(inflated[0])),
        cortex=np.ones(2 * len(inflated[0]), bool),
        flat_coordinates=np.concatenate([SQUARE, SQUARE + np.array([60, 0])]),
        flat_faces=np.concatenate([FACES, FACES + 4]),
    )


def pixel_of(image, x, y):
    return tuple(int(np.abs(axis - at).argmin()) for axis, at in ((image.y, y), (image.x, x)))


def test_pixels_show_the_vertex_with_the_largest_share_inside_and_none_outside():
    surface = squares()
    image = view_image(surface)
    assert image.vertex.shape == (len(image.y), len(image.x))
    n_inside = 0
    for row, column in np.random.default_rng(0).integers(0, image.vertex.shape, (400, 2)):
        point = np.array([image.x[column], image.y[row], 1])
        shares = [
            (np.linalg.solve(np.vstack([surface.flat_coordinates[face].T, np.ones(3)]), point), face)
            for face in surface.flat_faces
        ]
        inside = [(share, face) for share, face in shares if share.min() > 0.01]
        if inside and np.diff(np.sort(inside[0][0])[1:]) > 1e-3:
            assert image.vertex[row, column] == inside[0][1][inside[0][0].argmax()]
            n_inside += 1
        elif all(share.min() < -0.01 for share, _ in shares):
            assert image.vertex[row, column] == -1
    assert n_inside > 100
    assert len(image.sheet) == 2


def test_colours_are_interpolated_linearly_within_a_triangle():
    image = view_image(squares())
    colours = np.zeros((8, 4))
    colours[:4, 0] = SQUARE[:, 0] / 40
    colours[:4, 1] = SQUARE[:, 1] / 40
    colours[4:] = 0.5
    painted = image.paint(colours)
    assert painted.dtype == np.uint8
    for x, y in np.random.default_rng(1).uniform(1, 39, (50, 2)):
        row, column = pixel_of(image, x, y)
        expected = 255 * np.array([image.x[column] / 40, image.y[row] / 40, 0])
        np.testing.assert_allclose(painted[row, column, :3], expected, atol=0.51)
    assert (painted[..., 3] == 255).all()
    np.testing.assert_array_equal(painted[pixel_of(image, 80, 20)], [128, 128, 128, 255])
    np.testing.assert_array_equal(painted[pixel_of(image, 50, 20)], 255)


def test_the_nearer_sheet_hides_the_farther_and_back_faces_are_not_shown():
    near, far = (np.column_stack([np.full(4, x), SQUARE]) for x in (5.0, -5.0))
    facing_both_ways = np.concatenate([FACES, FACES + 4, FACES[:, ::-1] + 8])
    surface = squares((np.concatenate([near, far, near + np.array([3, 0, 0])]), facing_both_ways))
    from_the_right = view_image(surface, ("right", "lateral"))
    assert set(np.unique(from_the_right.vertex)) == {-1, 12, 13, 14, 15}
    from_the_left = view_image(surface, ("right", "medial"))
    assert set(np.unique(from_the_left.vertex)) == {-1, 20, 21, 22, 23}


@pytest.mark.parametrize("view", list(raster.CAMERA_X))
def test_views_show_the_side_that_they_name_with_the_front_where_it_belongs(view):
    surface = fs_lr()
    image = view_image(surface, view)
    first = surface.vertices(view[0]).start
    points = surface.inflated[view[0]][0]
    shown = np.unique(image.vertex[image.vertex >= 0]) - first
    medial_wall = np.flatnonzero(~surface.cortex[surface.vertices(view[0])])
    seen = np.isin(medial_wall, shown).mean()
    assert seen < 0.05 if view[1] == "lateral" else seen > 0.8
    right_half = image.vertex[:, len(image.x) // 2 :]
    looking_forward = points[right_half[right_half >= 0] - first, 1].mean() > points[:, 1].mean()
    assert looking_forward == (view in (("right", "lateral"), ("left", "medial")))
    upper = image.vertex[len(image.y) // 2 :]
    assert points[upper[upper >= 0] - first, 2].mean() > points[:, 2].mean()


def test_light_falls_on_what_faces_the_camera():
    surface = fs_lr()
    lateral, medial = (facing_light(surface, ("left", side)) for side in ("lateral", "medial"))
    for light, seen in ((lateral, ("left", "lateral")), (medial, ("left", "medial"))):
        assert light.min() >= 0 and light.max() <= 1
        shown = np.unique(view_image(surface, seen).vertex)[1:]
        hidden = np.setdiff1d(np.arange(32492), shown)
        assert light[shown].mean() > 0.6 > 0.3 > light[hidden].mean()


def test_surface_without_a_flat_mesh_is_named_but_has_inflated_views():
    flatless = replace(squares(), flat_coordinates=None, flat_faces=None)
    with pytest.raises(InputError, match="surface squares: has no flat mesh"):
        view_image(flatless)
    assert (view_image(flatless, ("left", "medial")).vertex >= 0).any()
    with pytest.raises(InputError, match=r"view \('left', 'above'\): expected"):
        view_image(flatless, ("left", "above"))


def test_smooth_curve_around_a_disc_has_its_radius_and_islands_go():
    x, y = np.arange(-30, 30, 0.5), np.arange(-25, 25, 0.5)
    column, row = np.meshgrid(x, y)
    disc = np.hypot(column - 5, row + 3) < 12
    disc[5:8, 5:8] = True
    (line,) = smooth_curves(disc, x, y, 1.1)
    np.testing.assert_allclose(np.hypot(*(line - [5, -3]).T), 12, atol=0.4)
    np.testing.assert_array_equal(line[0], line[-1])
