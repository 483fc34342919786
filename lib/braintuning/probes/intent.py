"""Intent: what a spoken command asks for, in phrasings and by speakers that were not trained on.

Some actions of SLURP are rare. One with fewer than two training recordings is reported, stays in the score and is never
predicted.
"""

from functools import partial

from braintuning.probes.base import Task, classify

TASK = Task(
    "Intent",
    corpora=("SLURP",),
    stand_in="commands",
    measure=partial(classify, rare_allowed=True),
    rare_allowed=True,
)
