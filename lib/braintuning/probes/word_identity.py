"""Word identity: which of the 30 or 35 words of Speech Commands is said, by speakers that were not trained on."""

from braintuning.probes.base import Task

TASK = Task("Word identity", corpora=("Speech Commands",), stand_in="words", by_prompt=False)
