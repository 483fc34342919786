"""Intent: what a spoken command asks for, in phrasings and by speakers that were not trained on.

Some actions of SLURP are rare. One with fewer than two training recordings is reported, stays in the score and is never
predicted.
"""

from braintuning.probes.base import Task, classification

TASK = Task(
    title="Intent",
    metric="macro F1",
    corpora=("SLURP",),
    stand_in="commands",
    measure=classification(rare_allowed=True),
    rare_allowed=True,
)
