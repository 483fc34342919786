"""What kind of sentence it is: in TIMIT dialect (SA), compact (SX) or diverse (SI); else statement, question or list.

Everybody in TIMIT reads the same two SA sentences, so these prompts cannot be divided; all others are.
"""

from braintuning.probes.base import Task, classification
from braintuning.probes.corpora.timit import SAID_BY_ALL

TASK = Task(
    title="Sentence type",
    metric="macro F1",
    corpora=("TIMIT",),
    stand_in="sentence types",
    measure=classification(),
    said_by_all=SAID_BY_ALL,
)
