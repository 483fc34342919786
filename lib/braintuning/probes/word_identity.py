"""Word identity: which of the 35 words of Speech Commands is said, by speakers that were not trained on."""

from functools import partial

from braintuning.probes.base import Task, classify
from braintuning.probes.corpora.speech_commands import WORDS

TASK = Task(
    "Word identity",
    corpora=("Speech Commands",),
    stand_in="words",
    measure=partial(classify, classes=WORDS),
    by_prompt=False,
)
