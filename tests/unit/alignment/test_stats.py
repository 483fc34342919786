import numpy as np
import pytest
from braintuning.alignment import stats
from scipy.signal import lfilter
from scipy.stats import norm, wilcoxon
from tiny import refused


def correlations(a, b):
    return np.array([np.corrcoef(x, y)[0, 1] for x, y in zip(a.T, b.T, strict=True)])


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([(0.2, 0.01), (0.1, 0.03)], 0.03),  # agreement: the largest
        ([(0.9, 0.01), (-0.1, 0.4)], 1.0),  # one against: its one-sided p is .8
        ([(0.9, 0.01), (-0.1, 1.0)], 1.0),
        ([(-0.2, 0.04)], 0.04),
        ([(0.2, 0.01), (0.1, np.nan)], np.nan),
    ],
)
def test_conjunction_is_the_largest_p_towards_the_common_sign(differences, expected):
    assert stats.conjunction_p(differences) == pytest.approx(expected, nan_ok=True)


def test_conjunction_rejects_no_more_often_than_it_says():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((4000, 3))
    z[:, 0] += 6  # a clear effect in one of three does not make a conjunction
    p = 2 * norm.sf(np.abs(z))
    found = [stats.conjunction_p(list(zip(values, own, strict=True))) for values, own in zip(z, p, strict=True)]
    assert np.mean(np.array(found) < 0.05) < 0.05


def test_signed_rank_p_is_exact_for_few_participants():
    differences = [0.3, 0.2, 0.5, 0.1, 0.4, 0.6]
    assert stats.signed_rank_p(differences) == pytest.approx(2 / 2**6)
    assert stats.signed_rank_p([*differences, -0.05]) == pytest.approx(wilcoxon([*differences, -0.05]).pvalue)


@pytest.mark.parametrize("differences", [[1.0] * 5, [0.0] * 8, []])
def test_too_few_participants_or_no_difference_give_no_p(differences):
    assert np.isnan(stats.signed_rank_p(differences))


def test_false_discovery_rate_by_hand():
    q = stats.false_discovery_q([0.01, 0.04, np.nan, 0.03])
    np.testing.assert_allclose(q, [0.03, 0.04, np.nan, 0.04])
    assert np.isnan(stats.false_discovery_q([np.nan])).all()


def test_interval_of_a_mean_is_the_textbook_one():
    values = [1.0, 2.0, 4.0]  # mean 7/3, deviation sqrt(7/3), t(.975, 2) = 4.302653
    half = 4.302653 * np.sqrt(7 / 3) / np.sqrt(3)
    assert stats.mean_interval(values) == pytest.approx((7 / 3 - half, 7 / 3 + half), abs=1e-5)
    assert np.isnan(stats.mean_interval([0.3])).all()


@pytest.mark.parametrize("n", [2, 4, 6, 8, 50])
def test_intervals_of_few_participants_cover_what_they_say(n):
    drawn = np.random.default_rng(n).normal(0.3, 1.0, (1000, n))
    found = np.array([stats.mean_interval(values) for values in drawn])
    assert 0.925 < np.mean((found[:, 0] <= 0.3) & (found[:, 1] >= 0.3)) < 0.97


def test_bonferroni_takes_the_smallest_times_their_number():
    assert stats.bonferroni_p([0.2, 0.01, 0.5]) == pytest.approx(0.03)
    assert stats.bonferroni_p([0.9, np.nan, 0.8]) == 1.0
    assert np.isnan(stats.bonferroni_p([np.nan])) and np.isnan(stats.bonferroni_p([]))


def test_bonferroni_rejects_no_more_often_than_it_says_when_all_heard_the_same():
    rng = np.random.default_rng(0)
    z = 0.8 * rng.standard_normal((4000, 1)) + 0.6 * rng.standard_normal((4000, 4))
    found = np.array([stats.bonferroni_p(p) for p in 2 * norm.sf(np.abs(z))])
    assert 0.01 < np.mean(found < 0.05) < 0.055


def planted(n_rows=60, n_voxels=40, signal=1.0, seed=0):
    rng = np.random.default_rng(seed)
    truth = rng.standard_normal((n_rows, n_voxels))
    return truth, signal * truth + rng.standard_normal((n_rows, n_voxels)), rng


