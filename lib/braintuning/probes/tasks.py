"""The downstream tasks by name, and the utterances that a task is measured on."""

import logging
from dataclasses import replace
from pathlib import Path

from braintuning.demo.corpora import spoken_corpus
from braintuning.errors import InputError, nearest
from braintuning.probes import asr, emotion, intent, mfcc, phonemes, sentence_type, word_identity
from braintuning.probes.base import Task, rare_classes, truth_of
from braintuning.probes.corpora import aligned, open_corpus
from braintuning.probes.utterance import Parts, divide
from braintuning.results import generator

log = logging.getLogger(__name__)

TASKS: dict[str, Task] = {
    "phonemes": phonemes.TASK,
    "sentence_type": sentence_type.TASK,
    "word_identity": word_identity.TASK,
    "emotion": emotion.TASK,
    "intent": intent.TASK,
    "asr": asr.TASK,
    "asr_tuned": replace(asr.TASK, title="Speech recognition, trunk tuned", measure=asr.measure_tuned),
    "mfcc": mfcc.TASK,
}


def task_named(name: str) -> Task:
    """A task; `InputError` names the nearest where there is none of this name."""
    if name not in TASKS:
        raise InputError(f"probe: unknown task {name!r}{nearest(name, tuple(TASKS))}")
    return TASKS[name]


def material(name: str, folder: Path | None = None, seed: int = 0) -> tuple[str, Parts]:
    """Corpus and divided utterances of a task.

    Parameters
    ----------
    name : str
        Of the task.
    folder : Path, optional
        Of a corpus that the task takes; without it the task's spoken stand-in.
    seed : int
        Of speakers and prompts, where the corpus does not divide them.

    Returns
    -------
    corpus : str
    parts : dict of part to tuple of Utterance
    """
    task = task_named(name)
    if folder:
        corpus, utterances = open_corpus(folder, task.corpora)
    else:
        corpus, utterances = f"spoken {task.stand_in}", aligned.read(spoken_corpus(task.stand_in, seed))
    kept = [utterance for utterance in utterances if task.keep(utterance)]
    by_prompt = task.by_prompt and corpus != "SLURP"
    parts = divide(kept, generator(seed, "probe", name), by_prompt, task.said_by_all)
    if task.rare_allowed:
        names, truth = truth_of(parts)
        if rare := rare_classes(names, truth["train"]):
            log.info(f"{corpus}: fewer than two examples to train on, so never predicted: {', '.join(rare)}")
    return corpus, parts
