"""Diphones, triphones and textual features."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from braintuning.datasets.textgrid import Interval
from braintuning.lowlevel.acoustic import checked_phones, events_by_tr

LONGEST_GAP = 0.05
FEWEST = 10
RARE = "rare"


def ngrams(phones: Sequence[Interval], n: int) -> list[Interval]:
    """Every `n` consecutive phones, within words and across them, as one interval with the label `K-AE-T`.

    A gap of more than 0.05 s between the end of an ARPAbet phone and the start of the next breaks the sequence. Errors
    as in `checked_phones`.
    """
    labels = checked_phones(phones)
    stretch = np.array([0, *(b.start - a.end > LONGEST_GAP for a, b in pairwise(phones))]).cumsum()
    return [
        Interval("-".join(labels[i : i + n]), phones[i].start, phones[i + n - 1].end)
        for i in range(len(phones) - n + 1)
        if stretch[i] == stretch[i + n - 1]
    ]


def vocabulary(stories: Iterable[Sequence[Interval]], n: int) -> tuple[str, ...]:
    """N-grams that occur at least `FEWEST` times in the phones of the training stories, by frequency, and `rare`.

    All others, also those that no training story has, are counted together as `rare`.
    """
    count = Counter(ngram.label for phones in stories for ngram in ngrams(phones, n))
    often = [label for label in count if count[label] >= FEWEST]
    return *sorted(often, key=lambda label: (-count[label], label)), RARE


def rare_share(train: Iterable[Sequence[Interval]], test: Iterable[Sequence[Interval]], n: int) -> float:
    """Share of the n-grams in the phones of the test stories that the training stories' vocabulary pools as `rare`.

    NaN where the test stories have none.
    """
    known, found = set(vocabulary(train, n)), [ngram.label for phones in test for ngram in ngrams(phones, n)]
    return sum(label not in known for label in found) / len(found) if found else np.nan


def ngrams_by_tr(phones: Sequence[Interval], n: int, known: Sequence[str], times: np.ndarray, tr: float) -> np.ndarray:
    """Each n-gram of a vocabulary around each TR; (TRs, len(known)) float32.

    `known` is from `vocabulary`, and what is not in it counts as its last, `rare`. Resampling and times as in
    `events_by_tr`.
    """
    column_of = {label: column for column, label in enumerate(known)}
    found = ngrams(phones, n)
    vectors = np.zeros((len(found), len(known)), np.float32)
    vectors[np.arange(len(found)), [column_of.get(ngram.label, len(known) - 1) for ngram in found]] = 1
    return events_by_tr(found, vectors, times, tr)


def textual_by_tr(words: Sequence[Interval], phones: Sequence[Interval], times: np.ndarray, tr: float) -> np.ndarray:
    """Textual low-level features around each TR (Oota, Celik, Deniz & Toneva 2024); (TRs, 4) float32.

    Numbers of letters, phonemes and words, resampled as in `events_by_tr`, and the standard deviation of the numbers of
    letters of the words whose middle is at most half a TR away, 0 where there is none.
    """
    letters = np.array([sum(map(str.isalpha, word.label)) for word in words], np.float64)
    sums = events_by_tr(words, np.stack([letters, np.ones_like(letters)], axis=1), times, tr)
    phonemes = events_by_tr(phones, np.ones((len(phones), 1)), times, tr)
    middles = np.array([(word.start + word.end) / 2 for word in words], float)
    near = [letters[np.abs(middles - time) <= tr / 2] for time in times]
    spread = np.array([[of_tr.std() if len(of_tr) else 0] for of_tr in near])
    return np.hstack([sums[:, :1], phonemes, sums[:, 1:], spread]).astype(np.float32)
