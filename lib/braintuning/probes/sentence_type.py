"""What kind of sentence it is: in TIMIT dialect (SA), compact (SX) or diverse (SI); else statement, question or list.

Everybody in TIMIT reads the same two SA sentences, so its prompts cannot be divided; the stand-in's are.
"""

from braintuning.probes.task import Task, classification

TASK = Task(
    title="Sentence type",
    metric="macro F1",
    corpora=("TIMIT",),
    stand_in="sentence types",
    measure=classification(),
    by_prompt=False,
)
