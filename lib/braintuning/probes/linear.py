"""Linear probes: standardised on the training part, penalty chosen on the validation part, deterministic."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from braintuning.probes.scores import F1, R2

INVERSE_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)
RIDGE_PENALTIES = (1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3, 1e4, 1e5)
MOST_STEPS = 2000
FEWEST_EXAMPLES = 2


@dataclass(frozen=True)
class Fitted:
    """Predictions of a probe for the test part, (samples, classes) bool or (samples, columns) float, and its choice.

    `penalty` is the strongest of those with the best score on the `validation` part, `at_edge` whether it is the first
    or last of the grid and its neighbour is worse.
    """

    predicted: np.ndarray
    validation: float
    penalty: float
    at_edge: bool
    converged: bool


def fit_classes(features: Sequence[np.ndarray], truth: Sequence[np.ndarray], one_of_many: bool) -> Fitted:
    """Logistic regression: multinomial, or binary for each class where several can be true at once.

    In the binary case a class that fewer than two training samples have or lack is not learnt; its majority answer is
    always predicted. A class that the training part lacks is never predicted, so all its samples are misses.

    `features`, (samples, dim) float, and `truth`, (samples, classes) bool, are of the training, validation and test
    part, the last of which is not used. `one_of_many`: exactly one class is true in each sample.
    """
    train, validation, test = _standardised(features)
    if len(train) < train.shape[1]:
        # Under a penalty on their squared length, weights never leave the span of the training samples, so predictions
        # do not change when features are rotated to as many columns (Hastie et al. 2009, 18.3.5).
        _, _, axes = np.linalg.svd(train, full_matrices=False)
        train, validation, test = train @ axes.T, validation @ axes.T, test @ axes.T
    if one_of_many:
        classes = np.arange(truth[0].shape[1])
        path = _path(train, truth[0].argmax(axis=1), (validation, test))
        tried = [(seen[:, None] == classes, unseen[:, None] == classes, converged) for seen, unseen, converged in path]
    else:
        tried = _one_by_one(train, truth[0], (validation, test))
    scores = [F1(truth[1], predicted) for predicted, _, _ in tried]
    best = int(np.argmax(scores))
    return Fitted(tried[best][1], scores[best], 1 / INVERSE_PENALTIES[best], _at_edge(scores), tried[best][2])


def fit_regression(features: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> Fitted:
    """Ridge regression of (samples, columns) targets; parameters as in `fit_classes`."""
    train, validation, test = _standardised(features)
    mean = targets[0].mean(axis=0)
    values, axes = np.linalg.eigh(train.T @ train)
    products = axes.T @ (train.T @ (targets[0] - mean))
    penalties = RIDGE_PENALTIES[::-1]
    weights = [axes @ (products / (np.maximum(values, 0) + penalty)[:, None]) for penalty in penalties]
    scores = [R2(targets[1], validation @ some + mean) for some in weights]
    best = int(np.argmax(scores))
    return Fitted(test @ weights[best] + mean, scores[best], penalties[best], _at_edge(scores), True)


def _at_edge(scores: Sequence[float]) -> bool:
    best = int(np.argmax(scores))
    return bool(scores[best] > scores[1] if best == 0 else best == len(scores) - 1)


def _standardised(features: Sequence[np.ndarray]) -> list[np.ndarray]:
    scaler = StandardScaler().fit(np.asarray(features[0], np.float64))
    return [scaler.transform(np.asarray(part, np.float64)) for part in features]


Tried = list[tuple[np.ndarray, np.ndarray, bool]]
"""For each penalty: predictions for the validation and the test part, and whether the fit converged."""


def _path(x: np.ndarray, y: np.ndarray, others: Sequence[np.ndarray]) -> Tried:
    """Fits under every penalty, each starting from the previous one."""
    model, tried = LogisticRegression(max_iter=MOST_STEPS, warm_start=True), []
    for inverse in INVERSE_PENALTIES:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.set_params(C=inverse).fit(x, y)
        converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
        tried.append((*(model.predict(other) for other in others), converged))
    return tried


def _one_by_one(x: np.ndarray, truth: np.ndarray, others: Sequence[np.ndarray]) -> Tried:
    columns = []
    for answers in truth.T:
        n_true = answers.sum()
        if min(n_true, len(truth) - n_true) < FEWEST_EXAMPLES:
            always = [np.full(len(other), n_true > len(truth) / 2) for other in others]
            columns.append([(*always, True)] * len(INVERSE_PENALTIES))
        else:
            columns.append(_path(x, answers, others))
    return [
        (np.stack(seen, axis=1), np.stack(unseen, axis=1), all(converged))
        for seen, unseen, converged in (zip(*column, strict=True) for column in zip(*columns, strict=True))
    ]
