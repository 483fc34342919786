"""Word identity: which of the 35 words of Speech Commands is said, by speakers that were not trained on."""

from braintuning.probes.base import Task, classification
from braintuning.probes.corpora.speech_commands import WORDS

TASK = Task(
    title="Word identity",
    metric="macro F1",
    corpora=("Speech Commands",),
    stand_in="words",
    measure=classification(classes=WORDS),
    by_prompt=False,
)
