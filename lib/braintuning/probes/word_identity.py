"""Which of the 35 words of Speech Commands it is, by speakers who were not trained on."""

from braintuning.probes.corpora.speech_commands import WORDS
from braintuning.probes.task import Task, classification

TASK = Task(
    title="Word identity",
    metric="macro F1",
    corpora=("Speech Commands",),
    stand_in="words",
    measure=classification(classes=WORDS),
    by_prompt=False,
)
