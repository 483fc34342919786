"""What a spoken command wants, in phrasings and by speakers that were not trained on."""

from braintuning.probes.task import Task, classification

TASK = Task(
    title="Intent",
    metric="macro F1",
    corpora=("SLURP",),
    stand_in="commands",
    measure=classification(),
)
