import numpy as np
import pytest
from braintuning.alignment.ceiling import (
    ceiling_q,
    leave_one_out_correlation,
    noise_above,
    noise_ceiling,
    null_ceilings,
    shared_ceiling,
    split_half_ceiling,
)
from braintuning.alignment.correlation import correlation
from braintuning.errors import InputError
from scipy import stats
from scipy.signal import lfilter


@pytest.fixture(scope="module")
def oracles(shared):
    with np.load(shared / "data" / "oracles" / "reference_numerics.npz") as file:
        return dict(file)


def test_noise_ceiling_agrees_with_the_reference(oracles):
    expected = np.where(oracles["ceiling_cc_max"] > 0, oracles["ceiling_cc_max"], np.nan)
    np.testing.assert_allclose(noise_ceiling(oracles["ceiling_repeats"]), expected, rtol=1e-10)


@pytest.mark.parametrize("n_repeats", [2, 5])
def test_noise_ceiling_recovers_the_planted_signal(n_repeats):
    rng, rows, amplitude = np.random.default_rng(0), 100_000, np.array([0.2, 0.5, 1.0, 3.0])
    signal = rng.standard_normal((rows, 4)) * amplitude
    repeats = (signal + rng.standard_normal((n_repeats, rows, 4))).astype(np.float32)
    expected = amplitude / np.sqrt(amplitude**2 + 1 / n_repeats)
    np.testing.assert_allclose(noise_ceiling(repeats), expected, atol=0.03)


def test_trap_noise_ceiling_is_masked_where_signal_power_is_not_positive():
    repeats = np.random.default_rng(0).standard_normal((4, 40, 30))
    repeats[1, 3, 0] = np.nan
    repeats[:, :, 1] = 0
    found = noise_ceiling(repeats)
    for voxel, one in enumerate(repeats.transpose(2, 0, 1)):
        covariances = np.cov(one)[np.triu_indices(4, 1)]
        power, variance = covariances.mean(), np.var(one.mean(axis=0), ddof=1)
        expected = np.sqrt(power / variance) if power > 0 else np.nan
        np.testing.assert_allclose(found[voxel], expected, rtol=1e-9)
    assert np.isnan(found[2:]).any() and np.isfinite(found[2:]).any()


@pytest.mark.parametrize("rows", [7, 251, 1003])
def test_trap_noise_ceiling_of_a_voxel_that_never_changes_is_masked(rows):
    stuck = np.ones((5, rows, 1)) * [1 / 3, 123.456, -0.7]
    assert np.isnan(noise_ceiling(stuck)).all()


def test_noise_ceiling_needs_two_repeats():
    with pytest.raises(InputError, match="found 1 repeat"):
        noise_ceiling(np.zeros((1, 20, 3)))


def repeats_of(n_signal, seed=0, n_voxels=1500, n_trs=125, n_repeats=5):
    """AR(1) noise of .35 in every voxel, and a signal of a fifth of the variance in the first `n_signal`."""
    rng = np.random.default_rng(seed)
    white = rng.standard_normal((n_trs + 20, n_repeats, n_voxels))
    noise = lfilter([np.sqrt(1 - 0.35**2)], [1, -0.35], white, axis=0)[20:].transpose(1, 0, 2)
    signal = rng.standard_normal((n_trs, n_voxels)) * (np.arange(n_voxels) < n_signal)
    return (np.sqrt(0.8) * noise + np.sqrt(0.2) * signal).astype(np.float32)


def test_the_null_is_that_of_voxels_which_repeat_nothing():
    noise = repeats_of(0)
    null = null_ceilings(noise, np.random.default_rng(1))
    assert null.shape == (20, 1500)
    own = np.nan_to_num(noise_ceiling(noise))
    for threshold in (0.3, 0.4, 0.5):
        assert (null > threshold).mean() == pytest.approx((own > threshold).mean(), abs=0.015)


def test_noise_let_through_by_a_threshold_is_counted():
    repeats = repeats_of(300)
    ceiling, null = noise_ceiling(repeats), null_ceilings(repeats, np.random.default_rng(1))
    used = np.nan_to_num(ceiling) > 0.4
    expected = used[300:].sum()
    assert expected > 50
    expected_above = noise_above(ceiling, null)
    assert expected_above[40] == pytest.approx(expected, rel=0.3)
    assert expected_above[100] == 0 and (np.diff(expected_above) <= 0).all()


def test_the_null_holds_nothing_of_a_slow_signal():
    slow = np.sin(2 * np.pi * np.arange(120) / 40)[:, None] + 0.3 * np.random.default_rng(0).standard_normal(
        (5, 120, 50)
    )
    null = null_ceilings(slow, np.random.default_rng(1), n_draws=50)
    assert noise_ceiling(slow).min() > 0.95
    assert np.median(null) < 0.7


