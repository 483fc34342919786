"""Registry of downstream tasks, and the corpus that a task is measured on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from braintuning.errors import InputError, nearest
from braintuning.probes import asr, mfcc, phonemes
from braintuning.probes.base import Task, classify, require_classes
from braintuning.probes.corpora import aligned, open_corpus
from braintuning.probes.corpora.timit import SAID_BY_ALL
from braintuning.probes.utterance import Parts, divide
from braintuning.results import generator

TASKS: dict[str, Task] = {
    "phonemes": phonemes.TASK,
    # Dialect (SA), compact (SX) or diverse (SI) in TIMIT; statement, question or list in the stand-in. Everybody in
    # TIMIT reads the same two SA sentences, so these prompts are in all parts; the others are divided.
    "sentence_type": Task("Sentence type", ("TIMIT", "aligned speech"), "sentence types", said_by_all=SAID_BY_ALL),
    # Which of the 30 or 35 words of Speech Commands.
    "word_identity": Task("Word identity", ("Speech Commands", "aligned speech"), "words", by_prompt=False),
    # In which of six emotions actors say sentences that were not trained on. RAVDESS has two: test actors say the one
    # that no model was trained or validated on. The stand-in has six ways of speaking (rate, pitch, vocal effort),
    # which are not emotions.
    "emotion": Task("Emotion", ("CREMA-D", "RAVDESS", "aligned speech"), "prosody"),
    # What a command asks for, in phrasings that were not trained on. Some actions of SLURP are rare.
    "intent": Task("Intent", ("SLURP", "aligned speech"), "commands", rare_allowed=True),
    "asr": asr.TASK,
    "asr_tuned": replace(asr.TASK, title="Speech recognition, trunk tuned", measure=asr.measure_tuned, kind=None),
    "mfcc": mfcc.TASK,
}
"""By the name that a study gives; a new one is also added to `study.settings.TaskName`."""


def task_named(name: str) -> Task:
    """A task; `InputError` suggests the closest name where there is none of this name."""
    if name not in TASKS:
        raise InputError(f"probe: unknown task {name!r}{nearest(name, tuple(TASKS))}")
    return TASKS[name]


def material(
    name: str, folder: Path | None = None, seed: int = 0, stand_in: Callable[[str, int], Path] | None = None
) -> tuple[str, Parts]:
    """Name of a task's corpus, and its utterances divided into training, validation and test part.

    Without the `folder` of a corpus, `stand_in` (`demo.corpora.stand_in_corpus`) makes one of aligned speech, from the
    name of the task's stand-in and the seed, which also divides a corpus that has no division, alike for all its tasks.
    `InputError` for no such task, neither of the two, or a corpus that is incomplete, does not suit the task or has
    nothing for a part.
    """
    task = task_named(name)
    if folder:
        corpus, utterances = open_corpus(folder, task.corpora)
    elif stand_in:
        corpus, utterances = f"spoken {task.stand_in}", aligned.read(stand_in(task.stand_in, seed))
    else:
        raise InputError(f"probe: no corpus given for {name}, expected a folder of {' or '.join(task.corpora)}")
    kept = [utterance for utterance in utterances if task.keep(utterance)]
    by_prompt = task.by_prompt and corpus != "SLURP"
    parts = divide(kept, generator(seed, "probe"), by_prompt, task.said_by_all, folder or corpus)
    if task.measure is classify:
        require_classes(parts, folder or corpus, task.rare_allowed)
    return corpus, parts
