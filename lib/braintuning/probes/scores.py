"""Scores of a probe, with intervals over speakers: every score is a function of sums that each speaker adds to."""

from collections.abc import Callable, Sequence

import numpy as np

from braintuning.alignment.stats import FEWEST_PARTICIPANTS

N_RESAMPLES = 1000
Score = Callable[[np.ndarray], np.ndarray]


def f1_counts(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Hits, false alarms and misses of each class in each row; (rows, 3, classes) float64 from (rows, classes) bool."""
    return np.stack([truth & predicted, ~truth & predicted, truth & ~predicted], axis=1).astype(np.float64)


def macro_f1(counts: np.ndarray) -> np.ndarray:
    """Mean over classes of `2 hits / (2 hits + false alarms + misses)`; (...) from (..., 3, classes).

    Classes that are neither there nor predicted are left out.
    """
    hits, false_alarms, misses = np.moveaxis(counts, -2, 0)
    total = 2 * hits + false_alarms + misses
    f1 = np.divide(2 * hits, total, out=np.full(np.shape(total), np.nan), where=total > 0)
    return np.nanmean(f1, axis=-1)


def word_accuracy(counts: np.ndarray) -> np.ndarray:
    """1 - word error rate; (...) from (..., 2) errors and words."""
    return 1 - counts[..., 0] / counts[..., 1]


def r2_sums(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Squared residuals, values and squared values of each column in each row, and 1; (rows, 4, columns)."""
    return np.stack([(truth - predicted) ** 2, truth, truth**2, np.ones_like(truth)], axis=1).astype(np.float64)


def mean_r2(sums: np.ndarray) -> np.ndarray:
    """Share of variance explained, the mean over columns; (...) from (..., 4, columns) of `r2_sums`."""
    residual, total, squares, n = np.moveaxis(sums, -2, 0)
    return (1 - residual / (squares - total**2 / n)).mean(axis=-1)


SCORES: dict[str, Score] = {"macro F1": macro_f1, "1 - WER": word_accuracy, "R2": mean_r2}
"""The score of each metric that a task has."""


def sums_of_speakers(counts: np.ndarray, speakers: Sequence[str]) -> np.ndarray:
    """What each speaker adds to a score, speakers in alphabetical order; (speakers, ...) from (rows, ...)."""
    names, numbers = np.unique(np.asarray(speakers), return_inverse=True)
    sums = np.zeros((len(names), *counts.shape[1:]))
    np.add.at(sums, numbers, counts)
    return sums


def interval_over_speakers(
    score: Score, counts: np.ndarray, speakers: Sequence[str], rng: np.random.Generator
) -> tuple[float, float, float]:
    """Score of all rows and its 95 % bootstrap interval over speakers (Efron 1979); NaN bounds with one speaker.

    Parameters
    ----------
    score : callable
        From sums over rows to the score.
    counts : (rows, ...) float
    speakers : (rows,) str
    rng : numpy Generator
    """
    sums = sums_of_speakers(counts, speakers)
    resampled = _resampled(score, [sums], rng)[0]
    return float(score(sums.sum(axis=0))), *_bounds(resampled)


def paired_difference(
    score: Score, first: np.ndarray, second: np.ndarray, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    """How much higher one model scores than another for the same speakers.

    The interval is a bootstrap over speakers, drawn for both models together (Efron 1979). For the p each speaker's
    sums change places between the models in every way, or in `N_RESAMPLES` ways (Fisher's permutation of pairs).

    Parameters
    ----------
    score : callable
        From sums over speakers to the score.
    first, second : (speakers, ...) float
        From `sums_of_speakers`.
    rng : numpy Generator

    Returns
    -------
    difference, low, high, p : float
        Bounds are NaN with one speaker; p, two-sided, with fewer than `FEWEST_PARTICIPANTS` speakers.
    """
    difference = float(score(first.sum(axis=0)) - score(second.sum(axis=0)))
    a, b = _resampled(score, [first, second], rng)
    return difference, *_bounds(a - b), _swapped_p(score, first, second, rng)


def _swapped_p(score: Score, first: np.ndarray, second: np.ndarray, rng: np.random.Generator) -> float:
    n_speakers = len(first)
    if n_speakers < FEWEST_PARTICIPANTS:
        return float("nan")
    exact = 2**n_speakers <= N_RESAMPLES
    if exact:
        swapped = np.arange(2**n_speakers)[:, None] >> np.arange(n_speakers) & 1
    else:
        swapped = rng.integers(2, size=(N_RESAMPLES, n_speakers))
    gap = np.tensordot(swapped.astype(np.float64), second - first, axes=1)
    null = np.abs(score(first.sum(axis=0) + gap) - score(second.sum(axis=0) - gap))
    observed = abs(score(first.sum(axis=0)) - score(second.sum(axis=0)))
    as_large = np.sum(null >= observed - 1e-12)
    return float(as_large / len(null) if exact else (1 + as_large) / (1 + len(null)))


def _resampled(score: Score, sums: Sequence[np.ndarray], rng: np.random.Generator) -> list[np.ndarray]:
    n_speakers = len(sums[0])
    drawn = rng.multinomial(n_speakers, np.full(n_speakers, 1 / n_speakers), size=N_RESAMPLES).astype(np.float64)
    return [score(np.tensordot(drawn, one, axes=1)) if n_speakers > 1 else np.full(N_RESAMPLES, np.nan) for one in sums]


def _bounds(resampled: np.ndarray) -> tuple[float, float]:
    if np.isnan(resampled).all():
        return float("nan"), float("nan")
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return float(low), float(high)
