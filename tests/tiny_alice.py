"""Four people, 90 volumes, six regions: an Alice that is quick to read."""

from pathlib import Path

import numpy as np

TR = 2.0
N_ROWS = 90
PEOPLE = ("s18", "s23", "s24", "s28")
SECONDS = (N_ROWS + 10) * TR


def courses(seed: int, n_rows: int = N_ROWS) -> np.ndarray:
    """Six time courses that half follow what everyone hears."""
    heard = np.random.default_rng(0).standard_normal((n_rows, 6))
    return 1000 + 20 * (heard + np.random.default_rng(seed + 1).standard_normal((n_rows, 6)))


def save(root: Path, participant: str, values: np.ndarray) -> None:
    """Write one person's time courses."""
    folder = root / "timecourses_10mm"
    folder.mkdir(parents=True, exist_ok=True)
    np.savetxt(folder / f"{participant}-timecourses.txt", values)
