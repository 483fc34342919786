import numpy as np
import pytest
import torch
from braintuning.alignment import encoding
from braintuning.alignment.correlation import correlation, zscore
from braintuning.alignment.encoding import (
    EncodingModel,
    chunked_splits,
    correlation_in_folds,
    on_device_if_it_fits,
    predict,
    predict_folds,
    predict_layers,
    standard_responses,
)
from braintuning.errors import InputError
from braintuning.results import generator
from braintuning.study.settings import Encoding
from scipy import stats
from sklearn.model_selection import cross_val_score
from sklearn.utils.estimator_checks import parametrize_with_checks
from tiny import closed_form, planted

SETTINGS = Encoding(delays=(1, 2), n_alphas=2, validation_chunk_rows=5, test_skip_rows=1)
ROWS = {"a": 20, "b": 31, "c": 12}


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6 / 3])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_zscore_leaves_no_nan_and_makes_a_constant_column_zero(value, dtype):
    data = np.random.default_rng(0).standard_normal((3001, 2)).astype(dtype) * 5 + 3
    data[:, 1] = value
    found = zscore(data)
    assert found.dtype == dtype
    np.testing.assert_allclose(found[:, 0], stats.zscore(data[:, 0].astype(float)), atol=1e-4)
    np.testing.assert_allclose(found[:, 1], 0, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.int16, np.int64, np.uint8])
def test_zscore_of_whole_numbers_is_not_rounded(dtype):
    data = np.random.default_rng(0).integers(90, 110, (50, 3)).astype(dtype)
    np.testing.assert_allclose(zscore(data), stats.zscore(data.astype(float)))


def test_correlation_is_pearson_r():
    a, b = np.random.default_rng(0).standard_normal((2, 50, 4))
    b[:, :2] += 3 * a[:, :2] + 7
    np.testing.assert_allclose(correlation(a, b), [stats.pearsonr(a[:, i], b[:, i])[0] for i in range(4)])


@pytest.mark.parametrize("value", [0.0, 0.1])
def test_correlation_with_a_constant_is_nan(value):
    varying = np.random.default_rng(0).standard_normal((251, 2))
    assert np.isnan(correlation(np.full((251, 2), value), varying)).all()
    assert np.isnan(correlation(varying, np.full((251, 2), value))).all()


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
    with pytest.raises(InputError, match="39 training TRs"):
        chunked_splits(39, 3, 20, 0.25, np.random.default_rng(0))


def test_predict_uses_the_penalties_of_the_study():
    settings = Encoding(log10_alpha_min=-1.0, log10_alpha_max=2.0, n_alphas=4)
    x, y = planted(100, 30)
    candidates = np.stack([x[:9] @ closed_form(x, y, alpha) for alpha in (0.1, 1, 10, 100)])
    found = predict(x, y, x[:9], settings, np.random.default_rng(0))
    assert np.abs(candidates - found).max(axis=1).min(axis=0).max() < 2e-3
    one = settings.model_copy(update={"log10_alpha_min": 1.0, "n_alphas": 1})
    np.testing.assert_allclose(predict(x, y, x[:9], one, np.random.default_rng(0)), candidates[2], atol=2e-3)


@pytest.mark.parametrize("gap", [0, 1, 5])
def test_each_fold_is_predicted_once_and_never_trains_within_the_gap(gap):
    x, y = planted(90, 4, voxels=3)
    for border in (30, 60):
        y[border - 5 : border + 5] += 30 * np.random.default_rng(border).standard_normal((10, 3))
    settings = Encoding(folds=3, n_alphas=1, validation_chunk_rows=10, delays=(0, 1))
    lead = np.random.default_rng(1).standard_normal((1, 4)).astype(np.float32)
    layers = np.stack([np.concatenate([lead, x]), np.concatenate([lead, 3 * x[::-1] + 5])])
    by_gap = {}
    for rows_left_out in (gap, gap + 1):
        by_gap[rows_left_out] = expected = []
        for layer in layers:
            standard = (layer - layer[1:].mean(axis=0)) / layer[1:].std(axis=0)
            design, truth = np.hstack([standard[1:], standard[:-1]]), (y - y.mean(axis=0)) / y.std(axis=0)
            for start in (0, 30, 60):
                train = [row for row in range(90) if row < start - rows_left_out or row >= start + 30 + rows_left_out]
                fold = design[start : start + 30] @ closed_form(design[train], truth[train], 10)
                expected.append((fold - fold.mean(axis=0)) / fold.std(axis=0))
    found = list(predict_folds(layers.astype(np.float32), y.astype(np.float32), settings, gap))
    by_hand = np.concatenate(by_gap[gap]).reshape(2, 90, 3)
    np.testing.assert_allclose(found, by_hand, atol=5e-3)
    assert np.abs(by_hand - np.concatenate(by_gap[gap + 1]).reshape(2, 90, 3)).max() > 2e-2
    r = [[stats.pearsonr(found[1][fold, v], y[fold, v])[0] for v in range(3)] for fold in np.split(np.arange(90), 3)]
    np.testing.assert_allclose(correlation_in_folds(found[1], y, 3), np.mean(r, axis=0), atol=1e-5)