def test_the_false_discovery_rate_is_controlled_over_voxels():
    shares, found = [], []
    for seed in range(5):
        repeats = repeats_of(300, seed)
        chosen = ceiling_q(noise_ceiling(repeats), null_ceilings(repeats, np.random.default_rng(seed))) < 0.05
        shares.append(chosen[300:].sum() / chosen.sum())
        found.append(chosen[:300].mean())
    assert np.mean(shares) < 0.07 and np.mean(found) > 0.6


def test_a_voxel_without_a_ceiling_has_no_q():
    repeats = repeats_of(100)
    repeats[:, :, 5] = 0
    q = ceiling_q(noise_ceiling(repeats), null_ceilings(repeats, np.random.default_rng(0)))
    assert np.isnan(q[5]) and np.isfinite(np.delete(q, 5)).sum() == np.isfinite(noise_ceiling(repeats)).sum()


def test_leave_one_out_correlation_is_with_the_mean_of_the_others():
    responses = np.random.default_rng(0).standard_normal((4, 30, 3)) + np.random.default_rng(1).standard_normal((30, 3))
    found = leave_one_out_correlation(responses)
    for one in range(4):
        others = np.mean([responses[i] for i in range(4) if i != one], axis=0)
        expected = [stats.pearsonr(responses[one, :, v], others[:, v])[0] for v in range(3)]
        np.testing.assert_allclose(found[one], expected)


def test_who_has_no_response_counts_neither_for_themselves_nor_in_the_mean():
    responses = np.random.default_rng(0).standard_normal((4, 30, 3)) + np.random.default_rng(1).standard_normal((30, 3))
    gone = responses.copy()
    gone[1, 20:] = np.nan
    gone[2, :, 0] = np.nan
    gone[3, :, 1] = 7
    found = leave_one_out_correlation(gone)
    for one, region, trs in ((0, 2, slice(None)), (1, 2, slice(20)), (0, 0, slice(None))):
        others = np.nanmean([gone[i] for i in range(4) if i != one], axis=0)[trs, region]
        assert found[one, region] == pytest.approx(stats.pearsonr(gone[one, trs, region], others)[0])
    assert np.isnan(found[2, 0]) and np.isnan(found[3, 1]) and np.isfinite(found).sum() == 10
    np.testing.assert_allclose(shared_ceiling(gone), np.nanmean(found, axis=0))
    assert np.isnan(shared_ceiling(np.stack([np.arange(9.0), -np.arange(9.0)])[..., None])).all()


def test_split_halves_give_the_correlation_of_the_mean_with_the_planted_signal():
    rng, amplitude = np.random.default_rng(0), np.array([0.3, 1.0, 2.0])
    signal = rng.standard_normal((50_000, 3)) * amplitude
    responses = signal + rng.standard_normal((6, 50_000, 3))
    truth = [stats.pearsonr(responses.mean(axis=0)[:, v], signal[:, v])[0] for v in range(3)]
    np.testing.assert_allclose(split_half_ceiling(responses, rng, 10), truth, atol=0.01)


def test_trap_split_halves_without_agreement_are_masked():
    opposite = np.stack([np.arange(20.0), -np.arange(20.0)])[..., None]
    assert np.isnan(split_half_ceiling(opposite, np.random.default_rng(0))).all()


def test_halves_in_which_nobody_has_a_region_do_not_lower_its_ceiling():
    rng, n = np.random.default_rng(0), 4000
    people = rng.standard_normal((n, 1)) + rng.standard_normal((4, n, 1))
    people[:2] = np.nan  # r of one with one is .5, and a third of all halves have nobody on one side
    assert split_half_ceiling(people, rng, 60) == pytest.approx(np.sqrt(2 * 0.5 / 1.5), abs=0.02)


@pytest.mark.parametrize(("ceiling", "kept"), [(0.3, 0.28), (0.4, 0.33), (0.5, 0.40), (0.7, 0.41)])
def test_choosing_by_the_ceiling_leaves_r_as_it_was_and_lowers_alignment_near_the_threshold(ceiling, kept):
    """What docs/methods.md says of a true alignment of .40, five presentations of 120 volumes and a threshold of .4."""
    rng, truth, shape = np.random.default_rng(0), 0.4, (120, 1500)
    signal = rng.standard_normal(shape)
    predicted = truth * signal + np.sqrt(1 - truth**2) * rng.standard_normal(shape)
    repeats = signal + np.sqrt(5 * (1 / ceiling**2 - 1)) * rng.standard_normal((5, *shape))
    estimated, r = noise_ceiling(repeats), correlation(predicted, repeats.mean(axis=0))
    chosen = np.nan_to_num(estimated) > 0.4
    assert r[chosen].mean() == pytest.approx(truth * ceiling, abs=0.015)
    assert (r[chosen] / estimated[chosen]).mean() == pytest.approx(kept, abs=0.025)
