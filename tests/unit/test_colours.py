import numpy as np
import pytest
from braintuning.colours import DARKEST_SHADE, Reliability, fold_grey, group_average, limits, vertex_colours
from braintuning.errors import InputError
from braintuning.surfaces import fs_lr
from matplotlib import colormaps

SCALE = dict(cmap="inferno", vmin=0.0, vmax=1.0)
N = 64984


def test_colours_blend_over_the_grey_folds():
    surface = fs_lr()
    values = np.full(N, 0.7)
    values[10] = np.nan
    alpha = np.ones(N)
    alpha[20], alpha[30] = 0.0, 0.25
    colours = vertex_colours(surface, values, **SCALE, alpha=alpha)
    folds = vertex_colours(surface, values, **SCALE, alpha=np.zeros(N))
    top = np.array(colormaps["inferno"](0.7))
    np.testing.assert_allclose(colours[0], top)
    np.testing.assert_array_equal(colours[[10, 20]], folds[[10, 20]])
    np.testing.assert_allclose(colours[30], 0.25 * top + 0.75 * folds[30])
    assert (colours[:, 3] == 1).all()
    np.testing.assert_array_equal(folds[:, 0], folds[:, 2])
    assert folds[surface.sulcal_depth > 0.5, 0].min() > folds[surface.sulcal_depth < -0.8, 0].max()


def test_light_shades_the_folds_and_leaves_values_their_colour():
    surface = fs_lr()
    values = np.full(N, np.nan)
    values[:100] = 0.7
    colours = vertex_colours(surface, values, **SCALE, light=np.zeros(N))
    np.testing.assert_allclose(colours[:100], np.broadcast_to(colormaps["inferno"](0.7), (100, 4)))
    np.testing.assert_allclose(colours[100:, 1], DARKEST_SHADE * fold_grey(surface)[100:])


def test_lengths_and_empty_maps_are_named():
    surface = fs_lr()
    with pytest.raises(InputError, match=r"values on fs_LR-32k: found shape \(59412,\), expected \(64984,\)"):
        vertex_colours(surface, np.zeros(59412), **SCALE)
    with pytest.raises(InputError, match=r"alpha on fs_LR-32k: found shape \(3,\), expected \(64984,\)"):
        vertex_colours(surface, np.zeros(N), **SCALE, alpha=np.ones(3))
    with pytest.raises(InputError, match="all 64984 are NaN"):
        vertex_colours(surface, np.full(N, np.nan), **SCALE)


def test_reliability_rises_from_low_to_high():
    values = np.zeros(N)
    values[:5] = [0.2, 0.3, 0.4, 0.9, np.nan]
    alpha = Reliability(values, "noise ceiling", 0.2, 0.4).alpha(fs_lr())
    np.testing.assert_allclose(alpha[:6], [0, 0.5, 1, 1, 0, 0])
    with pytest.raises(InputError, match=r"found low 0\.5 and high 0\.4"):
        Reliability(values, "noise ceiling", 0.5, 0.4).alpha(fs_lr())
    with pytest.raises(InputError, match=r"reliability \(noise ceiling\).*found shape \(7,\), expected \(64984,\)"):
        Reliability(np.zeros(7), "noise ceiling", 0.2, 0.4).alpha(fs_lr())


def test_limits_are_percentiles_and_centred_when_symmetric():
    values = np.append(np.linspace(-1, 3, 1001), np.nan)
    assert limits(fs_lr(), values, None, None, False) == pytest.approx((-0.96, 2.96))
    assert limits(fs_lr(), np.abs(values), None, 2.0, False) == (0.0, 2.0)
    low, high = limits(fs_lr(), values, None, None, True)
    assert -low == high == pytest.approx(np.percentile(np.abs(values[:-1]), 99))
    assert limits(fs_lr(), values, -0.5, None, True) == (-0.5, 0.5)
    with pytest.raises(InputError, match="vmin 1 and vmax 1"):
        limits(fs_lr(), values, 1, 1, False)


@pytest.mark.parametrize("minimum", [1, 2, 3])
def test_group_average_by_brute_force(minimum):
    rng = np.random.default_rng(minimum)
    maps = rng.normal(size=(3, 200))
    maps[rng.uniform(size=maps.shape) < 0.4] = np.nan
    average = group_average(maps, minimum)
    for vertex, column in enumerate(maps.T):
        known = [value for value in column.tolist() if value == value]
        if len(known) >= minimum:
            assert average[vertex] == pytest.approx(sum(known) / len(known))
        else:
            assert np.isnan(average[vertex])
    assert np.isnan(average).any() and np.isfinite(average).any()


def test_group_average_names_what_does_not_fit():
    with pytest.raises(InputError, match="found 5, 6 vertices, expected equal numbers"):
        group_average([np.zeros(5), np.zeros(6)])
    with pytest.raises(InputError, match="minimum of participants: found 3, expected 1 to 2"):
        group_average(np.zeros((2, 4)), 3)


def test_sequential_map_is_monotone_in_grey():
    values = np.linspace(0, 1, N)
    colours = vertex_colours(fs_lr(), values, **SCALE)[:, :3]
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    lightness = np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)
    steps = np.diff(lightness[:: N // 64])
    assert (steps > 0).all()
    assert steps.max() < 4 * np.median(steps)
    assert lightness[-1] - lightness[0] > 90
