"""Downstream tasks on real speech: scores of four models, which of them differ, and how long it takes.

    .venv/bin/python benchmarks/probes.py --corpus <folder of aligned speech>

With LibriSpeech's hour of `alignments.jsonl` and sound it writes `benchmarks/results/probes.csv` (seconds),
`probes_scores.csv` (every layer of every model on phonemes, recognition and MFCCs) and `probes_differences.csv` (pairs
of models, each at the layer that validates best). Without a folder it listens to what the project's voices speak.
"""

import argparse
import tempfile
import time
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from braintuning.backbones import SpeechEncoder
from braintuning.files import REPOSITORY
from braintuning.probe_stage import KIND_OF_TASK, as_table
from braintuning.probes.scores import SCORES, paired_difference
from braintuning.probes.states import Store, states
from braintuning.probes.tasks import material, task_named
from braintuning.results import save_table
from braintuning.seeding import generator
from transformers import AutoConfig

RESULTS = Path(__file__).parent / "results"
TASKS = ("phonemes", "asr", "mfcc")
SMALL = REPOSITORY / "data" / "models"
MODELS = {
    "random HuBERT": lambda: SpeechEncoder.from_config(
        AutoConfig.from_pretrained(SMALL / "hubert-small", dtype=torch.float32), seed=0
    ),
    "hubert-small": lambda: SpeechEncoder.from_pretrained(SMALL / "hubert-small"),
    "wav2vec2-small": lambda: SpeechEncoder.from_pretrained(SMALL / "wav2vec2-small"),
    "whisper-tiny.en": lambda: SpeechEncoder.from_pretrained("openai/whisper-tiny.en", pad_to_30s=False),
}


def timed(run: object) -> tuple[float, object]:
    """Seconds that a call takes, and what it returns."""
    start = time.perf_counter()
    found = run()
    return time.perf_counter() - start, found


def measure(corpora: dict, name: str, folder: Path) -> tuple[list[dict], list[pd.DataFrame], dict]:
    """Seconds, tables, and sums over speakers at the best layer by task, of one model."""
    encoder, seconds, tables, sums = MODELS[name](), [], [], {}
    store = Store(folder / name, name, ("mean", *KIND_OF_TASK.values()))
    for task, (corpus, parts) in corpora.items():
        kind = KIND_OF_TASK.get(task, "mean")
        taken, _ = timed(lambda: states(encoder, parts, kind, store=store))  # noqa: B023
        fitting, results = timed(lambda: task_named(task).measure(parts, encoder, "cpu", 0, store))  # noqa: B023
        table = as_table(results, encoder.family, task, corpus, parts)
        best = max((r for r in results if r.layer > 0), key=lambda r: r.validation)
        tables.append(table.assign(drawn=table["layer"] == best.layer))
        tables[-1].insert(0, "model", name)
        sums[task] = best.sums
        row = {"task": task, "model": name, "utterances": sum(map(len, parts.values())), "layers": len(results)}
        seconds.append(row | {"pass_seconds": taken, "fit_seconds": fitting, "threads": torch.get_num_threads()})
        print(seconds[-1], flush=True)
    return seconds, tables, sums


def differences(sums: dict[str, dict]) -> pd.DataFrame:
    """Every pair of models on every task, the same test speakers in both."""
    rows = []
    for first, second in combinations(sums, 2):
        for task in TASKS:
            pair, score = (sums[second][task], sums[first][task]), SCORES[task_named(task).metric]
            found = paired_difference(score, *pair, generator(0, "probes", task, first, second))
            rows.append((task, second, first, len(pair[0]), *found))
    return pd.DataFrame(rows, columns=["task", "model", "against", "n_speakers", "difference", "low", "high", "p"])


def main() -> None:
    """Measure and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, help="folder of TIMIT or of aligned speech")
    corpora = {task: material(task, parser.parse_args().corpus) for task in TASKS}
    seconds, tables, sums = [], [], {}
    with tempfile.TemporaryDirectory() as folder:
        for name in MODELS:
            taken, scores, sums[name] = measure(corpora, name, Path(folder))
            seconds += taken
            tables += scores
    save_table(RESULTS / "probes.csv", pd.DataFrame(seconds))
    save_table(RESULTS / "probes_scores.csv", pd.concat(tables))
    save_table(RESULTS / "probes_differences.csv", differences(sums))
    print(np.round(pd.concat(tables).query("drawn")[["task", "model", "layer", "value", "low", "high"]], 3).to_string())


if __name__ == "__main__":
    main()
