"""Ridge regression: this project beside himalaya's solvers, both in one run.

    OMP_WAIT_POLICY=PASSIVE python benchmarks/ridge.py --device cpu --threads 2

Writes `benchmarks/results/ridge.csv`, one row per size and device. Both sides choose a penalty for every voxel from the
same splits and predict the same test TRs. They take turns; medians are reported, of seconds on the clock and of seconds
of processor time, which other work on the machine hardly inflates as long as waiting threads sleep (`PASSIVE`).
Himalaya takes the kernel where there are fewer TRs than features and the singular value decomposition otherwise, in
float32, 2,000 voxels at a time.
"""

import argparse
import time
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
import torch
from braintuning.alignment.encoding import chunked_splits
from braintuning.alignment.ridge import Split, ridge_predict
from braintuning.results import atomic_path
from braintuning.timing import delay
from himalaya.backend import set_backend
from himalaya.kernel_ridge import solve_kernel_ridge_cv_eigenvalues
from himalaya.ridge import solve_ridge_cv_svd
from himalaya.scoring import l2_neg_loss

RESULTS = Path(__file__).parent / "results" / "ridge.csv"
SIZES = {"demo": (550, 384, 13_700), "mid": (2000, 768, 20_000), "tall": (4000, 384, 10_000)}
"""Training TRs, features before four delays, voxels."""
ALPHAS, TEST_ROWS, DELAYS, COMPONENTS = np.logspace(1, 4, 15), 125, (1, 2, 3, 4), 40
VOXELS_AT_ONCE = 2000


def data(rows: int, dim: int, voxels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Delayed features with a decaying spectrum, responses to some of their components in noise, and test features."""
    rng = np.random.default_rng(0)
    sources = rng.standard_normal((rows + TEST_ROWS, COMPONENTS), dtype=np.float32)
    mixing = rng.standard_normal((COMPONENTS, dim), dtype=np.float32) / np.sqrt(COMPONENTS)
    x = delay(sources @ mixing + 0.5 * rng.standard_normal((len(sources), dim), dtype=np.float32), DELAYS)
    y = (sources @ rng.standard_normal((COMPONENTS, voxels), dtype=np.float32)) * rng.uniform(0, 0.5, voxels)
    y = np.roll(y, 2, axis=0)[:rows] + rng.standard_normal((rows, voxels))
    return x[:rows], ((y - y.mean(axis=0)) / y.std(axis=0)).astype(np.float32), x[rows:]


def himalaya_predict(
    train_x: np.ndarray, train_y: np.ndarray, test_x: np.ndarray, splits: list[Split], device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and penalties as `ridge_predict` returns them, by himalaya."""
    backend = set_backend("torch_cuda" if device == "cuda" else "torch")
    x, y, unseen = (backend.asarray(a, dtype="float32") for a in (train_x, train_y, test_x))
    options = {"alphas": backend.asarray(ALPHAS**2, dtype="float32"), "cv": splits, "local_alpha": True}
    options |= {"score_func": l2_neg_loss, "n_targets_batch": VOXELS_AT_ONCE}
    if len(x) < x.shape[1]:
        chosen, weights, _ = solve_kernel_ridge_cv_eigenvalues(x @ x.T, y, **options)
        unseen = unseen @ x.T
    else:
        chosen, weights, _ = solve_ridge_cv_svd(x, y, **options)
    predicted = unseen @ weights.to(unseen.device)
    return predicted.cpu().numpy(), np.sqrt(chosen.cpu().numpy().astype(np.float64))


def compare(name: str, device: str, turns: int, voxels: int) -> dict:
    """Median seconds of both sides at a size, and how far their penalties and predictions agree."""
    rows, dim, most = SIZES[name]
    train_x, train_y, test_x = data(rows, dim, min(most, voxels))
    splits = chunked_splits(len(train_x), 3, 20, 0.25, np.random.default_rng(1))
    sides = {
        "ours": lambda: ridge_predict(train_x, train_y, test_x, ALPHAS, splits, device),
        "himalaya": lambda: himalaya_predict(train_x, train_y, test_x, splits, device),
    }
    seconds, found = {side: [] for side in sides}, {}
    for _ in range(turns + (device == "cuda")):  # the first turn on a GPU warms up
        for side, run in sides.items():
            start = time.perf_counter(), time.process_time()
            found[side] = run()
            seconds[side].append((time.perf_counter() - start[0], time.process_time() - start[1]))
    (ours, our_cpu), (theirs, their_cpu) = (
        (median(times) for times in zip(*seconds[side][-turns:], strict=True)) for side in sides
    )
    (predicted, alphas), (expected, expected_alphas) = found["ours"], found["himalaya"]
    same = np.isclose(alphas, expected_alphas, rtol=1e-3)
    rows = {"size": name, "training_trs": len(train_x), "features": train_x.shape[1], "voxels": train_y.shape[1]}
    return rows | {
        "ours_s": round(ours, 3),
        "himalaya_s": round(theirs, 3),
        "himalaya_over_ours": round(theirs / ours, 2),
        "ours_cpu_s": round(our_cpu, 2),
        "himalaya_cpu_s": round(their_cpu, 2),
        "himalaya_over_ours_cpu": round(their_cpu / our_cpu, 2),
        "equal_alphas": round(same.mean(), 5),
        "penalties_chosen": len(np.unique(alphas)),
        "largest_difference_where_equal": float(f"{np.abs(predicted - expected)[:, same].max():.1e}"),
    }


def main() -> None:
    """Time both sides at every size, and write the table's rows of this device."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--voxels", type=int, default=10**9, help="at most so many, where time is short")
    parser.add_argument("--sizes", nargs="+", default=tuple(SIZES), choices=tuple(SIZES))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    name = torch.cuda.get_device_name() if options.device == "cuda" else torch.cpu.get_capabilities()["cpu_name"]
    rows = [compare(size, options.device, options.turns, options.voxels) for size in options.sizes]
    table = pd.DataFrame(rows).assign(device=options.device, machine=name, threads=options.threads, turns=options.turns)
    print(table.to_string(index=False))
    if RESULTS.exists():
        kept = pd.read_csv(RESULTS)
        done = kept["device"].eq(options.device) & kept["size"].isin(options.sizes)
        table = pd.concat([kept[~done], table])
    with atomic_path(RESULTS) as temporary:
        table.to_csv(temporary, index=False)


if __name__ == "__main__":
    main()
