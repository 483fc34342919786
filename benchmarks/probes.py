"""Downstream tasks on real speech: scores of four models, which of them differ, and how long it takes.

    .venv/bin/python benchmarks/probes.py --corpus <folder of aligned speech>

With LibriSpeech's hour of `alignments.jsonl` and audio it writes `benchmarks/results/probes.csv` (seconds),
`probes_scores.csv` (every layer of every model on phonemes, recognition and MFCCs) and `probes_differences.csv` (pairs
of models, each at the layer that validates best). Without a folder it uses the synthesised stand-in corpora.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.demo.corpora import stand_in_corpus
from braintuning.pipeline.probe import as_table
from braintuning.probes.features import KINDS, Store, states
from braintuning.probes.scores import SCORES, paired_difference
from braintuning.probes.tasks import material, task_named
from braintuning.probes.utterance import Parts
from braintuning.results import REPOSITORY, generator, save_table
from transformers import AutoConfig

RESULTS = Path(__file__).parent / "results"
TASKS = ("phonemes", "mfcc", "asr")
SMALL = REPOSITORY / "data" / "models"
MODELS = {
    "random HuBERT": lambda: SpeechEncoder.from_config(
        AutoConfig.from_pretrained(SMALL / "hubert-small", dtype=torch.float32), seed=0
    ),
    "hubert-small": lambda: SpeechEncoder.from_pretrained(SMALL / "hubert-small"),
    "wav2vec2-small": lambda: SpeechEncoder.from_pretrained(SMALL / "wav2vec2-small"),
    "whisper-tiny.en": lambda: SpeechEncoder.from_pretrained("openai/whisper-tiny.en", pad_to_30s=False),
}


def timed(run: Callable[[], object], what: str) -> tuple[dict[str, float], object]:
    """Seconds that a call takes, on the clock and of processor time, and what it returns."""
    start, used = time.perf_counter(), time.process_time()
    found = run()
    taken = {f"{what}_seconds": time.perf_counter() - start, f"{what}_processor_seconds": time.process_time() - used}
    return taken, found


def measure(task: str, corpus: str, parts: Parts, name: str, folder: Path) -> tuple[dict, pd.DataFrame, np.ndarray]:
    """Seconds, table, and sums over speakers at the best layer, of one model on one task."""
    encoder, kind = MODELS[name](), task_named(task).kind
    store = Store(folder / name, name, tuple(KINDS))
    taken, _ = timed(lambda: states(encoder, parts, kind, store=store), "pass")
    fitting, results = timed(lambda: task_named(task).measure(parts, encoder, "cpu", 0, store), "fit")
    table = as_table(results, encoder.family, task, corpus, parts)
    best = max((r for r in results if r.layer > 0), key=lambda r: r.validation)
    table = table.assign(drawn=table["layer"] == best.layer)
    table.insert(0, "model", name)
    row = {"task": task, "model": name, "utterances": sum(map(len, parts.values())), "layers": len(results)}
    row |= {**taken, **fitting, "threads": torch.get_num_threads()}
    print(row, flush=True)
    return row, table, best.sums


def differences(task: str, sums: dict[str, np.ndarray]) -> pd.DataFrame:
    """Every pair of models on one task, the same test speakers in both."""
    rows = []
    for first, second in combinations(sums, 2):
        rng = generator(0, "probes", task, first, second)
        found = paired_difference(SCORES[task_named(task).metric], sums[second], sums[first], rng)
        rows.append((task, second, first, len(sums[first]), *found))
    return pd.DataFrame(rows, columns=["task", "model", "against", "n_speakers", "difference", "low", "high", "p"])


def main() -> None:
    """Measure and write the tables, task by task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, help="folder of TIMIT or of aligned speech")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=TASKS)
    given = parser.parse_args()
    written: dict[str, list[pd.DataFrame]] = {"probes": [], "probes_scores": [], "probes_differences": []}
    with tempfile.TemporaryDirectory() as folder:
        for task in given.tasks:
            corpus, parts = material(task, given.corpus, stand_in=stand_in_corpus)
            found = {name: measure(task, corpus, parts, name, Path(folder)) for name in MODELS}
            written["probes"].append(pd.DataFrame([seconds for seconds, _, _ in found.values()]))
            written["probes_scores"] += [table for _, table, _ in found.values()]
            written["probes_differences"].append(
                differences(task, {name: sums for name, (_, _, sums) in found.items()})
            )
            for name, tables in written.items():
                save_table(RESULTS / f"{name}.csv", pd.concat(tables))


if __name__ == "__main__":
    main()
