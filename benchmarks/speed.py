"""Tuning, features and ridge: this project beside the published way, both in one run.

    make bench DEVICE=cpu

Writes `benchmarks/results/<device>.csv`, `.md` and a plot. Random weights of wav2vec2-base's shape; medians of repeats
after a warm-up. Ours computes in `braintuning.precision`, the published way in float32; the paper's sizes on a GPU,
small ones on a CPU. The published ridge runs on the processor with numpy. Where voxels are many it is timed at
`TIMED_VOXELS` and drawn out in a straight line: what it does for all voxels at once, and the same for each.
"""

import argparse
import resource
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import published
import torch
from braintuning.alignment.encoding import chunked_splits
from braintuning.alignment.ridge import ridge_predict
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.fast import kept_kernels
from braintuning.backbone.precision import activation_dtype, autocast, precision
from braintuning.figures.style import use_style
from braintuning.results import atomic_path
from braintuning.tuning.loop import gradient
from braintuning.tuning.model import Front, TunedModel
from transformers import Wav2Vec2Config

RESULTS = Path(__file__).parent / "results"
SIZES = {
    "cpu": {
        "clips": (1, 2, 4),
        "windows": (1, 2, 4),
        "models": (1, 4, 10),
        "seconds": (4.1, 8.1, 16.1),
        "voxels": (2000, 4000, 8000),
        "stories": (1200, 2400),
        "head": 5000,
        "rows": 2400,
        "repeats": 3,
    },
    "cuda": {
        **{"clips": (32, 64, 128), "windows": (16, 32, 64), "voxels": (24_000, 48_000, 95_556)},
        **{"models": (1, 4, 10), "seconds": (4.1, 8.1, 16.1), "stories": (2350, 4700, 9400)},
        **{"head": 50_732, "rows": 9400, "repeats": 10},
    },
}
FLOPS_PER_SECOND = {"cuda": 790e12}
FLOPS = {"tuning": 297e9, "features": 250e9, "features, models": 250e9}
"""Of a clip of 10 s behind a kept front end, forward and backward; of a window of 16.1 s with its front end."""
TIMED_VOXELS = (2000, 4000)
FEATURES, CLIP_SECONDS, WINDOW_SECONDS = 3072, 10.0, 16.1
GROWS = {
    "tuning": "clips in a batch",
    "features": "windows in a batch",
    "features, models": "models in a sweep",
    "features, seconds": "seconds of a window",
    "ridge": "voxels",
    "ridge, rows": "training rows",
}
Row = tuple[str, float, str, float, float, float]


def timed(run: Callable[[], object], device: str, repeats: int) -> tuple[float, float]:
    """Median seconds of repeats after one that warms up, and GiB in use at most."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    used = (
        torch.cuda.max_memory_allocated()
        if device == "cuda"
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    )
    return median(seconds[1:]), used / 2**30


def _encoder(device: str) -> SpeechEncoder:
    return SpeechEncoder.from_config(Wav2Vec2Config(), seed=0).to(device)


def _published_tuning(device: str, audio: torch.Tensor, targets: torch.Tensor, repeats: int) -> float:
    encoder = _encoder(device)
    head = torch.nn.Linear(encoder.dim, targets.shape[1]).to(device)
    optimiser = torch.optim.AdamW([*encoder.trainable_parameters(), *head.parameters()], lr=1e-5)
    step = partial(published.tuning_step, encoder.model, head, optimiser, audio, targets)
    return timed(step, device, repeats)[0]


def _our_tuning(device: str, audio: torch.Tensor, targets: torch.Tensor, repeats: int) -> tuple[float, float]:
    model = TunedModel(_encoder(device), targets.shape[1]).to(device).train()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)
    with torch.no_grad(), autocast(device):
        front = model.front(audio)
    front = Front(front.hidden.to(activation_dtype(device)), front.n_frames)

    def step() -> None:
        gradient(model, front, targets, len(targets))
        optimiser.step()

    return timed(step, device, repeats)


def tuning(device: str, sizes: dict) -> Iterator[Row]:
    """Clips a second of one optimiser step, the front end's output being at hand in ours."""
    for clips in sizes["clips"]:
        audio = torch.randn(clips, round(CLIP_SECONDS * 16_000), device=device)
        targets = torch.randn(clips, sizes["head"], device=device)
        reference = _published_tuning(device, audio, targets, sizes["repeats"])
        seconds, peak = _our_tuning(device, audio, targets, sizes["repeats"])
        yield "tuning", clips, "clips/s", clips / reference, clips / seconds, peak


def _features(device: str, sizes: dict, windows: int, models: int, seconds: float) -> tuple[float, float, float]:
    """Windows a second, last token of all layers: reference, ours, GiB. Ours has one front end for all models."""
    encoders = [_encoder(device) for _ in range(models)]
    sound = torch.randn(windows, round(seconds * 16_000), device=device)
    reference, _ = timed(lambda: [published.features(e.model, sound) for e in encoders], device, sizes["repeats"])
    last, kernels = torch.tensor([encoders[0].n_frames(sound.shape[1]) - 1], device=device), {}

    @torch.no_grad()
    def ours() -> None:
        with autocast(device), kept_kernels(kernels):
            front = encoders[0].front_end(sound)
            for encoder in encoders:
                encoder.trunk(front, frames=last).float().cpu().numpy()

    taken, peak = timed(ours, device, sizes["repeats"])
    return windows * models / reference, windows * models / taken, peak


