"""Linear probes: standardised on the training part, the penalty chosen on the validation part, deterministic."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from braintuning.errors import InputError
from braintuning.probes.scores import f1_counts, macro_f1, mean_r2, r2_sums

INVERSE_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 1e1, 1e2)
RIDGE_PENALTIES = (1e-2, 1e-1, 1e0, 1e1, 1e2, 1e3, 1e4, 1e5)
MOST_STEPS = 2000
FEWEST_EXAMPLES = 2


@dataclass(frozen=True)
class Fitted:
    """What a probe predicts of the test part, and how it was chosen.

    Attributes
    ----------
    predicted : ndarray
        (rows, classes) bool, or (rows, columns) float for a regression.
    validation : float
        Score on the validation part.
    penalty : float
        The strongest of those that validate best.
    at_edge : bool
        Whether the penalty is the first or last of those tried and its neighbour is worse.
    converged : bool
    """

    predicted: np.ndarray
    validation: float
    penalty: float
    at_edge: bool
    converged: bool


def fit_classes(features: Sequence[np.ndarray], truth: Sequence[np.ndarray], one_of_many: bool) -> Fitted:
    """Logistic regression, multinomial, or one for each class where several can be true at once.

    In the latter case a class with one example or none, or true of all rows but one, is not learnt but always absent
    or always there. A class of the validation or test part that the training part lacks is never predicted: each of
    its rows counts as missed.

    Parameters
    ----------
    features : three arrays (rows, dim) float
        To train, to validate and to test on.
    truth : three arrays (rows, classes) bool
        The last is not looked at.
    one_of_many : bool
        Whether exactly one class is true in each row.

    Raises
    ------
    InputError
        Fewer than two classes, or one with fewer than two examples, to train on.
    """
    if one_of_many:
        require_examples(truth[0])
    train, validation, test = _in_the_span_of_the_first(_standardised(features))
    fit = _multinomial if one_of_many else _one_by_one
    tried = fit(train, truth[0], (validation, test))
    scores = [float(macro_f1(f1_counts(truth[1], seen).sum(axis=0))) for seen, _, _ in tried]
    best = int(np.argmax(scores))
    return Fitted(tried[best][1], scores[best], 1 / INVERSE_PENALTIES[best], _at_edge(scores), tried[best][2])


def _at_edge(scores: Sequence[float]) -> bool:
    best = int(np.argmax(scores))
    return bool(scores[best] > scores[1] if best == 0 else best == len(scores) - 1)


def require_examples(truth: np.ndarray) -> None:
    """Raise `InputError` where there is nothing to learn: fewer than two classes, or a class with one example."""
    examples = truth.sum(axis=0)
    if (examples > 0).sum() < 2:
        raise InputError(f"probe: found {(examples > 0).sum()} class to train on, expected at least two")
    if (examples == 1).any():
        found = f"class number {np.flatnonzero(examples == 1)[0]} has one example to train on"
        raise InputError(f"probe: {found}, expected two or more")


def _standardised(features: Sequence[np.ndarray]) -> list[np.ndarray]:
    scaler = StandardScaler().fit(np.asarray(features[0], np.float64))
    return [scaler.transform(np.asarray(part, np.float64)) for part in features]


def _in_the_span_of_the_first(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Turn features so that as many columns as the first part has rows are enough: weights never leave its span.

    A penalty on the squared length of the weights makes the same predictions before and after (Hastie et al. 2009,
    18.3.5).
    """
    if len(parts[0]) >= parts[0].shape[1]:
        return list(parts)
    _, _, axes = np.linalg.svd(parts[0], full_matrices=False)
    return [part @ axes.T for part in parts]


Tried = list[tuple[np.ndarray, np.ndarray, bool]]


def _path(x: np.ndarray, y: np.ndarray, others: Sequence[np.ndarray]) -> Tried:
    """Predictions for both other parts under every penalty, each fit starting from the last, and whether it settled."""
    model, tried = LogisticRegression(max_iter=MOST_STEPS, warm_start=True), []
    for inverse in INVERSE_PENALTIES:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", ConvergenceWarning)
            model.set_params(C=inverse).fit(x, y)
        settled = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
        tried.append((*(model.predict(other) for other in others), settled))
    return tried


def _multinomial(x: np.ndarray, truth: np.ndarray, others: Sequence[np.ndarray]) -> Tried:
    classes = np.arange(truth.shape[1])
    tried = _path(x, truth.argmax(axis=1), others)
    return [(seen[:, None] == classes, unseen[:, None] == classes, settled) for seen, unseen, settled in tried]


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
        (np.stack(seen, axis=1), np.stack(unseen, axis=1), all(settled))
        for seen, unseen, settled in (zip(*column, strict=True) for column in zip(*columns, strict=True))
    ]


def fit_regression(features: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> Fitted:
    """Ridge regression of (rows, columns) targets; parameters as in `fit_classes`."""
    train, validation, test = _standardised(features)
    mean = targets[0].mean(axis=0)
    values, axes = np.linalg.eigh(train.T @ train)
    products = axes.T @ (train.T @ (targets[0] - mean))
    scores, weights = [], []
    for penalty in RIDGE_PENALTIES[::-1]:
        weights.append(axes @ (products / (np.maximum(values, 0) + penalty)[:, None]))
        scores.append(float(mean_r2(r2_sums(targets[1], validation @ weights[-1] + mean).sum(axis=0))))
    best = int(np.argmax(scores))
    predicted = test @ weights[best] + mean
    return Fitted(predicted, scores[best], RIDGE_PENALTIES[::-1][best], _at_edge(scores), True)
