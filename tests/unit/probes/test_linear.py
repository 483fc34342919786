import numpy as np
import pytest
from braintuning.probes import linear, scores
from braintuning.probes.utterance import PARTS
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

RNG = np.random.default_rng


def noisy_classes(n=60, dim=8, n_classes=3, seed=0):
    rng = RNG(seed)
    centres = rng.standard_normal((n_classes, dim))
    labels = [rng.integers(n_classes, size=n) for _ in PARTS]
    features = [centres[some] + 1.5 * rng.standard_normal((n, dim)) for some in labels]
    return features, [some[:, None] == np.arange(n_classes) for some in labels]


@pytest.mark.parametrize("dim", [8, 200])
@pytest.mark.parametrize("one_of_many", [True, False])
def test_a_probe_predicts_as_scikit_learn_does_from_a_cold_start_with_all_columns(dim, one_of_many):
    features, truth = noisy_classes(dim=dim)
    found = linear.fit_classes(features, truth, one_of_many)
    scaler = StandardScaler().fit(features[0])
    train, test = scaler.transform(features[0]), scaler.transform(features[2])
    model = LogisticRegression(C=1 / found.penalty, max_iter=5000, tol=1e-8)
    if one_of_many:
        alone = model.fit(train, truth[0].argmax(axis=1)).predict(test)[:, None] == np.arange(3)
    else:
        alone = np.stack([model.fit(train, column).predict(test) for column in truth[0].T], axis=1)
    assert (found.predicted == alone).mean() > 0.99 and found.converged


def test_ridge_predicts_as_scikit_learn_does():
    rng = RNG(0)
    features = [rng.standard_normal((50, 20)) for _ in PARTS]
    targets = [x[:, :3] + rng.standard_normal((50, 3)) for x in features]
    found = linear.fit_regression(features, targets)
    scaler = StandardScaler().fit(features[0])
    alone = Ridge(alpha=found.penalty).fit(scaler.transform(features[0]), targets[0])
    np.testing.assert_allclose(found.predicted, alone.predict(scaler.transform(features[2])), atol=1e-8)


def test_a_regression_that_is_exact_is_found_and_its_penalty_small():
    rng = RNG(0)
    weights = rng.standard_normal((6, 3))
    features = [rng.standard_normal((200, 6)) for _ in PARTS]
    targets = [x @ weights for x in features]
    fitted = linear.fit_regression(features, targets)
    np.testing.assert_allclose(fitted.predicted, targets[2], atol=0.1)
    assert fitted.penalty == min(linear.RIDGE_PENALTIES)


def test_a_class_that_is_only_in_the_test_part_counts_as_missed():
    features, truth = noisy_classes(n_classes=3, n=200)
    features = [np.where(rows.argmax(axis=1)[:, None] == np.arange(8), 9.0, 0.0) for rows in truth]
    wider = [np.pad(rows, ((0, 0), (0, 1))) for rows in truth]
    wider[2][:50] = np.array([False, False, False, True])
    found = linear.fit_classes(features, wider, True)
    assert not found.predicted[:, 3].any()
    counts = scores.f1_counts(wider[2], found.predicted).sum(axis=0)
    assert counts[2, 3] == 50
    rest = [2 * h / (2 * h + f + m) for h, f, m in counts.T[:3]]
    assert scores.macro_f1(counts) == pytest.approx(np.sum(rest) / 4)


def test_an_edge_is_told_only_where_more_penalty_or_less_would_do_better():
    assert not linear._at_edge([1, 1, 0.5]) and linear._at_edge([1, 0.9, 0.5])
    assert linear._at_edge([0.1, 0.2, 0.3]) and not linear._at_edge([0.1, 0.3, 0.3])
