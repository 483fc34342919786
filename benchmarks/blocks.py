"""How often tests over blocks of TRs find what is not there, in noise whose volumes depend on their neighbours.

    python benchmarks/blocks.py [--times 2000]

First-order autoregressive noise in the measurement and in what models predict, two voxels. `difference`: of two models
that do not differ (`stats.difference_p`); `chance`: of a model that knows nothing (`stats.correlation_p`). Shares at
p < .05 with blocks of 10 TRs, and as long as `stats.block_length` says, at least 10; and how often the 95 % interval
over such blocks (`stats.block_interval`) holds the truth. Writes `benchmarks/results/blocks.csv` and `blocks.md`.
"""

import argparse
from collections.abc import Iterator
from itertools import product

import numpy as np
import pandas as pd
from braintuning.alignment import stats
from braintuning.results import generator, save_table
from measuring import RESULTS, save_page
from scipy.signal import lfilter

AUTOREGRESSIONS, TRS = (0.35, 0.6, 0.8, 0.9), (120, 240, 290)
BLOCK, VOXELS, PERMUTATIONS, LEVEL = 10, 2, 199, 0.05


def noise(rng: np.random.Generator, n_trs: int, autoregression: float) -> np.ndarray:
    """Stationary AR(1) noise, (TRs, voxels)."""
    return lfilter([1], [1, -autoregression], rng.standard_normal((n_trs + 100, VOXELS)), axis=0)[100:]


def trials(kind: str, autoregression: float, n_trs: int, times: int) -> Iterator[dict]:
    """Whether the test finds something and the interval holds zero, with both blocks; recording by recording."""
    rng, weights = generator(0, "blocks", kind, autoregression, n_trs), np.ones(VOXELS)
    for _ in range(times):
        measured, one, other = (noise(rng, n_trs, autoregression) for _ in range(3))
        first, second = (one, None) if kind == "chance" else (measured + one, measured + other)
        values = stats.tr_values(first, second, measured, weights)
        row = {"block": stats.block_length(values, BLOCK)}
        for name, block in (("chosen", row["block"]), ("ten", BLOCK)):
            models = (first,) if second is None else (first, second)
            test = stats.correlation_p if second is None else stats.difference_p
            row[f"found_{name}"] = test(*models, measured, weights, rng, block, PERMUTATIONS) < LEVEL
            low, high = stats.block_interval(values, block)
            row[f"holds_{name}"] = low <= 0 <= high
        yield row


def main() -> None:
    """Simulate, and write the shares in percent."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=2000, help="recordings of each kind")
    times, rows = parser.parse_args().times, []
    for kind, n_trs, autoregression in product(("difference", "chance"), TRS, AUTOREGRESSIONS):
        means = pd.DataFrame(trials(kind, autoregression, n_trs, times)).mean()
        shares = {name: round(100 * value, 1) for name, value in means.items() if name != "block"}
        rows.append({"test": kind, "trs": n_trs, "ar1": autoregression, "block": round(means["block"], 1), **shares})
        print(rows[-1], flush=True)
    table = pd.DataFrame(rows)
    save_table(RESULTS / "blocks.csv", table.assign(times=times))
    about = f"% of {times} simulated recordings; found: p < .05 where nothing is; holds: 95 % intervals"
    save_page(RESULTS / "blocks.md", about, table.columns, table.itertuples(index=False))


if __name__ == "__main__":
    main()
