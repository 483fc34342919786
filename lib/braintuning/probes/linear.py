"""Linear probes: standardised on the training part, the penalty chosen on the validation part, deterministic."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from braintuning.errors import InputError
from braintuning.probes.scores import f1_counts, macro_f1, mean_r2, r2_sums

INVERSE_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)
RIDGE_PENALTIES = (1e0, 1e1, 1e2, 1e3, 1e4)
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
    converged : bool
    """

    predicted: np.ndarray
    validation: float
    penalty: float
    converged: bool


def fit_classes(features: Sequence[np.ndarray], truth: Sequence[np.ndarray], one_of_many: bool) -> Fitted:
    """Logistic regression, multinomial, or one for each class where several can be true at once.

    In the latter case a class with one example or none, or true of all rows but one, is not learnt but always absent
    or always there.

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
    train, validation, test = _standardised(features)
    best = None
    for inverse in INVERSE_PENALTIES:
        fit = _multinomial if one_of_many else _one_by_one
        seen, unseen, converged = fit(train, truth[0], (validation, test), inverse)
        score = macro_f1(f1_counts(truth[1], seen).sum(axis=0))
        if best is None or score > best.validation:
            best = Fitted(unseen, float(score), 1 / inverse, converged)
    return best


def require_examples(truth: np.ndarray) -> None:
    """Raise `InputError` where there is nothing to learn: fewer than two classes, or a class with one example."""
    examples = truth.sum(axis=0)
    if (examples > 0).sum() < 2:
        raise InputError(f"probe: found {(examples > 0).sum()} class to train on, expected at least two")
    if (examples == 1).any():
        found = f"class number {np.flatnonzero(examples == 1)[0]} has one example to train on"
        raise InputError(f"probe: {found}, expected two or more")


def _standardised(features: Sequence[np.ndarray]) -> list[np.ndarray]:
    scaler = StandardScaler().fit(features[0])
    return [scaler.transform(part) for part in features]


def _logistic(x: np.ndarray, y: np.ndarray, inverse: float) -> tuple[LogisticRegression, bool]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model = LogisticRegression(C=inverse, max_iter=MOST_STEPS).fit(x, y)
    return model, not any(issubclass(w.category, ConvergenceWarning) for w in caught)


def _multinomial(
    x: np.ndarray, truth: np.ndarray, others: Sequence[np.ndarray], inverse: float
) -> tuple[np.ndarray, np.ndarray, bool]:
    model, converged = _logistic(x, truth.argmax(axis=1), inverse)
    classes = np.arange(truth.shape[1])
    first, second = (model.predict(other)[:, None] == classes for other in others)
    return first, second, converged


def _one_by_one(
    x: np.ndarray, truth: np.ndarray, others: Sequence[np.ndarray], inverse: float
) -> tuple[np.ndarray, np.ndarray, bool]:
    found, all_converged = [np.zeros((len(other), truth.shape[1]), bool) for other in others], True
    for column in range(truth.shape[1]):
        n_true = truth[:, column].sum()
        if min(n_true, len(truth) - n_true) < FEWEST_EXAMPLES:
            for part in found:
                part[:, column] = n_true > len(truth) / 2
            continue
        model, converged = _logistic(x, truth[:, column], inverse)
        all_converged &= converged
        for part, other in zip(found, others, strict=True):
            part[:, column] = model.predict(other)
    return found[0], found[1], all_converged


def fit_regression(features: Sequence[np.ndarray], targets: Sequence[np.ndarray]) -> Fitted:
    """Ridge regression of (rows, columns) targets; parameters as in `fit_classes`."""
    train, validation, test = _standardised(features)
    best = None
    for penalty in RIDGE_PENALTIES:
        model = Ridge(alpha=penalty, solver="cholesky").fit(train, targets[0])
        score = mean_r2(r2_sums(targets[1], model.predict(validation)).sum(axis=0))
        if best is None or score > best.validation:
            best = Fitted(model.predict(test), float(score), penalty, True)
    return best
