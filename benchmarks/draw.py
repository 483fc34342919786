"""Time of the first figure with flat map and inflated views, of further ones, and of saving, in a fresh process.

    python benchmarks/draw.py

Writes `benchmarks/results/draw.csv`. The first figure pays for imports, surface, parcellation and outlines.
"""

import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import pandas as pd
from braintuning.results import atomic_path

RESULTS = Path(__file__).parent / "results" / "draw.csv"
REPEATS = 5


def timed() -> list[tuple[str, float]]:
    """Seconds of the first figure, of the median further one, and of saving it as PNG and PDF."""
    start = time.perf_counter()
    import numpy as np
    from braintuning.cortex.figure import cortex_figure, save_figure
    from braintuning.cortex.regions import hcp_mmp_labels
    from braintuning.cortex.surface import fs_lr

    surface, labels = fs_lr(), hcp_mmp_labels()
    values = np.random.default_rng(0).random(surface.n_vertices)

    def draw() -> object:
        fig = cortex_figure(surface, values, labels=labels, label="alignment")
        fig.canvas.draw()
        return fig

    draw()
    found = [("first figure", time.perf_counter() - start)]
    further = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        fig = draw()
        further.append(time.perf_counter() - start)
    found.append(("further figure", median(further)))
    with TemporaryDirectory() as folder:
        start = time.perf_counter()
        save_figure(fig, Path(folder) / "figure")
        found.append(("save as PNG and PDF", time.perf_counter() - start))
    return found


def main() -> None:
    """Time in processes of their own, so that each first figure is a first one."""
    if "--once" in sys.argv:
        print(*(f"{step}\t{seconds}" for step, seconds in timed()), sep="\n")
        return
    rows = []
    for _ in range(3):
        command = [sys.executable, __file__, "--once"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rows += [(step, float(seconds)) for step, seconds in (line.split("\t") for line in said.splitlines())]
    table = pd.DataFrame(rows, columns=["step", "seconds"]).groupby("step", sort=False)["seconds"].median()
    print(table.round(2).to_string())
    with atomic_path(RESULTS) as temporary:
        table.round(2).to_csv(temporary)


if __name__ == "__main__":
    main()
