"""Phonemes: which of the 39 phones of English occur in an utterance."""

from collections.abc import Sequence

from braintuning.datasets.textgrid import is_silence
from braintuning.errors import InputError
from braintuning.lowlevel.phones import PHONES, without_stress
from braintuning.probes.base import Task, classification
from braintuning.probes.utterance import Utterance


def phone_sets(utterances: Sequence[Utterance]) -> list[set[str]]:
    """Phones of each utterance; `InputError` for one without phones, or with one that is none of the 39."""
    found = []
    for utterance in utterances:
        try:
            phones = {without_stress(p.label) for p in utterance.phones if not is_silence(p.label)}
        except InputError as error:
            raise InputError(f"{utterance.file}: {error}") from None
        if not phones:
            raise InputError(f"{utterance.file}: found no phones, expected those of the utterance")
        found.append(phones)
    return found


TASK = Task(
    title="Phonemes",
    metric="macro F1",
    corpora=("TIMIT", "aligned speech"),
    stand_in="sentences",
    measure=classification(phone_sets, PHONES, one_of_many=False),
    keep=lambda utterance: bool(utterance.phones) and utterance.label != "SA",
)
