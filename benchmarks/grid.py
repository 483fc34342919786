"""Tune, read and align the models of a packed study (`benchmarks/pack.py`), one after the other.

    python benchmarks/grid.py --device cuda --packed benchmarks/carried

Writes a row a model into `<device>-grid.csv` as soon as it is done, and into `<device>-grid.h5` the alignment of every
layer and voxel in half precision and the losses of every epoch. Started again by the same code on the same packed
study and device it goes on, else it begins anew.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import h5py
import measuring
import numpy as np
import pandas as pd
from braintuning.results import REPOSITORY, git_commit, inputs_fingerprint, save_table
from in_memory import Job, aligned, tuned
from packed import FILE, jobs, listener, open_packed


def done(job: Job, of_listener: str, packed: h5py.File, folder: Path, device: str) -> tuple[dict, np.ndarray, list]:
    """A model's row, its alignment and its losses."""
    encoder, history, seconds = tuned(job, device)
    scores, reading, fitting = aligned(encoder, listener(packed, of_listener), device)
    epochs, volumes = len(history) - 1, sum(len(story.times) for story in job.train.values())
    steps = max(len(next(iter(job.train.values())).of_each), 1)
    best = min(history[1:] or history, key=lambda row: row["validation_loss"])
    row = {
        "run": job.name,
        "listener": of_listener,
        "epochs": epochs,
        "tuning_s": round(seconds, 2),
        "volumes_per_second": round(epochs * volumes * steps / seconds, 1),
        "untuned_loss": history[0]["validation_loss"],
        "best_loss": best["validation_loss"],
        "features_s": round(reading, 2),
        "encoding_s": round(fitting, 2),
        "alignment_last_layer": float(np.nanmean(scores[-1])),
        "alignment_best_layer": float(np.nanmean(scores, axis=1).max()),
    }
    return row, scores, history


def main() -> None:
    """Go through all models, as far as time allows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--out", type=Path, default=measuring.RESULTS, help="folder of the tables")
    parser.add_argument("--packed", type=Path, required=True, help="folder with the packed study")
    given = parser.parse_args()
    table, arrays = given.out / f"{given.device}-grid.csv", given.out / f"{given.device}-grid.h5"
    source = {"git_commit": git_commit(), "packed": inputs_fingerprint([given.packed / FILE], given.packed)}
    source |= {"device": measuring.machine(given.device)}
    rows = pd.read_csv(table, dtype=str).to_dict("records") if table.is_file() else []
    rows = [row for row in rows if {key: row.get(key) for key in source} == source]
    given.out.mkdir(parents=True, exist_ok=True)
    known = {row["run"] for row in rows}
    with open_packed(given.packed) as packed:
        for job, of_listener in jobs(packed):
            if job.name in known:
                continue
            carried = given.packed / job.backbone
            if not (REPOSITORY / job.backbone).is_dir():
                job = replace(job, backbone=str(carried))
            row, scores, history = done(job, of_listener, packed, given.packed, given.device)
            rows.append({**row, **source})
            with h5py.File(arrays, "a") as file:
                file.pop(job.name, None)
                file.create_dataset(job.name, data=scores.astype(np.float16)).attrs["history"] = json.dumps(history)
            save_table(table, pd.DataFrame(rows))
            print(", ".join(map(str, row.values())), flush=True)


if __name__ == "__main__":
    main()
