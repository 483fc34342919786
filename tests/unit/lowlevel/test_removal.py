"""Removal with the studies' own settings, on stories as long and features as wide and as correlated as in the demo."""

import numpy as np
import pytest
from braintuning.alignment.correlation import correlation, zscore
from braintuning.alignment.encoding import design_matrix
from braintuning.lowlevel.removal import read_out, remove
from braintuning.study.settings import Encoding
from braintuning.timing import delay
from sklearn.linear_model import RidgeCV

SETTINGS = Encoding()
LEAD = max(SETTINGS.delays)
ROWS = {"a": 115, "b": 130, "c": 110, "d": 122, "winter": 130}
TRAIN = ("a", "b", "c", "d")
CHANCE = 2 / np.sqrt(ROWS["winter"])


def slow(rng, dim, memory=0.5):
    """Noise that remembers; LEAD more rows at the start of each story."""
    made = {}
    for story, rows in ROWS.items():
        made[story] = rng.standard_normal((rows + LEAD + 20, dim))
        for row in range(1, len(made[story])):
            made[story][row] += memory * made[story][row - 1]
        made[story] = made[story][20:].astype(np.float32)
    return made


def spectrum(rng):
    """32 bands that are mixtures of eight, and a little of their own, as bands of a spectrum are."""
    common, own, mixing = slow(rng, 8), slow(rng, 32), rng.standard_normal((8, 32))
    return {story: (common[story] @ mixing + 0.3 * own[story]).astype(np.float32) for story in ROWS}


def counted(rng, dim):
    """Rare events, as diphones are."""
    return {story: rng.poisson(0.15, (rows + LEAD, dim)).astype(np.float32) for story, rows in ROWS.items()}


def holding(features, rng, dim=64, noise=1.0):
    """A model that mixes features into every dimension, each as loud as the noise."""
    parts = [{s: zscore(zscore(f[s]) @ mix) for s in ROWS} for f, mix in _mixings(features, rng, dim)]
    noisy = slow(rng, dim, 0.0)
    return {s: (sum(p[s] for p in parts) + noise * noisy[s]).astype(np.float32) for s in ROWS}


def _mixings(features, rng, dim):
    return [(f, rng.standard_normal((f["a"].shape[1], dim))) for f in features]


def delayed(rows):
    return {story: design_matrix(rows[story], SETTINGS.delays) for story in ROWS}


def removed(design, features):
    return remove(design, [delayed(f) for f in features], TRAIN, SETTINGS, np.random.default_rng(1))


def read(design, feature):
    """Mean correlation with a delayed feature, on the test story, of a ridge regression by another package; chance."""
    target, alphas = delayed(feature), np.logspace(-2, 6, 20)
    x, y = (np.concatenate([rows[story] for story in TRAIN]) for rows in (design, target))
    return read_out(RidgeCV(alphas).fit(x, y).predict(design["winter"]), target["winter"])


def left(design, feature):
    return read(design, feature)[0]


@pytest.mark.parametrize("make", [spectrum, lambda rng: counted(rng, 22), lambda rng: slow(rng, 3)])
def test_a_feature_goes_and_the_rest_stays(make):
    rng = np.random.default_rng(0)
    feature, own = make(rng), slow(rng, 64, 0.0)
    mixed = holding([feature], rng, noise=0)
    mixed = {story: mixed[story] + own[story] for story in ROWS}
    design = delayed(mixed)
    residual = removed(design, [feature])
    assert left(design, feature) > 0.5
    assert abs(left(residual, feature)) < CHANCE
    assert correlation(residual["winter"], delayed(own)["winter"]).mean() > 0.85


def removed_tr_by_tr(rows, features):
    """What is left of rows without delays, then delayed."""
    standard, low_level = ({s: zscore(x[s]) for s in ROWS} for x in (rows, features))
    residual = remove(standard, [low_level], TRAIN, SETTINGS, np.random.default_rng(1))
    return {story: delay(residual[story], SETTINGS.delays)[LEAD:] for story in ROWS}


@pytest.mark.parametrize("lag", [1, 2])
def test_a_lagged_feature_goes_at_every_lag_and_stays_tr_by_tr(lag):
    """Each row of this representation keeps the sound of an earlier row; delays bring it back."""
    rng = np.random.default_rng(3)
    feature = slow(rng, 6, 0.0)
    late = holding([{story: np.roll(rows, lag, axis=0) for story, rows in feature.items()}], rng, noise=0.5)
    assert left(removed_tr_by_tr(late, feature), feature) > 0.9 * left(delayed(late), feature) > 0.4
    assert abs(left(removed(delayed(late), [feature]), feature)) < CHANCE


