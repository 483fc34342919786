"""Which of six emotions it is said in; the stand-in has six ways of speaking, which are no emotions."""

from braintuning.probes.base import Task, classification

TASK = Task(
    title="Emotion",
    metric="macro F1",
    corpora=("CREMA-D",),
    stand_in="prosody",
    measure=classification(),
)
