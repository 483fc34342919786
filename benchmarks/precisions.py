"""Tuning and alignment in bfloat16 beside float32: the same loss curves and the same alignment within a tolerance.

    python benchmarks/precisions.py --device cuda

A planted study (`in_memory.planted`), tuned by the paper's recipe and by spans and components, once in each precision
with the same seed. Writes `<device>-precisions.csv`, a row an epoch, and a row a recipe into `<device>.csv`, whose note
says whether both are within `LOSSES` and `ALIGNMENT`.
"""

import argparse
import os
from pathlib import Path

import measuring
import numpy as np
import pandas as pd
from braintuning.backbone.precision import VARIABLE
from braintuning.results import REPOSITORY, save_table
from braintuning.study.settings import Tuning
from in_memory import Job, aligned, planted, tuned
from measuring import Table
from speed import TINY
from transformers import Wav2Vec2Config

LOSSES, ALIGNMENT = 0.02, 0.01
"""Most by which a loss may differ, as a share of it, and the mean alignment of the last layer."""
PRECISIONS = ("float32", "bfloat16")
RECIPES = {
    "clips and voxels": {"trunk_learning_rate": 1e-4, "head_learning_rate": 1e-3},
    "spans and components": {
        "trunk_learning_rate": 5e-5,
        "head_learning_rate": 1e-4,
        "context_seconds": 30.0,
        "targets": "components",
        "n_components": 5,
        "head_start": "ridge",
    },
}
PRETRAINED = "data/models/wav2vec2-small"
SIZES = {"cuda": (8, 150, 2000), "cpu": (4, 40, 200)}
"""Stories, TRs of each, voxels."""
SMALL = 4, 20, 30


def job(recipe: str, small: bool, sizes: tuple[int, int, int]) -> tuple:
    """What is tuned, and whom it is aligned with."""
    changes = {**RECIPES[recipe], "epochs": 1 if small else 4, "patience": 4, "batch_size": 16}
    settings = Tuning(**changes)
    stories, listener = planted(settings, *sizes)
    found = not small and (REPOSITORY / PRETRAINED).is_dir()
    shape = TINY if small else {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4}
    backbone = PRETRAINED if found else Wav2Vec2Config(**shape)
    return Job(recipe, backbone, settings, **stories), listener


def compared(curves: pd.DataFrame, alignment: dict[str, float]) -> dict[str, str]:
    """The sentence on how far both precisions are apart."""
    wide = curves.melt(["precision", "epoch"], ["train_loss", "validation_loss", "fitted_loss"]).dropna()
    wide = wide.pivot(index=["epoch", "variable"], columns="precision", values="value").astype(float)
    apart = float((wide["bfloat16"] / wide["float32"] - 1).abs().max())
    between = abs(alignment["bfloat16"] - alignment["float32"])
    within = "within" if apart <= LOSSES and between <= ALIGNMENT else "NOT WITHIN"
    found = f"losses differ by at most {100 * apart:.2g} % (allowed {100 * LOSSES:g} %)"
    means = " and ".join(f"{alignment[precision]:.4f}" for precision in PRECISIONS)
    return {"note": f"{within}: {found}; alignment {means} (allowed {ALIGNMENT:g} apart)"}


def compare(recipe: str, device: str, given: argparse.Namespace, kept: list[pd.DataFrame]) -> dict[str, str]:
    """Tune and align in both precisions."""
    sizes = SMALL if given.small else SIZES[device]
    alignment, curves, before = {}, [], os.environ.get(VARIABLE, "")
    for precision in PRECISIONS:
        os.environ[VARIABLE] = precision
        work, listener = job(recipe, given.small, sizes)
        encoder, history, seconds = tuned(work, device)
        scores, *_ = aligned(encoder, listener, device)
        alignment[precision] = float(np.nanmean(scores[-1]))
        curves.append(pd.DataFrame(history).assign(recipe=recipe, precision=precision, seconds=round(seconds, 2)))
        curves[-1]["alignment"] = [np.nan] * (len(history) - 1) + [alignment[precision]]
    os.environ[VARIABLE] = before
    kept += curves
    save_table(given.out / f"{device}-precisions.csv", pd.concat(kept))
    return compared(pd.concat(curves), alignment)


def main() -> None:
    """Compare both recipes and write what is found of each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--out", type=Path, default=measuring.RESULTS, help="folder of the tables")
    parser.add_argument("--small", action="store_true", help="sizes at which everything only runs")
    given = parser.parse_args()
    table, kept = Table(given.out, given.device), []
    table.begin("precision")
    for recipe in RECIPES:
        size = (SMALL if given.small else SIZES[given.device])[1]
        table.measure("precision", recipe, size, "TRs a story", lambda r=recipe: compare(r, given.device, given, kept))
    measuring.report(given.out, given.device)


if __name__ == "__main__":
    main()
