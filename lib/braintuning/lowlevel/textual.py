"""How much text is said in each TR: letters, phonemes, words, and how unequal the words' lengths are."""

from collections.abc import Sequence

import numpy as np

from braintuning.datasets.textgrid import Interval
from braintuning.lowlevel.acoustic import counts, rows_of

FEATURES = ("letters", "phonemes", "words", "word-length deviation")


def textual_counts(words: Sequence[Interval], phones: Sequence[Interval], times: np.ndarray, tr: float) -> np.ndarray:
    """Textual low-level features after Oota, Celik, Deniz & Toneva (2024), TR by TR.

    Words and phones belong to the TR in which their middle falls.

    Parameters
    ----------
    words, phones : sequence of Interval
    times : (rows,) float
        Seconds, `tr` apart.
    tr : float
        Seconds.

    Returns
    -------
    features : (rows, 4) float32
        Letters, phonemes and words, and the standard deviation of the number of letters of the words; 0 without words.
    """
    letters = np.array([[sum(map(str.isalpha, word.label))] for word in words], np.float64).reshape(-1, 1)
    of_words = rows_of([(word.start + word.end) / 2 for word in words], times, tr)
    of_phones = rows_of([(phone.start + phone.end) / 2 for phone in phones], times, tr)
    sums = counts(of_words, np.hstack([letters, letters**2, np.ones_like(letters)]), len(times))
    phonemes = counts(of_phones, np.ones((len(phones), 1)), len(times))
    n_words = np.maximum(sums[:, 2:], 1)
    spread = np.sqrt(np.maximum(sums[:, 1:2] / n_words - (sums[:, :1] / n_words) ** 2, 0))
    return np.hstack([sums[:, :1], phonemes, sums[:, 2:], spread]).astype(np.float32)
