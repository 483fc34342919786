"""Emotion: in which of six emotions a sentence is said, by actors and in sentences that were not trained on.

RAVDESS has two sentences: test actors say the one that no model was trained or validated on. The stand-in has
six ways of speaking (rate, pitch, vocal effort), which are not emotions.
"""

from braintuning.probes.base import Task

TASK = Task("Emotion", corpora=("CREMA-D", "RAVDESS"), stand_in="prosody")
