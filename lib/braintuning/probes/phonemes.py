"""Phonemes: which of the 39 phones of English occur in an utterance."""

from functools import partial

from braintuning.datasets.textgrid import is_silence
from braintuning.errors import InputError
from braintuning.lowlevel.phones import PHONES, without_stress
from braintuning.probes.base import Task, classify
from braintuning.probes.utterance import Utterance


def phones_of(utterance: Utterance) -> set[str]:
    """Phones of an utterance; `InputError` if there are none, or one that is none of the 39."""
    try:
        phones = {without_stress(p.label) for p in utterance.phones if not is_silence(p.label)}
    except InputError as error:
        raise InputError(f"{utterance.file}: {error}") from None
    if not phones:
        raise InputError(f"{utterance.file}: found no phones, expected those of the utterance")
    return phones


TASK = Task(
    "Phonemes",
    corpora=("TIMIT", "LibriSpeech", "aligned speech"),
    stand_in="sentences",
    measure=partial(classify, labels_of=phones_of, classes=PHONES, one_of_many=False),
    keep=lambda utterance: bool(utterance.phones) and utterance.label != "SA",
)