def test_permutation_p_against_brute_force():
    truth, measured, _ = planted(n_rows=60, signal=0.15)
    weights = np.random.default_rng(3).uniform(1, 2, 40)
    p = stats.correlation_p(truth, measured, weights, np.random.default_rng(5), n_permutations=300)
    rng, observed = np.random.default_rng(5), weights @ correlations(truth, measured)
    blocks = measured.reshape(6, 10, 40)
    null = [weights @ correlations(truth, blocks[rng.permutation(6)].reshape(60, 40)) for _ in range(300)]
    assert p == pytest.approx((1 + sum(n >= observed - 1e-9 for n in null)) / 301)


def test_permutation_p_is_never_zero_and_uniform_without_signal():
    truth, measured, rng = planted(signal=5.0, n_rows=200)
    assert stats.correlation_p(truth, measured, np.ones(40), rng, n_permutations=99) == pytest.approx(0.01)
    drawn = []
    for seed in range(200):
        truth, measured, rng = planted(signal=0.0, n_voxels=3, n_rows=120, seed=seed)
        drawn.append(stats.correlation_p(truth, measured, np.ones(3), rng, n_permutations=99))
    assert 0.02 < np.mean(np.array(drawn) <= 0.1) < 0.18


def test_swapping_p_against_brute_force():
    truth, measured, rng = planted(n_rows=65)
    worse = truth + 0.7 * rng.standard_normal(truth.shape)
    weights = np.random.default_rng(3).uniform(1, 2, 40)
    p = stats.difference_p(truth, worse, measured, weights, np.random.default_rng(5), n_permutations=200)
    a, b, m = (rows[:60].reshape(6, 10, 40) for rows in (truth, worse, measured))
    a, b = (
        x / x.reshape(60, 40).std(axis=0) - (x / x.reshape(60, 40).std(axis=0)).reshape(60, 40).mean(0) for x in (a, b)
    )
    flips = np.random.default_rng(5).random((200, 6)) < 0.5

    def gap(flip):
        first = np.where(flip[:, None, None], b, a).reshape(60, 40)
        second = np.where(flip[:, None, None], a, b).reshape(60, 40)
        flat = m.reshape(60, 40)
        return abs(weights @ (correlations(first, flat) - correlations(second, flat)))

    observed = gap(np.zeros(6, bool))
    assert p == pytest.approx((1 + sum(gap(flip) >= observed - 1e-9 for flip in flips)) / 201)


def test_equal_models_do_not_differ_and_a_better_one_does():
    truth, measured, rng = planted(n_rows=200)
    noise = rng.standard_normal(truth.shape)
    assert stats.difference_p(truth, truth.copy(), measured, np.ones(40), rng) == 1.0
    assert stats.difference_p(truth, truth + noise, measured, np.ones(40), rng) < 0.01


def test_too_few_rows_are_refused():
    rows = np.zeros((19, 3))
    refused(lambda: stats.correlation_p(rows, rows, np.ones(3), np.random.default_rng(0)), "19 rows", "blocks of 10")


@pytest.mark.parametrize("change", ["no voxel", "a NaN prediction", "a NaN measurement"])
def test_what_is_not_defined_has_no_p(change):
    truth, measured, rng = planted(n_rows=60, n_voxels=4)
    weights, other = np.ones(4), truth + rng.standard_normal(truth.shape)
    if change == "no voxel":
        truth, measured, other, weights = (array[..., :0] for array in (truth, measured, other, weights))
    else:
        (truth if "prediction" in change else measured)[7, 2] = np.nan
    assert np.isnan(stats.correlation_p(truth, measured, weights, rng, n_permutations=20))
    assert np.isnan(stats.difference_p(truth, other, measured, weights, rng, n_permutations=20))
    assert np.isnan(stats.tr_values(truth, other, measured, weights)).all()
    assert np.isnan(stats.block_interval(stats.tr_values(truth, other, measured, weights), 10)).all()


def test_undefined_participants_are_not_counted():
    assert stats.signed_rank_p([0.3, 0.2, 0.5, np.nan, 0.1, 0.4, 0.6]) == pytest.approx(2 / 2**6)
    assert np.isnan(stats.signed_rank_p([0.3, 0.2, 0.5, np.nan, 0.1, 0.4]))


def noise(rng, n_rows, n_voxels, autoregression):
    white = rng.standard_normal((n_rows + 50, n_voxels))
    return lfilter([1], [1, -autoregression], white, axis=0)[50:]


