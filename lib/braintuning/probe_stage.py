"""The stage that probes: one downstream task on every layer of one model."""

from pathlib import Path

import numpy as np
import pandas as pd

from braintuning.backbones import SpeechEncoder
from braintuning.probes.task import Result
from braintuning.probes.tasks import material, task_named
from braintuning.probes.utterance import Parts, Utterance
from braintuning.results import fingerprint, is_done, provenance, provenance_columns, save_arrays, save_table
from braintuning.seeding import generator
from braintuning.stages import Report, load_model, model_recipe, require_device, weights_from
from braintuning.study import Run, Study


def probe(study: Study, run: Run, task: str, device: str = "cpu", report: Report = print) -> Path:
    """Score of every layer of a run's model on one of the study's downstream tasks; a table."""
    require_device(device)
    study.require("task", task, study.probes.tasks)
    settings, path = study.probes, study.probe_file(task, run)
    folder = settings.corpora.get(task)
    corpus, parts = material(task, Path(folder) if folder else None, settings.seed, report)
    recipe = {
        "stage": "probe",
        "task": task,
        "model": model_recipe(study, run),
        "corpus": corpus,
        "utterances": fingerprint([_identity(part, u) for part in parts for u in parts[part]]),
        "seed": settings.seed,
    }
    if is_done(path, recipe) and path.with_suffix(".csv").is_file():
        return path
    encoder = load_model(study, run).to(device)
    table = probed(encoder, task, corpus, parts, device, settings.seed)
    names = {"participant": run.participant or "", "backbone": run.backbone, "condition": run.condition}
    for column, (name, value) in enumerate(names.items()):
        table.insert(column, name, value)
    carried = provenance(recipe, device=device, weights=weights_from(study, run, encoder))
    save_arrays(path, {"value": table["value"].to_numpy()}, carried)
    save_table(path.with_suffix(".csv"), table.assign(**provenance_columns(study.name, carried)))
    report(f"{run.name}: {task} on {corpus}")
    return path


def _identity(part: str, utterance: Utterance) -> tuple:
    known = (utterance.speaker, utterance.prompt, utterance.label, utterance.text, utterance.phones)
    return (part, *known, utterance.file.name, utterance.file.stat().st_size)


def probed(
    encoder: SpeechEncoder, task: str, corpus: str, parts: Parts, device: str = "cpu", seed: int = 0
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

    Returns
    -------
    DataFrame
        task, corpus, family, layer, metric, value, low, high, validation, n_train, n_test, baseline, random_features,
        penalty, converged.
    """
    chosen = task_named(task)
    results = chosen.measure(parts, encoder, device, seed)
    table = pd.DataFrame(results, columns=Result._fields)
    table = table.assign(
        task=task, corpus=corpus, family=encoder.family, metric=chosen.metric,
        n_train=len(parts["train"]), n_test=len(parts["test"]),
    )  # fmt: skip
    first = ["task", "corpus", "family", "layer", "metric", "value", "low", "high", "validation", "n_train", "n_test"]
    return table[[*first, "baseline", "random_features", "penalty", "converged"]]


def leaks(encoder: SpeechEncoder, task: str, parts: Parts, device: str = "cpu", seed: int = 0) -> pd.DataFrame:
    """Scores with speakers and prompts kept apart, and with the same utterances divided at random.

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
        pd.DataFrame(task_named(task).measure(division, encoder, device, seed), columns=Result._fields).assign(
            divided=name, n_train=len(division["train"]), n_test=len(division["test"])
        )
        for name, division in divisions.items()
    ]
    return pd.concat(tables)[["divided", "layer", "value", "low", "high", "n_train", "n_test"]]
