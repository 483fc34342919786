import numpy as np
import pytest
from braintuning.alignment.encoding import (
    alphas_of,
    chunked_splits,
    correlation,
    group_mean_ceiling,
    leave_one_out_correlation,
    noise_ceiling,
    predict,
    score_blocks,
    zscore,
)
from braintuning.errors import InputError
from braintuning.study.settings import Encoding
from scipy import stats
from tiny import closed_form, planted


@pytest.fixture(scope="module")
def oracles(shared):
    with np.load(shared / "data" / "oracles" / "reference_numerics.npz") as file:
        return dict(file)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 / 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zscore_leaves_no_nan_and_makes_a_constant_column_zero(value, dtype):
    data = np.random.default_rng(0).standard_normal((3001, 2)).astype(dtype) * 5 + 3
    data[:, 1] = value
    found = zscore(data)
    assert found.dtype == dtype
    np.testing.assert_allclose(found[:, 0], stats.zscore(data[:, 0].astype(float)), atol=1e-4)
    np.testing.assert_allclose(found[:, 1], 0, atol=1e-4)


def test_correlation_is_pearson_r():
    a, b = np.random.default_rng(0).standard_normal((2, 50, 4))
    b[:, :2] += 3 * a[:, :2] + 7
    np.testing.assert_allclose(correlation(a, b), [stats.pearsonr(a[:, i], b[:, i])[0] for i in range(4)])


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_correlation_with_a_constant_is_nan(value):
    varying = np.random.default_rng(0).standard_normal((251, 2))
    assert np.isnan(correlation(np.full((251, 2), value), varying)).all()
    assert np.isnan(correlation(varying, np.full((251, 2), value))).all()


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


@pytest.mark.parametrize(
    ("rows", "chunk", "fraction"), [(400, 20, 0.25), (419, 20, 0.25), (40, 20, 0.01), (45, 10, 0.99)]
)
def test_splits_hold_whole_chunks_and_the_fraction(rows, chunk, fraction):
    n_chunks = rows // chunk
    for train, validation in chunked_splits(rows, 5, chunk, fraction, np.random.default_rng(0)):
        assert sorted([*train, *validation]) == list(range(rows))
        assert (np.diff(train) > 0).all() and (np.diff(validation) > 0).all()
        validates = np.isin(np.arange(rows), validation)
        chunks = [*validates[: (n_chunks - 1) * chunk].reshape(-1, chunk), validates[(n_chunks - 1) * chunk :]]
        assert all(one.all() or not one.any() for one in chunks)
        assert sum(one.all() for one in chunks) == min(max(round(fraction * n_chunks), 1), n_chunks - 1)


def test_splits_are_random_and_repeatable():
    def draw(seed):
        return [tuple(v) for _, v in chunked_splits(400, 4, 20, 0.25, np.random.default_rng(seed))]

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)
    assert len(set(draw(3))) > 1


def test_splits_need_two_chunks():
    with pytest.raises(InputError, match="39 training rows"):
        chunked_splits(39, 3, 20, 0.25, np.random.default_rng(0))


def test_predict_uses_the_penalties_of_the_study():
    settings = Encoding(log10_alpha_min=-1.0, log10_alpha_max=2.0, n_alphas=4)
    np.testing.assert_allclose(alphas_of(settings), [0.1, 1, 10, 100])
    x, y = planted(100, 30)
    one = settings.model_copy(update={"log10_alpha_min": 1.0, "n_alphas": 1})
    np.testing.assert_allclose(
        predict(x, y, x[:9], one, np.random.default_rng(0)), x[:9] @ closed_form(x, y, 10), atol=2e-3
    )


@pytest.mark.parametrize("gap", [0, 1, 5])
def test_score_blocks_never_trains_within_the_gap(gap):
    x, y = planted(90, 4, voxels=3)
    for border in (30, 60):
        y[border - 5 : border + 5] += 30 * np.random.default_rng(border).standard_normal((10, 3))
    settings = Encoding(folds=3, n_alphas=1, validation_chunk_rows=10)
    scores = {}
    for rows_left_out in (gap, gap + 1):
        r = []
        for start in (0, 30, 60):
            train = [row for row in range(90) if row < start - rows_left_out or row >= start + 30 + rows_left_out]
            fit = x[start : start + 30] @ closed_form(x[train], y[train], 10)
            r.append([stats.pearsonr(fit[:, v], y[start : start + 30, v])[0] for v in range(3)])
        scores[rows_left_out] = np.mean(r, axis=0)
    found = score_blocks(x, y, settings, np.random.default_rng(0), gap)
    np.testing.assert_allclose(found, scores[gap], atol=1e-4)
    assert np.abs(scores[gap] - scores[gap + 1]).max() > 1e-2


def test_leave_one_out_correlation_is_with_the_mean_of_the_others():
    responses = np.random.default_rng(0).standard_normal((4, 30, 3)) + np.random.default_rng(1).standard_normal((30, 3))
    found = leave_one_out_correlation(responses)
    for one in range(4):
        others = np.mean([responses[i] for i in range(4) if i != one], axis=0)
        expected = [stats.pearsonr(responses[one, :, v], others[:, v])[0] for v in range(3)]
        np.testing.assert_allclose(found[one], expected)


def test_group_mean_ceiling_is_the_correlation_of_the_mean_with_the_planted_signal():
    rng, amplitude = np.random.default_rng(0), np.array([0.3, 1.0, 2.0])
    signal = rng.standard_normal((50_000, 3)) * amplitude
    responses = signal + rng.standard_normal((6, 50_000, 3))
    truth = [stats.pearsonr(responses.mean(axis=0)[:, v], signal[:, v])[0] for v in range(3)]
    np.testing.assert_allclose(group_mean_ceiling(responses), truth, atol=0.01)


def test_trap_group_mean_ceiling_without_agreement_is_masked():
    opposite = np.stack([np.arange(20.0), -np.arange(20.0)])[..., None]
    assert np.isnan(group_mean_ceiling(opposite)).all()
