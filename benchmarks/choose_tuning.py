"""What each choice in the recipe of tuning does to the validation loss, on a listener who is in no figure.

    python benchmarks/choose_tuning.py [--folder data/cache/choose_tuning] [--only recipe "keep 0.3"]

The listener is made as the demo's are, from another seed; stories and model are the demo's. The loss is that of a ridge
head fitted to each epoch's states, its penalty chosen on the validation story, as a share of predicting the mean:
`untuned` before tuning, `tuned` at the best epoch. The test story is not read. A row is written after each choice, and
what stands in the table is not measured again. Writes `benchmarks/results/choose_tuning.csv`.
"""

import argparse
import os
import time
from pathlib import Path

import pandas as pd
import torch
import yaml
from braintuning.backbone.precision import precision
from braintuning.datasets import open_dataset
from braintuning.pipeline.ceiling import measure_ceiling
from braintuning.pipeline.check import make_listeners
from braintuning.pipeline.recipes import aim_of
from braintuning.pipeline.steps import pretrained
from braintuning.pipeline.tune import learning_material
from braintuning.results import save_table
from braintuning.study import Study, load_study
from braintuning.study.settings import Tuning
from braintuning.tuning.loop import brain_tune
from braintuning.tuning.model import compared

TABLE = Path(__file__).parent / "results" / "choose_tuning.csv"
LISTENER, SEED, BACKBONE = "CHOICE01", 11, "whisper-tiny.en"
RECIPE = {
    "targets": "components",
    "head_start": "ridge",
    "context_seconds": 30.0,
    "batch_size": 2,
    "trunk_learning_rate": 5e-5,
    "head_learning_rate": 1e-4,
    "epochs": 4,
    "patience": 4,
}
CLIPS = {"context_seconds": 0.0, "batch_size": 16}
CHOICES = {
    "as in the paper": {**CLIPS, "targets": "voxels", "head_start": "zero"},
    "recipe": {},
    "permuted": {},
    "clips": CLIPS,
    "voxels": {"targets": "voxels"},
    **{f"{n} components": {"n_components": n} for n in (5, 10, 20, 40)},
    **{f"trunk rate {rate:g}": {"trunk_learning_rate": rate} for rate in (1e-5, 2e-5, 1e-4, 2e-4)},
    **{f"head rate {rate:g}": {"head_learning_rate": rate} for rate in (1e-5, 1e-3)},
    **{f"keep {weight:g}": {"keep_weight": weight} for weight in (0.03, 0.1, 0.3, 1.0)},
    "haemodynamic": {"pooling": "haemodynamic"},
    "learned": {"pooling": "learned"},
    "span of 20 s": {"context_seconds": 20.0, "batch_size": 4},
    "adapters": {"lora_rank": 8, "trunk_learning_rate": 1e-3},
}


def chosen_study(folder: Path) -> Study:
    """The demo with another listener."""
    folder.mkdir(parents=True, exist_ok=True)
    dataset = {"root": str(folder.absolute() / "listener"), "simulation": {"seed": SEED}}
    changes = {"name": "choose-tuning", "extends": "demo", "dataset": dataset, "participants": [LISTENER]}
    path = folder / "choose-tuning.yaml"
    path.write_text(yaml.safe_dump(changes))
    return load_study(path)


def measure(study: Study, changes: dict, condition: str) -> list[dict]:
    """A row for each epoch of a run with some settings changed."""
    changed = study.model_copy(update={"tuning": Tuning(**{**study.tuning.model_dump(), **RECIPE, **changes})})
    run = changed.run(BACKBONE, condition, LISTENER)
    train, validation = learning_material(changed, run, open_dataset(changed))
    start = time.process_time()
    _, history = brain_tune(pretrained(changed, run), train, validation, changed.tuning, aim=aim_of(condition))
    seconds = time.process_time() - start
    mean, losses = history[0]["mean_loss"], compared(history)
    return [
        {**row, "share": loss / mean, "processor_seconds": round(seconds)}
        for row, loss in zip(history, losses, strict=True)
    ]


def main() -> None:
    """Measure what is not in the table yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path("data/cache/choose_tuning"))
    parser.add_argument("--only", nargs="+", choices=CHOICES, default=list(CHOICES))
    given = parser.parse_args()
    os.environ["BRAINTUNING_RESULTS"] = str(given.folder.absolute() / "results")
    study = chosen_study(given.folder)
    make_listeners(study)
    measure_ceiling(study, LISTENER)
    machine = f"{torch.get_num_threads()} CPU threads, {torch.cpu.get_capabilities()['cpu_name']}, {precision('cpu')}"
    for name in given.only:
        table = pd.read_csv(TABLE) if TABLE.is_file() else pd.DataFrame({"choice": []})
        if name not in set(table["choice"]):
            rows = measure(study, CHOICES[name], "random-brain-tuned" if name == "permuted" else "brain-tuned")
            measured = pd.DataFrame(rows).assign(choice=name, machine=machine)
            table = pd.read_csv(TABLE) if TABLE.is_file() else table
            save_table(TABLE, pd.concat([table, measured]).round(6))
        print(table[table["choice"] == name][["choice", "epoch", "share"]].to_string(index=False, header=False))


if __name__ == "__main__":
    main()
