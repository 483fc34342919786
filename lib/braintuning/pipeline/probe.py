"""Step: a downstream task on every layer of a model."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.demo.corpora import stand_in_corpus
from braintuning.pipeline import recipes
from braintuning.pipeline.steps import load_encoder, made_on, model_recipe, require_device, save_result, weights_from
from braintuning.probes.asr import BLANK_BIASES, ORDERS
from braintuning.probes.base import Result
from braintuning.probes.features import Store
from braintuning.probes.linear import INVERSE_PENALTIES, RIDGE_PENALTIES
from braintuning.probes.tasks import material, task_named
from braintuning.probes.utterance import Parts, Utterance
from braintuning.results import fingerprint, generator, is_done
from braintuning.study import Run, Study

log = logging.getLogger(__name__)

HEADS = {"asr": (ORDERS,), "asr_tuned": (1,)}
"""Heads that a task of recognition fits; results of other tasks do not depend on it."""
COLUMNS = (
    *("task", "corpus", "family", "layer", "metric", "value", "low", "high", "n_train", "n_test", "baseline"),
    *("random_features", "duration_loudness", "n_test_speakers", "validation", "penalty", "at_edge", "converged"),
)


def probe_tasks(study: Study, run: Run, device: str = "cpu", task: str | None = None) -> list[Path]:
    """Scores of a run's model on all of the study's downstream tasks, or on one."""
    return [probe(study, run, name, device) for name in ([task] if task else study.probes.tasks)]


def probe(study: Study, run: Run, task: str, device: str = "cpu") -> Path:
    """Score of every layer of a run's model on one of the study's downstream tasks; a table, which names the corpus."""
    require_device(device)
    study.require("task", task, study.probes.tasks)
    settings, path = study.probes, study.probe_file(task, run)
    corpus, parts = material(task, settings.corpus(task), settings.seed, stand_in_corpus)
    recipe = {
        **recipes.probe(study, run, task).stored,
        "model": model_recipe(study, run),
        "corpus": corpus,
        "utterances": fingerprint([_identity(part, u) for part in parts for u in parts[part]]),
        "tried": (INVERSE_PENALTIES, RIDGE_PENALTIES, BLANK_BIASES, *HEADS.get(task, ())),
        "columns": COLUMNS,
    }
    if is_done(path, recipe) and path.with_suffix(".csv").is_file():
        return path
    encoder = load_encoder(study, run).to(device)
    results = task_named(task).measure(parts, encoder, device, settings.seed, store_of(study, run, task))
    table = as_table(results, encoder.family, task, corpus, parts)
    table.insert(3, "condition", run.condition)
    table.insert(4, "participant", run.participant or "")
    table["backbone"] = run.backbone
    arrays = {"value": table["value"].to_numpy(), "layer": table["layer"].to_numpy()}
    arrays["sums"] = np.stack([result.sums for result in results])
    weights = weights_from(study, run, encoder)
    save_result(path, arrays, table, study, recipe, device=made_on(device), weights=weights)
    log.info(f"{run.name}: {task} on {corpus}")
    return path


def store_of(study: Study, run: Run, task: str) -> Store:
    """Where a model's activations are kept: those that any of the study's tasks on the same corpus needs."""

    def corpus_of(name: str) -> tuple:
        return study.probes.corpus(name), task_named(name).stand_in

    kinds = [task_named(name).kind for name in study.probes.tasks if corpus_of(name) == corpus_of(task)]
    return Store(study.results / "probe_states", model_recipe(study, run), tuple(dict.fromkeys(filter(None, kinds))))


def _identity(part: str, utterance: Utterance) -> tuple:
    known = (utterance.speaker, utterance.prompt, utterance.label, utterance.text, utterance.phones)
    return (part, *known, utterance.file.name, utterance.file.stat().st_size)


def probed(
    encoder: SpeechEncoder, task: str, corpus: str, parts: Parts, device: str = "cpu", seed: int = 0
) -> pd.DataFrame:
    """Score of every layer of any encoder on one of `probes.tasks.TASKS`: a row a layer, with columns `COLUMNS`.

    `corpus` and `parts` are from `probes.tasks.material`.
    """
    return as_table(task_named(task).measure(parts, encoder, device, seed, None), encoder.family, task, corpus, parts)


def as_table(results: Sequence[Result], family: str, task: str, corpus: str, parts: Parts) -> pd.DataFrame:
    """Results of a task as the table that `probed` returns."""
    table = pd.DataFrame(results, columns=Result._fields).drop(columns="sums")
    table = table.assign(
        task=task, corpus=corpus, family=family, metric=task_named(task).metric,
        n_train=len(parts["train"]), n_test=len(parts["test"]),
        n_test_speakers=len({utterance.speaker for utterance in parts["test"]}),
    )  # fmt: skip
    return table[list(COLUMNS)]


def measure_leaks(study: Study, device: str = "cpu") -> Path:
    """Phonemes in the pretrained model with speakers and prompts kept apart, and with utterances divided at random.

    The encoder takes each utterance once. Columns of the table: divided, layer, value, low, high, n_train, n_test.
    """
    require_device(device)
    run, seed, path = Run(study.figure_backbone, "pretrained"), study.probes.seed, study.leaks_file
    _, parts = material("phonemes", stand_in_corpus("sentence types", seed), seed)
    recipe = {
        **recipes.leaks(study).stored,
        "model": model_recipe(study, run),
        "utterances": fingerprint([_identity(part, u) for part in parts for u in parts[part]]),
        "tried": INVERSE_PENALTIES,
    }
    if is_done(path, recipe) and path.with_suffix(".csv").is_file():
        return path
    encoder, store = load_encoder(study, run).to(device), store_of(study, run, "sentence_type")
    everything = [utterance for part in parts.values() for utterance in part]
    order = generator(seed, "leaks").permutation(len(everything))
    ends = np.cumsum([len(part) for part in parts.values()])[:-1]
    mixed = {
        part: tuple(everything[i] for i in chosen) for part, chosen in zip(parts, np.split(order, ends), strict=True)
    }
    tables = []
    for name, division in (("by speaker and prompt", parts), ("by utterance (leaks)", mixed)):
        results = task_named("phonemes").measure(division, encoder, device, seed, store)
        sizes = {f"n_{part}": len(division[part]) for part in ("train", "test")}
        tables.append(pd.DataFrame(results, columns=Result._fields).assign(divided=name, **sizes))
    table = pd.concat(tables)[["divided", "layer", "value", "low", "high", "n_train", "n_test"]]
    arrays, weights = {"value": table["value"].to_numpy()}, weights_from(study, run, encoder)
    save_result(path, arrays, table, study, recipe, device=made_on(device), weights=weights)
    return path