def material():
    rng = np.random.default_rng(0)
    features = {story: rng.standard_normal((3, rows + 2, 4)).astype(np.float32) for story, rows in ROWS.items()}
    responses = {story: rng.normal(3, 2, (rows, 7)).astype(np.float32) for story, rows in ROWS.items()}
    return features, responses


def test_each_story_is_standardised_on_its_own():
    _, responses = material()
    found = standard_responses(responses, ["b", "a"])
    assert found.shape == (51, 7) and found.dtype == np.float32
    for rows, story in ((found[:31], "b"), (found[31:], "a")):
        expected = (responses[story] - responses[story].mean(axis=0)) / responses[story].std(axis=0)
        np.testing.assert_allclose(rows, expected, atol=1e-5)


def test_responses_are_standardised_once_for_all_layers(monkeypatch):
    features, responses = material()
    seen, plain = [], encoding.standard_responses
    monkeypatch.setattr(encoding, "standard_responses", lambda given, train: seen.append(train) or plain(given, train))
    found = list(predict_layers(features, responses, ["a", "b"], ["c"], SETTINGS))
    assert seen == [["a", "b"]] and [layer.shape for layer in found] == [(11, 7)] * 3
    assert not np.allclose(found[0], found[1])


def test_responses_go_to_a_gpu_where_they_take_little_of_it(monkeypatch):
    responses, moved = np.ones((10, 25), np.float32), []
    monkeypatch.setattr(torch.Tensor, "to", lambda tensor, device: moved.append((tuple(tensor.shape), device)))
    for free in (1000 / encoding.SHARE_OF_GPU - 1, 1000 / encoding.SHARE_OF_GPU + 1):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda n=free: (n, n))
        kept = on_device_if_it_fits(responses, "cuda")
        assert (kept is responses) == (not moved)
    assert moved == [((10, 25), "cuda")]
    assert on_device_if_it_fits(responses, "cpu") is responses


@pytest.mark.parametrize(("rows", "features"), [(90, 30), (60, 150)])
def test_the_estimator_predicts_what_a_study_does(rows, features):
    x, y = planted(rows, features)
    settings = Encoding(validation_chunk_rows=10, seed=3)
    model = EncodingModel(chunk_rows=10, seed=3).fit(x, y)
    expected = predict(x, y, x[:20], settings, generator(3, "splits"))
    np.testing.assert_allclose(model.predict(x[:20]), expected, atol=1e-5)
    assert set(model.best_alphas_) <= set(encoding.ALPHAS) and model.best_alphas_.shape == (y.shape[1],)
    r = [stats.pearsonr(model.predict(x)[:, v], y[:, v])[0] for v in range(y.shape[1])]
    assert model.score(x, y) == pytest.approx(np.mean(r), abs=1e-5)


def test_one_voxel_may_be_a_vector():
    x, y = planted(90, 30)
    model, whole = (EncodingModel(chunk_rows=10).fit(x, data) for data in (y[:, 2], y))
    assert model.predict(x).shape == (90,) and np.ndim(model.best_alphas_) == 0
    np.testing.assert_allclose(model.predict(x), whole.predict(x)[:, 2], atol=1e-5)
    assert np.mean(cross_val_score(model, x, y[:, 2], cv=3)) > 0.5


@parametrize_with_checks([EncodingModel(alphas=(0.1, 1.0, 10.0), chunk_rows=2)])
def test_the_estimator_is_one_of_scikit_learns(estimator, check):
    check(estimator)
