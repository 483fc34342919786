import numpy as np
import pytest
from braintuning.cortex.colours import (
    DARKEST_SHADE,
    DIFFERENCE,
    Reliability,
    group_average,
    limits,
    smoothed,
    vertex_colours,
)
from braintuning.cortex.surface import Surface, fs_lr
from braintuning.errors import InputError
from coarse_cortex import fibonacci_sphere
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize

SCALE = ScalarMappable(Normalize(0.0, 1.0), "inferno")
N = 64984


def test_colours_blend_over_the_grey_folds():
    surface = fs_lr()
    values = np.full(N, 0.7)
    values[10] = np.nan
    alpha = np.ones(N)
    alpha[20], alpha[30] = 0.0, 0.25
    colours = vertex_colours(surface, values, SCALE, alpha=alpha)
    folds = vertex_colours(surface, values, SCALE, alpha=np.zeros(N))
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
    colours = vertex_colours(surface, values, SCALE, light=np.zeros(N))
    np.testing.assert_allclose(colours[:100], np.broadcast_to(colormaps["inferno"](0.7), (100, 4)))
    folds = vertex_colours(surface, values, SCALE)
    np.testing.assert_allclose(colours[100:, 1], DARKEST_SHADE * folds[100:, 1])


def test_lengths_and_empty_maps_are_named():
    surface = fs_lr()
    with pytest.raises(InputError, match=r"values on fs_LR-32k: found shape \(59412,\), expected \(64984,\)"):
        vertex_colours(surface, np.zeros(59412), SCALE)
    with pytest.raises(InputError, match=r"alpha on fs_LR-32k: found shape \(3,\), expected \(64984,\)"):
        vertex_colours(surface, np.zeros(N), SCALE, alpha=np.ones(3))
    with pytest.raises(InputError, match="all 64984 are NaN"):
        limits(surface, np.full(N, np.nan), None, None, False)


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
    assert limits(fs_lr(), np.zeros(9), None, None, True) == (-1.0, 1.0)
    assert limits(fs_lr(), np.append(np.zeros(999), 0.2), None, None, True) == pytest.approx((-0.2, 0.2))
    assert limits(fs_lr(), np.append(np.zeros(999), 0.2), None, None, False) == pytest.approx((0.0, 0.2))
    assert limits(fs_lr(), np.full(9, -2.0), None, None, False) == (-2.0, -1.0)
    with pytest.raises(InputError, match="vmin 1 and vmax 1"):
        limits(fs_lr(), values, 1, 1, False)


def test_group_average_by_brute_force():
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(3, 200))
    maps[rng.uniform(size=maps.shape) < 0.6] = np.nan
    average = group_average(maps)
    for vertex, column in enumerate(maps.T):
        known = [value for value in column.tolist() if value == value]
        if known:
            assert average[vertex] == pytest.approx(sum(known) / len(known))
        else:
            assert np.isnan(average[vertex])
    assert np.isnan(average).any() and np.isfinite(average).any()


def test_sequential_map_is_monotone_in_grey():
    values = np.linspace(0, 1, N)
    colours = vertex_colours(fs_lr(), values, SCALE)[:, :3]
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    lightness = np.where(luminance > 0.008856, 116 * np.cbrt(luminance) - 16, 903.3 * luminance)
    steps = np.diff(lightness[:: N // 64])
    assert (steps > 0).all()
    assert steps.max() < 4 * np.median(steps)
    assert lightness[-1] - lightness[0] > 90


def test_a_difference_and_its_opposite_differ_in_grey():
    sizes = np.linspace(0.1, 1, 10)
    greys = {sign: 255 * DIFFERENCE(0.5 + sign * sizes / 2)[:, :3] @ [0.299, 0.587, 0.114] for sign in (-1, 1)}
    assert (np.diff(greys[1]) > 0).all() and (np.diff(greys[-1]) < 0).all()
    assert (greys[1] - greys[-1] > 10).all()


def test_smoothing_is_repeated_averaging_over_neighbours_by_brute_force():
    points, faces = fibonacci_sphere(200)
    points = points / 10
    n = len(points)
    sides = dict.fromkeys(("left", "right"), (points, faces))
    surface = Surface("small", (n, n), sides, {}, np.zeros(2 * n), np.arange(2 * n) != 7)
    rng = np.random.default_rng(0)
    values = np.where(rng.random(2 * n) < 0.3, np.nan, rng.normal(size=2 * n))
    neighbours = [{k} for k in range(2 * n)]
    for start in (0, n):
        for face in faces + start:
            for a in face:
                neighbours[a] |= set(face.tolist())
    lengths = [np.linalg.norm(points[a] - points[b]) for a in range(n) for b in neighbours[a] if a < b]
    times = round(7 / 3 * (2.5 / np.median(lengths)) ** 2)
    assert times > 1
    known = np.isfinite(values) & surface.cortex
    total, weight = np.where(known, values, 0), known * 1.0
    for _ in range(times):
        total, weight = (np.array([one[list(near)].mean() for near in neighbours]) for one in (total, weight))
    expected = np.where(surface.cortex & (weight > 1e-3), total / np.maximum(weight, 1e-9), np.nan)
    np.testing.assert_allclose(smoothed(surface, values, 2.5), expected)


def test_smoothing_keeps_a_constant_and_spreads_by_its_standard_deviation():
    surface = fs_lr()
    constant = smoothed(surface, np.where(np.arange(N) % 3 == 0, 2.0, np.nan), 3.0)
    np.testing.assert_allclose(constant[surface.cortex], 2.0)
    points = surface.inflated["left"][0]
    peak = np.abs(points - [-60.0, -20.0, 20.0]).sum(axis=1).argmin()
    spread = smoothed(surface, np.eye(1, N, peak)[0], 3.0)[: len(points)]
    spread = np.nan_to_num(spread)
    variance = (spread * ((points - points[peak]) ** 2).sum(axis=1)).sum() / spread.sum() / 2
    assert np.sqrt(variance) == pytest.approx(3.0, rel=0.25)
