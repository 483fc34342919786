"""Low-level features of a study's stories, at the TRs of a model's features."""

import logging
from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from braintuning import timing
from braintuning.datasets.base import Dataset
from braintuning.datasets.labels import tally
from braintuning.datasets.textgrid import Interval
from braintuning.errors import InputError, MissingTier
from braintuning.lowlevel.acoustic import articulation_by_tr, checked_phones, power_spectrum_by_tr
from braintuning.lowlevel.ngrams import ngrams_by_tr, textual_by_tr, vocabulary
from braintuning.lowlevel.phones import pronunciation
from braintuning.study.settings import LowLevelFeature, Removal

log = logging.getLogger(__name__)

KINDS = get_args(LowLevelFeature)
NGRAMS = {"diphones": 2, "triphones": 3}
TOGETHER = "all"
"""Name, in results, of all kinds together."""
FROM_TIER, FROM_DICTIONARY = "phone tier", "pronunciation dictionary within words"


def name_of(feature: str, removal: Removal) -> str:
    """Name, in results, of what is left when a feature is removed in one of the two ways."""
    return f"removed_{feature}_{removal.replace(' ', '_')}"


def _phones_in_words(words: Sequence[Interval]) -> list[Interval]:
    """Phones of words from the pronunciation dictionary, all those of a word equally long."""
    unlisted, phones = _unlisted(words), []
    if len(unlisted) > len(words) / 2:
        first = f"the first of them {unlisted[0].label!r} at {unlisted[0].start:.2f} s"
        found = f"{len(unlisted)} of {len(words)} words are not in the pronunciation dictionary, {first}"
        raise InputError(f"{found}, expected words of English or a phone tier")
    for word in words:
        labels, _ = pronunciation(word.label)
        edges = np.linspace(word.start, word.end, len(labels) + 1).tolist()
        phones += [Interval(*phone) for phone in zip(labels, edges, edges[1:], strict=False)]
    return phones


def _unlisted(words: Sequence[Interval]) -> list[Interval]:
    return [word for word in words if not pronunciation(word.label)[1]]


def dictionary_note(dataset: Dataset, story: str) -> str:
    """Line on a story whose phones are from the dictionary: which of its words that lacks."""
    words, note = dataset.words(story), f"story {story}: has no phone tier, phones by {FROM_DICTIONARY}"
    if unlisted := _unlisted(words):
        note += f"; {len(unlisted)} of {len(words)} words are not in it and spelled by rule ({tally(unlisted)})"
    return note


def phones_of(dataset: Dataset, story: str) -> tuple[list[Interval], str]:
    """Phones of a story and their source: `FROM_TIER`, or `FROM_DICTIONARY` where the story has no such tier.

    A word that the dictionary lacks has the phones that hibari-tts gives it. Raises `InputError` naming one of them and
    its time where most are such words.
    """
    try:
        return dataset.phones(story), FROM_TIER
    except MissingTier:
        return _phones_in_words(dataset.words(story)), FROM_DICTIONARY


def phones_within(dataset: Dataset, story: str, phones: Sequence[Interval]) -> list[Interval]:
    """Phones that begin in a story, where it is a part of a longer recording."""
    start, end = dataset.seconds(story)
    return [phone for phone in phones if start <= phone.start < end]


def low_level_features(
    dataset: Dataset, times: Mapping[str, np.ndarray], train: Sequence[str], kinds: Sequence[str] = KINDS
) -> dict[str, dict[str, np.ndarray]]:
    """Low-level features of stories, by kind.

    `times`, (TRs,) by story, are seconds after the start of the audio, a TR apart; stories of `train` make the
    vocabularies of diphones and triphones. `InputError` for a story with no phones, or a phone that is none of the 39,
    with its story and time.

    Returns
    -------
    features : dict of kind to dict of story to (TRs, dim) float32
    """
    phones = {}
    for story in dict.fromkeys((*times, *train)):
        try:
            phones[story], source = phones_of(dataset, story)
            checked_phones(phones[story])
        except InputError as error:
            raise InputError(f"story {story}: {error}") from None
        if source == FROM_DICTIONARY:
            log.info(dictionary_note(dataset, story))
    known = {n: vocabulary([phones_within(dataset, s, phones[s]) for s in train], n) for n in NGRAMS.values()}
    tr = {story: timing.spacing(of_story) for story, of_story in times.items()}
    compute = {
        "power_spectrum": lambda s: power_spectrum_by_tr(dataset.audio(s), times[s], tr[s]),
        "articulation": lambda s: articulation_by_tr(phones[s], times[s], tr[s]),
        "diphones": lambda s: ngrams_by_tr(phones[s], 2, known[2], times[s], tr[s]),
        "triphones": lambda s: ngrams_by_tr(phones[s], 3, known[3], times[s], tr[s]),
        "textual": lambda s: textual_by_tr(dataset.words(s), phones[s], times[s], tr[s]),
    }
    return {kind: {story: compute[kind](story) for story in times} for kind in kinds}
