"""Five people who heard one recording of four minutes and three who heard another, six regions each."""

from pathlib import Path

import numpy as np
import soundfile
import tiny
from braintuning.datasets.textgrid import Interval
from braintuning.demo.textgrid_writer import write_textgrid

TR = {"pie": 1.5, "tale": 2.0}
N_ROWS = {"pie": 160, "tale": 90}
SECONDS = {name: TR[name] * N_ROWS[name] for name in TR}
PEOPLE = {"pie": ("sub-01", "sub-02", "sub-03", "sub-04", "sub-05"), "tale": ("s1", "s2", "s3")}
REGIONS = ("A1", "B", "C", "D", "E", "F")
STARTS = {name: np.arange(1.0, SECONDS[name] - 2, 0.9) for name in TR}


def courses(name: str, seed: int, shared: float = 1.0) -> np.ndarray:
    """Time courses that half follow what everyone heard, region by region a little more."""
    heard = np.random.default_rng(len(name)).standard_normal((N_ROWS[name], len(REGIONS)))
    noise = np.random.default_rng([len(name), seed]).standard_normal(heard.shape)
    return shared * heard * np.linspace(0.6, 1.4, len(REGIONS)) + noise


def write_recording(root: Path, name: str) -> Path:
    """Write responses, audio and words of a recording; its folder."""
    folder = root / name
    (folder / "responses").mkdir(parents=True)
    for seed, participant in enumerate(PEOPLE[name]):
        np.save(folder / "responses" / f"{participant}.npy", courses(name, seed))
    soundfile.write(folder / "sound.flac", tiny.sound(len(name), SECONDS[name]), 16_000)
    words = [Interval(("pie", "man", "said")[i % 3], s, s + 0.5) for i, s in enumerate(STARTS[name].tolist())]
    write_textgrid(folder / "words.TextGrid", {"word": words}, SECONDS[name])
    return folder


def content(root: Path, backbone: Path) -> dict:
    """A study that tunes on three of the people who heard `pie` and tests on all others."""
    parts = {"pie-1": [0.0, 120.0], "pie-2": [120.0, 165.0], "pie-3": [180.0, 240.0]}
    return {
        "name": "people", "title": "Tiny people",
        "dataset": {
            "kind": "parcels", "root": str(root),
            "recordings": {
                "pie": {"folder": "pie", "tr": TR["pie"], "regions": list(REGIONS), "parts": parts},
                "tale": {"folder": "tale", "tr": TR["tale"], "regions": list(REGIONS)},
            },
        },
        "participants": "all", "tuned_together": ["sub-01", "sub-02", "sub-03"], "joint_responses": "mean",
        "stories": {"train": ["pie-1"], "validation": ["pie-2"], "test": ["pie-3", "tale"]},
        "backbones": {"small": {"name": str(backbone), "pad_to_30s": False}},
        "conditions": ["pretrained", "multi-brain-tuned", "multi-random-brain-tuned"],
        "tuning": {"clip_seconds": 2.0, "epochs": 1, "batch_size": 16, "permutation_block_rows": 4},
        "joint_tuning": {"lora_rank": None},
        "features": {"window_seconds": 2.0, "hop_seconds": 2.0, "step_seconds": 0.5, "batch_size": 64},
        "encoding": {
            "delays": [1, 2], "n_alphas": 3, "validation_chunk_rows": 10, "test_skip_rows": 0, "folds": 3,
            "ceiling_threshold": 0.05, "mask_from": "train", "permutation_block_rows": 5,
        },
        "figures": {"notebooks": []},
    }  # fmt: skip
