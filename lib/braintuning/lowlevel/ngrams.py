"""Diphones and triphones: phones in the order in which they are said, within words and across them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import numpy as np

from braintuning.datasets.textgrid import Interval
from braintuning.lowlevel.acoustic import checked_phones, counts, rows_of

LONGEST_GAP = 0.05
FEWEST = 10
RARE = "rare"


def ngrams(phones: Sequence[Interval], n: int) -> list[Interval]:
    """Every `n` phones that follow each other without a pause, as one interval with the label `K-AE-T`.

    A pause is a gap of more than 0.05 s between the end of a phone and the start of the next.

    Parameters
    ----------
    phones : sequence of Interval
        ARPAbet, in order.
    n : int
        2 for diphones, 3 for triphones.

    Raises
    ------
    InputError
        No phones, or one that is none of the 39, with its time.
    """
    labels = checked_phones(phones)
    broken = np.array([0, *(b.start - a.end > LONGEST_GAP for a, b in pairwise(phones))]).cumsum()
    return [
        Interval("-".join(labels[i : i + n]), phones[i].start, phones[i + n - 1].end)
        for i in range(len(phones) - n + 1)
        if broken[i] == broken[i + n - 1]
    ]


def vocabulary(stories: Iterable[Sequence[Interval]], n: int, fewest: int = FEWEST) -> tuple[str, ...]:
    """Diphones or triphones said at least `fewest` times in the training stories, commonest first, and then `rare`.

    All others, those of other stories included that no training story has, are counted together as `rare`.

    Parameters
    ----------
    stories : iterable of sequence of Interval
        Phones of each training story.
    n, fewest : int
    """
    said = Counter(ngram.label for phones in stories for ngram in ngrams(phones, n))
    common = sorted(
        (label for label, count in said.items() if count >= fewest), key=lambda label: (-said[label], label)
    )
    return (*common, RARE)


def ngram_counts(phones: Sequence[Interval], n: int, known: Sequence[str], times: np.ndarray, tr: float) -> np.ndarray:
    """How often each diphone or triphone of a vocabulary has its middle in each TR.

    Parameters
    ----------
    phones : sequence of Interval
    n : int
    known : sequence of str
        Of `vocabulary`; what is not in it counts as the last, `rare`.
    times : (rows,) float
        Seconds, `tr` apart.
    tr : float
        Seconds.

    Returns
    -------
    counts : (rows, len(known)) float32
    """
    place = {label: column for column, label in enumerate(known)}
    found = ngrams(phones, n)
    vectors = np.zeros((len(found), len(known)), np.float32)
    vectors[np.arange(len(found)), [place.get(ngram.label, len(known) - 1) for ngram in found]] = 1
    return counts(rows_of([(ngram.start + ngram.end) / 2 for ngram in found], times, tr), vectors, len(times))
