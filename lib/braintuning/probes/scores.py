"""Scores of a probe, with intervals over speakers: every score is a function of sums that each speaker adds to."""

from collections.abc import Callable, Sequence

import numpy as np

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
    names, numbers = np.unique(np.asarray(speakers), return_inverse=True)
    of_speaker = np.zeros((len(names), *counts.shape[1:]))
    np.add.at(of_speaker, numbers, counts)
    value = float(score(of_speaker.sum(axis=0)))
    if len(names) < 2:
        return value, float("nan"), float("nan")
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=N_RESAMPLES)
    resampled = score(np.tensordot(drawn.astype(np.float64), of_speaker, axes=1))
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return value, float(low), float(high)