def rejections(autoregression, n_rows, against, times=400):
    """Share of p < .05 where nothing differs, with the chosen block and with 10 TRs; and how often intervals hold 0."""
    rng, found, covered = np.random.default_rng(n_rows), [], []
    for _ in range(times):
        measured, one, other = (noise(rng, n_rows, 2, autoregression) for _ in range(3))
        first, second = (measured + one, measured + other) if against == "another" else (one, None)
        values = stats.tr_values(first, second, measured, np.ones(2))
        chosen = stats.block_length(values, 10)
        for block in (chosen, 10):
            if second is None:
                found.append(stats.correlation_p(first, measured, np.ones(2), rng, block, 99))
            else:
                found.append(stats.difference_p(first, second, measured, np.ones(2), rng, block, 99))
            low, high = stats.block_interval(values, block)
            covered.append(low <= 0 <= high)
    return (np.reshape(found, (times, 2)) <= 0.05).mean(axis=0), np.reshape(covered, (times, 2)).mean(axis=0)


@pytest.mark.parametrize("against", ["another", "chance"])
@pytest.mark.parametrize("autoregression", [0.35, 0.6, 0.8])
def test_blocks_as_long_as_the_autocorrelation_asks_keep_tests_nominal(autoregression, against):
    rejected, covered = rejections(autoregression, 240, against)
    assert 0.025 < rejected[0] < 0.08
    assert 0.9 < covered[0] < 0.98


@pytest.mark.parametrize("against", ["another", "chance"])
def test_longer_blocks_mend_most_of_what_blocks_of_ten_get_wrong_in_slow_noise(against):
    rejected, covered = rejections(0.9, 290, against, 600)
    assert rejected[0] < 0.08 < rejected[1]
    assert covered[1] < covered[0] - 0.02


def test_block_length_is_six_integral_times_within_its_bounds():
    rng = np.random.default_rng(0)
    for autoregression, expected in ((0.0, 10), (0.5, 18), (0.8, 54)):
        values = noise(rng, 20000, 1, autoregression)[:, 0]
        assert stats.block_length(values, 10) == pytest.approx(expected, abs=3)
        assert stats.block_length(3 + 5 * values, 10) == stats.block_length(values, 10)
    slow = noise(rng, 240, 1, 0.98)[:, 0]
    assert stats.block_length(slow, 10) == 240 // 8 and stats.block_length(slow, 40) == 40
    assert stats.block_length(-np.tile([1.0, -1.0], 50), 4) == 6  # neighbours that alternate ask for no more
    for nothing in (np.zeros(100), np.full(100, 0.1), np.full(100, np.nan)):
        assert stats.block_length(nothing, 10) == 10


def test_autocorrelation_is_estimated_without_bias_in_short_series():
    """Of 120 values the plain correlation of neighbours is too small by (1 + 3 r) / n."""
    rng = np.random.default_rng(0)
    found = [stats.block_length(noise(rng, 120, 1, 0.35)[:, 0], 1) for _ in range(2000)]
    assert np.median(found) == pytest.approx(6 * 1.35 / 0.65, abs=1)


def test_tr_values_against_leaving_trs_out_by_hand():
    truth, measured, rng = planted(n_rows=65)
    other, weights = truth + rng.standard_normal(truth.shape), rng.uniform(1, 2, 40)
    found = stats.tr_values(truth, other, measured, weights)

    def gap(rows):
        return np.mean(
            weights * (correlations(truth[rows], measured[rows]) - correlations(other[rows], measured[rows]))
        )

    rows = np.arange(65)
    expected = [65 * gap(rows) - 64 * gap(rows[rows != tr]) for tr in rows]
    np.testing.assert_allclose(found, expected, atol=1e-9)
    alone = stats.tr_values(truth, None, measured, weights) - stats.tr_values(other, None, measured, weights)
    np.testing.assert_allclose(found, alone, atol=1e-9)
    by_hand = stats.mean_interval([found[start : start + 10].mean() for start in range(0, 60, 10)])
    assert stats.block_interval(found, 10) == pytest.approx(by_hand)
    assert np.isnan(stats.block_interval(found, 40)).all()


def test_interval_over_blocks_covers_the_true_difference_though_voxels_share_their_noise():
    rng, covered = np.random.default_rng(1), []
    expected = 1 / np.sqrt(2) / np.sqrt(1.25) - 1 / np.sqrt(2) / np.sqrt(2)  # of signal with noise of sd .5 and of 1
    for _ in range(500):
        signal, own, one, other = (noise(rng, 120, 1, 0.35) for _ in range(4))
        voxels = np.ones((1, 6))
        models = (signal + 0.5 * one) * voxels, (signal + other) * voxels
        values = stats.tr_values(*models, (signal + own) * voxels, np.ones(6))
        low, high = stats.block_interval(values, stats.block_length(values, 10))
        covered.append(low <= expected <= high)
    assert 0.91 < np.mean(covered) < 0.98
