"""Time and memory of reading one story of a participant as large as UTS03, beside plain h5py in the same run.

    python benchmarks/read_responses.py

Writes `benchmarks/results/read_responses.csv`.
"""

import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from statistics import median

import h5py
import numpy as np
import pandas as pd
from braintuning.datasets.responses import read_responses
from braintuning.results import save_table

ROWS, VOXELS, REPEATS = 400, 95_556, 7
HALF = np.arange(VOXELS) % 2 == 0
RESULTS = Path(__file__).parent / "results" / "read_responses.csv"


def plain(path: Path) -> np.ndarray:
    """Read everything as it is stored."""
    with h5py.File(path) as file:
        return file["data"][()]


def plain_half(path: Path) -> np.ndarray:
    """Read everything as it is stored, then keep every other voxel."""
    return plain(path)[:, HALF]


def ours(path: Path) -> np.ndarray:
    """Read as float32 and check every column."""
    return read_responses(path, "data", ROWS, VOXELS)


def ours_half(path: Path) -> np.ndarray:
    """Read every other voxel as float32, as tuning reads those above the noise ceiling."""
    return read_responses(path, "data", ROWS, VOXELS, HALF)


def peak(read: Callable[[Path], np.ndarray], path: Path) -> int:
    """Bytes that were in use at most."""
    tracemalloc.start()
    read(path)
    bytes_in_use = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return bytes_in_use


def main() -> None:
    """Measure and write the table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "story.hf5"
        with h5py.File(path, "w") as file:
            file["data"] = np.random.default_rng(0).standard_normal((ROWS, VOXELS))
        seconds = {read: [] for read in (plain, ours, plain_half, ours_half)}
        for _ in range(REPEATS):
            for read, taken in seconds.items():
                start = time.perf_counter()
                read(path)
                taken.append(time.perf_counter() - start)
        stored = 8 * ROWS * VOXELS
        table = pd.DataFrame(
            {
                "reader": [read.__name__ for read in seconds],
                "seconds": [median(taken) for taken in seconds.values()],
                "times_plain": [
                    median(seconds[read]) / median(seconds[plain_half if read in (plain_half, ours_half) else plain])
                    for read in seconds
                ],
                "peak_over_stored": [peak(read, path) / stored for read in seconds],
            }
        )
    save_table(RESULTS, table)
    print(table.round(3).to_string(index=False))


if __name__ == "__main__":
    main()
