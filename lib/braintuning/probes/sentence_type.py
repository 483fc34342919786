"""Sentence type: dialect (SA), compact (SX) or diverse (SI) in TIMIT; statement, question or list in the stand-in.

Everybody in TIMIT reads the same two SA sentences, so these prompts are in all parts; the others are divided.
"""

from braintuning.probes.base import Task
from braintuning.probes.corpora.timit import SAID_BY_ALL

TASK = Task("Sentence type", corpora=("TIMIT",), stand_in="sentence types", said_by_all=SAID_BY_ALL)