def features(device: str, sizes: dict) -> Iterator[Row]:
    """How the cost of features grows with windows in a batch, with models and with the length of a window."""
    fewest, *_, most = sizes["windows"]
    for windows in sizes["windows"]:
        yield "features", windows, "windows/s", *_features(device, sizes, windows, 1, WINDOW_SECONDS)
    for models in sizes["models"]:
        yield (
            "features, models",
            models,
            "windows/s",
            *_features(device, sizes, fewest, models, WINDOW_SECONDS),
        )
    for seconds in sizes["seconds"]:
        yield "features, seconds", seconds, "windows/s", *_features(device, sizes, most, 1, seconds)


def _ridge(device: str, rows: int, voxels: int) -> tuple[float, float, float]:
    """Voxels a second of one layer's encoding model, three splits, 15 penalties: reference, ours, GiB."""
    rng = np.random.default_rng(0)
    x, y = (rng.standard_normal((rows, columns), dtype=np.float32) for columns in (FEATURES, voxels))
    alphas, splits = np.logspace(1, 4, 15), chunked_splits(rows, 3, 20, 0.25, rng)
    reference = _reference_ridge(x, y, alphas, splits)
    taken, peak = timed(lambda: ridge_predict(x, y, x[:250], alphas, splits, device), device, 3)
    return voxels / reference, voxels / taken, peak


def _reference_ridge(x: np.ndarray, y: np.ndarray, alphas: np.ndarray, splits: list) -> float:
    """Seconds of the published ridge, measured where voxels are few enough, else drawn out from fewer."""

    def seconds(voxels: int) -> float:
        start = time.perf_counter()
        published.ridge(x, y[:, :voxels], alphas, splits)
        return time.perf_counter() - start

    if y.shape[1] <= 2 * max(TIMED_VOXELS):
        return min(seconds(y.shape[1]) for _ in range(2))
    fewer, more = TIMED_VOXELS
    at_fewer, at_more = seconds(fewer), seconds(more)
    return at_more + (at_more - at_fewer) / (more - fewer) * (y.shape[1] - more)


def ridge(device: str, sizes: dict) -> Iterator[Row]:
    """How the cost of an encoding model grows with voxels and with rows, which is with stories."""
    for voxels in sizes["voxels"]:
        yield "ridge", voxels, "voxels/s", *_ridge(device, sizes["rows"], voxels)
    for rows in sizes["stories"]:
        yield "ridge, rows", rows, "voxels/s", *_ridge(device, rows, sizes["voxels"][0])


def share_of_floor(row: Row, device: str) -> float:
    """Arithmetic that has to be done over what the device can do in the time; NaN where that is not known."""
    step, _, _, _, throughput, _ = row
    return throughput * FLOPS.get(step, float("nan")) / FLOPS_PER_SECOND.get(device, float("nan"))


def draw(table: pd.DataFrame, path: Path) -> None:
    """Seconds of one pass against what grows in it, both sides, a panel a step."""
    use_style()
    steps = list(table.groupby("step", sort=False))
    fig, axes = plt.subplots(2, 3, figsize=(7.2, 4.0), layout="constrained")
    for ax, (step, part) in zip(axes.ravel(), steps, strict=True):
        done = part["size"] if step in ("tuning", "features", "features, models", "ridge") else 1
        for side, colour in (("reference", "#8c8c8c"), ("ours", "#d55e00")):
            ax.plot(part["size"], done / part[side], "-o", ms=3, color=colour, label=side)
        ax.set(title=step, xlabel=GROWS[step], ylabel="seconds a unit of work", ylim=(0, None), xlim=(0, None))
    axes[0, 0].legend()
    fig.savefig(path, dpi=200)


def main() -> None:
    """Time everything and write table and plot."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="cpu", choices=tuple(SIZES))
    device = parser.parse_args().device
    rows = [row for step in (tuning, features, ridge) for row in step(device, SIZES[device])]
    table = pd.DataFrame(rows, columns=["step", "size", "unit", "reference", "ours", "peak_gib"])
    table.insert(5, "ratio", table["ours"] / table["reference"])
    table["share_of_floor"] = [share_of_floor(row, device) for row in rows]
    name = (
        torch.cuda.get_device_name()
        if device == "cuda"
        else f"{torch.get_num_threads()} CPU threads, {torch.cpu.get_capabilities()['cpu_name']}"
    )
    name += f", {precision(device)}"
    write(table, name, device)


def write(table: pd.DataFrame, name: str, device: str) -> None:
    """Write table, its Markdown and plot."""
    head = f"{name}; PyTorch {torch.__version__}; wav2vec2-base's shape, random weights\n\n"
    rounded = table.round({"reference": 3, "ours": 3, "ratio": 2, "peak_gib": 2, "share_of_floor": 3})
    with atomic_path(RESULTS / f"{device}.csv") as temporary:
        rounded.assign(device=name).to_csv(temporary, index=False)
    lines = [rounded.columns, ["---"] * rounded.shape[1], *rounded.itertuples(index=False)]
    with atomic_path(RESULTS / f"{device}.md") as temporary:
        temporary.write_text(head + "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n")
    draw(table, RESULTS / f"{device}.png")
    print(head + rounded.to_string(index=False))


if __name__ == "__main__":
    main()