def test_a_feature_of_the_same_tr_goes_in_both_ways():
    rng = np.random.default_rng(8)
    feature = slow(rng, 6, 0.0)
    held = holding([feature], rng, noise=0.5)
    assert left(delayed(held), feature) > 0.6
    assert abs(left(removed_tr_by_tr(held, feature), feature)) < CHANCE
    assert abs(left(removed(delayed(held), [feature]), feature)) < CHANCE


@pytest.mark.parametrize("make", [spectrum, lambda rng: slow(rng, 3)])
def test_with_next_to_no_penalty_a_tr_loses_its_projection_on_the_feature(monkeypatch, make):
    """Frisch & Waugh 1933, by least squares; the test story by the weights of the training stories."""
    monkeypatch.setattr("braintuning.lowlevel.removal.ALPHAS", np.array([1e-6]))
    rng = np.random.default_rng(9)
    feature = make(rng)
    held = holding([feature], rng)
    x, y = ({s: zscore(rows[s]).astype(np.float64) for s in ROWS} for rows in (feature, held))
    weights = np.linalg.lstsq(np.concatenate([x[s] for s in TRAIN]), np.concatenate([y[s] for s in TRAIN]))[0]
    found = removed_tr_by_tr(held, feature)
    for story in ("b", "winter"):
        expected = delay(y[story] - x[story] @ weights, SETTINGS.delays)[LEAD:]
        np.testing.assert_allclose(found[story], expected, atol=2e-3)


def test_all_features_together_leave_no_more_of_one_than_its_own_removal():
    rng = np.random.default_rng(4)
    features = [spectrum(rng), counted(rng, 250), counted(rng, 140), counted(rng, 22)]
    design = delayed(holding(features, rng))
    together = removed(design, features)
    for feature in features:
        before, chance = read(design, feature)
        after_all, after_one = left(together, feature), left(removed(design, [feature]), feature)
        assert before > 3 * chance
        assert after_all < max(after_one, 0) + chance


@pytest.mark.parametrize("make", [lambda rng: slow(rng, 3), lambda rng: counted(rng, 250)])
def test_a_feature_without_anything_in_common_takes_almost_nothing(make):
    rng = np.random.default_rng(5)
    design = delayed(slow(rng, 16, 0.0))
    assert correlation(removed(design, [make(rng)])["winter"], design["winter"]).mean() > 0.97


def test_without_a_penalty_nothing_of_the_feature_is_in_the_training_rows(monkeypatch):
    monkeypatch.setattr("braintuning.lowlevel.removal.ALPHAS", np.array([1e-7]))
    rng = np.random.default_rng(6)
    feature = spectrum(rng)
    residual, sound = removed(delayed(holding([feature], rng)), [feature]), delayed(feature)
    x, y = (np.concatenate([rows[story] for story in TRAIN]) for rows in (sound, residual))
    assert np.abs(x.T @ y).max() / len(x) < 1e-3


def test_test_stories_do_not_decide_what_is_removed():
    rng = np.random.default_rng(6)
    feature, design = slow(rng, 3), delayed(slow(rng, 6))
    other = {**design, "winter": design["winter"][::-1].copy()}
    first, second = removed(design, [feature]), removed(other, [feature])
    np.testing.assert_array_equal(first["a"], second["a"])
    np.testing.assert_allclose(design["winter"] - first["winter"], other["winter"] - second["winter"], atol=1e-6)


def test_a_readout_is_a_mean_correlation_and_its_chance_that_of_shifted_stories():
    rng = np.random.default_rng(7)
    truth = rng.standard_normal((40, 3)).cumsum(axis=0)
    predicted = truth + rng.standard_normal((40, 3))
    truth[:, 2], predicted[:, 1] = 4.0, 0.0
    by_shift = [np.corrcoef(np.roll(predicted[:, 0], shift), truth[:, 0])[0, 1] / 2 for shift in range(40)]
    found, chance = read_out(predicted, truth)
    assert found == pytest.approx(by_shift[0])
    assert chance == pytest.approx(np.quantile(by_shift[4:37], 0.95))
