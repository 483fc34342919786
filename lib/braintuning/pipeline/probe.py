"""The stage that probes: one downstream task on every layer of one model."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.demo.corpora import stand_in_corpus
from braintuning.pipeline.steps import load_model, model_recipe, require_device, weights_from
from braintuning.probes.asr import BLANK_BIASES, ORDERS
from braintuning.probes.base import Result
from braintuning.probes.features import Store
from braintuning.probes.linear import INVERSE_PENALTIES, RIDGE_PENALTIES
from braintuning.probes.tasks import material, task_named
from braintuning.probes.utterance import Parts, Utterance
from braintuning.results import fingerprint, generator, is_done, provenance, provenance_columns, save_arrays, save_table
from braintuning.study import Run, Study

log = logging.getLogger(__name__)

KIND_OF_TASK = {"asr": "last layer", "mfcc": "every tenth frame"}
UNKEPT = ("asr_tuned",)  # its trunk changes
HEADS = {"asr": (ORDERS,), "asr_tuned": (1,)}
"""Heads that a task of recognition fits; results of other tasks do not hang on it."""
COLUMNS = (
    *("task", "corpus", "family", "layer", "metric", "value", "low", "high", "n_train", "n_test", "baseline"),
    *("random_features", "duration_loudness", "n_test_speakers", "validation", "penalty", "at_edge", "converged"),
)


def probe(study: Study, run: Run, task: str, device: str = "cpu") -> Path:
    """Score of every layer of a run's model on one of the study's downstream tasks; a table."""
    require_device(device)
    study.require("task", task, study.probes.tasks)
    settings, path = study.probes, study.probe_file(task, run)
    folder = settings.corpora.get(task)
    corpus, parts = material(task, Path(folder) if folder else None, settings.seed, stand_in_corpus)
    recipe = {
        "stage": "probe",
        "task": task,
        "model": model_recipe(study, run),
        "corpus": corpus,
        "utterances": fingerprint([_identity(part, u) for part in parts for u in parts[part]]),
        "seed": settings.seed,
        "tried": (INVERSE_PENALTIES, RIDGE_PENALTIES, BLANK_BIASES, *HEADS.get(task, ())),
        "columns": COLUMNS,
    }
    if is_done(path, recipe) and path.with_suffix(".csv").is_file():
        return path
    encoder = load_model(study, run).to(device)
    results = task_named(task).measure(parts, encoder, device, settings.seed, store_of(study, run, task))
    table = as_table(results, encoder.family, task, corpus, parts)
    table.insert(3, "condition", run.condition)
    table.insert(4, "participant", run.participant or "")
    table["backbone"] = run.backbone
    carried = provenance(recipe, device=device, weights=weights_from(study, run, encoder))
    sums = np.stack([result.sums for result in results])
    save_arrays(path, {"value": table["value"].to_numpy(), "layer": table["layer"].to_numpy(), "sums": sums}, carried)
    save_table(path.with_suffix(".csv"), table.assign(**provenance_columns(study.name, carried)))
    log.info(f"{run.name}: {task} on {corpus}")
    return path


def store_of(study: Study, run: Run, task: str) -> Store:
    """Where a model's states are kept: those that any of the study's tasks on the same corpus needs, of one pass."""

    def heard(name: str) -> tuple:
        return study.probes.corpora.get(name), task_named(name).stand_in

    together = [name for name in study.probes.tasks if heard(name) == heard(task) and name not in UNKEPT]
    kinds = tuple(dict.fromkeys(KIND_OF_TASK.get(name, "mean") for name in together))
    return Store(study.results / "probe_states", model_recipe(study, run), kinds)


def _identity(part: str, utterance: Utterance) -> tuple:
    known = (utterance.speaker, utterance.prompt, utterance.label, utterance.text, utterance.phones)
    return (part, *known, utterance.file.name, utterance.file.stat().st_size)


def probed(
    encoder: SpeechEncoder,
    task: str,
    corpus: str,
    parts: Parts,
    device: str = "cpu",
    seed: int = 0,
    store: Store | None = None,
) -> pd.DataFrame:
    """Score of every layer of any encoder on a task.

    Parameters
    ----------
    encoder : SpeechEncoder
    task : str
        One of `probes.tasks.TASKS`.
    corpus, parts
        From `probes.tasks.material`.
    device : str
    seed : int
    store : Store, optional
        Where the encoder's states are kept for the next task.

    Returns
    -------
    DataFrame
        `COLUMNS`, a row a layer.
    """
    return as_table(task_named(task).measure(parts, encoder, device, seed, store), encoder.family, task, corpus, parts)


def as_table(results: Sequence[Result], family: str, task: str, corpus: str, parts: Parts) -> pd.DataFrame:
    """Results of a task as the table that `probed` returns."""
    table = pd.DataFrame(results, columns=Result._fields).drop(columns="sums")
    table = table.assign(
        task=task, corpus=corpus, family=family, metric=task_named(task).metric,
        n_train=len(parts["train"]), n_test=len(parts["test"]),
        n_test_speakers=len({utterance.speaker for utterance in parts["test"]}),
    )  # fmt: skip
    return table[list(COLUMNS)]


def leaks(
    encoder: SpeechEncoder, task: str, parts: Parts, device: str = "cpu", seed: int = 0, store: Store | None = None
) -> pd.DataFrame:
    """Scores with speakers and prompts kept apart, and with the same utterances divided at random.

    Both hear the same utterances: with a store the encoder does so once.

    Returns
    -------
    DataFrame
        divided, layer, value, low, high, n_train, n_test.
    """
    everything = [utterance for part in parts.values() for utterance in part]
    order = generator(seed, "leaks").permutation(len(everything))
    ends = np.cumsum([len(part) for part in parts.values()])[:-1]
    mixed = {
        part: tuple(everything[i] for i in chosen) for part, chosen in zip(parts, np.split(order, ends), strict=True)
    }
    divisions = {"by speaker and prompt": parts, "by utterance (leaks)": mixed}
    tables = [
        pd.DataFrame(task_named(task).measure(division, encoder, device, seed, store), columns=Result._fields).assign(
            divided=name, n_train=len(division["train"]), n_test=len(division["test"])
        )
        for name, division in divisions.items()
    ]
    return pd.concat(tables)[["divided", "layer", "value", "low", "high", "n_train", "n_test"]]
