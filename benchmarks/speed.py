"""Tuning, features and ridge: this project beside the published way, both in one run.

    make bench DEVICE=cpu
    python benchmarks/speed.py --device cuda --parts tuning features ridge

Writes `<device>.csv`, a row as soon as it is measured, `.md` and a plot. Random weights of wav2vec2-base's shape;
medians of repeats after a warm-up; the paper's sizes on a GPU, smaller ones on a CPU, and with `--small` hardly any.
Ours computes in `braintuning.backbone.precision`, the published way in float32. A volume of tuning is one that is
predicted: of a clip one, of a span all whose clips lie in it. A token of features is what alignment reads every tenth
of a second: the published way has one of each window, ours with a hop of 4 s forty.

The published ridge runs on the processor with NumPy. It is timed at two numbers of voxels and drawn out in a straight
line: what it does for all voxels at once, and the same for each. `himalaya` stands beside it where it is installed.
"""

import argparse
import copy
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import measuring
import numpy as np
import published
import torch
from braintuning.alignment.encoding import chunked_splits
from braintuning.alignment.ridge import ridge_predict
from braintuning.backbone import families, fast
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.precision import activation_dtype, autocast
from braintuning.tuning.batches import CLIPS_AT_ONCE
from braintuning.tuning.loop import gradient
from braintuning.tuning.model import Front, TunedModel
from measuring import PUBLISHED, Table, front_flops, rate, timed, trunk_flops
from transformers import Wav2Vec2Config

TR, CLIP, SPAN, STEP, HOP = 2.0, 10.0, 30.0, 0.1, 4.0
VOLUMES_OF_SPAN = int((SPAN - CLIP) / TR) + 1
ALPHAS, TEST_TRS = np.logspace(1, 4, 15), 250
TINY = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
TINY |= {"conv_dim": (16,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}


@dataclass(frozen=True)
class Sizes:
    """How much of everything; of several numbers the last is that at which all variants are timed."""

    clips: tuple[int, ...]
    voxels_of_head: tuple[int, ...]
    windows: tuple[int, ...]
    models: tuple[int, ...]
    contexts: tuple[float, ...]
    trs: tuple[int, ...]
    voxels: tuple[int, ...]
    timed_voxels: tuple[int, int]
    repeats: int
    window: float = 16.0
    features: int = 3072
    components: int = 50
    shape: tuple[tuple[str, object], ...] = ()


SIZES = {
    "cpu": Sizes(
        **{"clips": (1, 2, 4), "voxels_of_head": (1000, 5000), "windows": (1, 2, 4), "models": (1, 4, 10)},
        **{"contexts": (4.0, 8.0, 16.0), "trs": (600, 1200, 2400), "voxels": (2000, 4000, 8000)},
        **{"timed_voxels": (2000, 4000), "repeats": 3},
    ),
    "cuda": Sizes(
        **{"clips": (32, 64, 128), "voxels_of_head": (10_000, 50_732), "windows": (16, 32, 64), "models": (1, 4, 10)},
        **{"contexts": (4.0, 8.0, 16.0), "trs": (2350, 4700, 9400), "voxels": (24_000, 48_000, 95_556)},
        **{"timed_voxels": (1000, 2000), "repeats": 5},
    ),
}
SMALL = replace(
    SIZES["cpu"],
    **{"clips": (1, 2), "voxels_of_head": (20, 50), "windows": (1, 2), "models": (1, 2), "contexts": (4.0, 6.0)},
    **{"trs": (120, 240), "voxels": (40, 80), "timed_voxels": (20, 40), "repeats": 1, "features": 64},
    **{"window": 5.0, "components": 5, "shape": tuple(TINY.items())},
)


def encoder(sizes: Sizes, device: str) -> SpeechEncoder:
    """The model that is timed."""
    return copy.deepcopy(_made(sizes.shape)).to(device)


@cache
def _made(shape: tuple[tuple[str, object], ...]) -> SpeechEncoder:
    return SpeechEncoder.from_config(Wav2Vec2Config(**dict(shape)), seed=0)


def samples(seconds: float) -> int:
    """Samples of some seconds."""
    return round(seconds * 16_000)


@contextmanager
def with_(compiled: bool = False, transform: bool = True) -> Iterator[None]:
    """Ours with blocks compiled, or with torch's own positional convolution."""
    asked = {fast.COMPILE: "1" if compiled else "0"}
    patch = mock.patch.object(families, "positional_convolution", lambda layer, hidden: layer(hidden))
    with mock.patch.dict(os.environ, asked):
        if transform:
            yield
        else:
            with patch:
                yield


def published_tuning(sizes: Sizes, device: str, clips: int, voxels: int) -> dict:
    """One optimiser step of the published way."""
    model, audio = encoder(sizes, device), torch.randn(clips, samples(CLIP), device=device)
    head = torch.nn.Linear(model.dim, voxels).to(device)
    optimiser = torch.optim.AdamW([*model.trainable_parameters(), *head.parameters()], lr=1e-5)
    step = partial(
        published.tuning_step, model.model, head, optimiser, audio, torch.randn(clips, voxels, device=device)
    )
    seconds, peak = timed(step, device, sizes.repeats)
    return {"per_second": clips / seconds, "peak_gib": peak}


def material(model: TunedModel, volumes: int, span: bool, n_targets: int, device: str) -> tuple[Front, torch.Tensor]:
    """Front end's output and targets of about so many volumes, by clips or by spans."""
    n = max(round(volumes / VOLUMES_OF_SPAN), 1) if span else volumes
    with torch.no_grad(), autocast(device):
        sounds = torch.randn(n, samples(SPAN if span else CLIP), device=device)
        fronts = [model.front(part) for part in sounds.split(CLIPS_AT_ONCE)]
    hidden = torch.cat([front.hidden.to(activation_dtype(device)) for front in fronts])
    if not span:
        return Front(hidden, fronts[0].n_frames), torch.randn(n, n_targets, device=device)
    ends = (CLIP + TR * torch.arange(VOLUMES_OF_SPAN, device=device)).expand(n, -1)
    front = Front(hidden, fronts[0].n_frames, ends, (VOLUMES_OF_SPAN,) * n)
    return front, torch.randn(n, VOLUMES_OF_SPAN, n_targets, device=device)


def our_tuning(
    sizes: Sizes,
    device: str,
    volumes: int,
    n_targets: int,
    *,
    span: bool = False,
    compiled: bool = False,
    transform: bool = True,
    kept: bool = True,
    at_once: int | None = None,
) -> dict:
    """One optimiser step of ours, the front end's output being at hand unless it is not `kept`."""
    model = TunedModel(encoder(sizes, device), n_targets).to(device).train()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5, fused=True)
    inputs, targets = material(model, volumes, span, n_targets, device)
    volumes = len(inputs)
    if not kept:
        inputs = torch.randn(volumes, samples(CLIP), device=device)

    def step() -> None:
        gradient(model, inputs, targets, at_once or len(targets))
        optimiser.step()

    with with_(compiled, transform):
        fast.compile_blocks(model.encoder.model)
        seconds, peak = timed(step, device, sizes.repeats)
    floor = volumes * tuning_flops(model, n_targets, span) / rate(device, activation_dtype(device))
    return {"per_second": volumes / seconds, "peak_gib": peak, "share_of_floor": floor / seconds}


def tuning_flops(model: TunedModel, n_targets: int, span: bool) -> float:
    """Arithmetic of a volume: forward and, twice that, backward through trunk and head."""
    config, volumes = model.encoder.model.config, VOLUMES_OF_SPAN if span else 1
    frames = model.encoder.n_frames(samples(SPAN if span else CLIP))
    return 3 * (trunk_flops(config, frames, frames) / volumes + 2 * config.hidden_size * n_targets)


def tuning(table: Table, device: str, sizes: Sizes) -> None:
    """Volumes a second of one optimiser step."""
    table.begin("tuning", "tuning, voxels")
    *_, volumes = sizes.clips
    fewer, voxels = sizes.voxels_of_head
    ours = partial(our_tuning, sizes, device, volumes)
    table.measure("tuning", PUBLISHED, volumes, "volumes/s", partial(published_tuning, sizes, device, volumes, voxels))
    table.measure("tuning", "ours", volumes, "volumes/s", partial(ours, voxels))
    variants = {
        "ours, components": partial(ours, sizes.components),
        "ours, spans": partial(ours, voxels, span=True),
        "ours, spans and components": partial(ours, sizes.components, span=True),
        "ours, half a batch at once": partial(ours, voxels, at_once=max(volumes // 2, 1)),
        "ours, without the Fourier transform": partial(ours, voxels, transform=False),
        "ours, front end in every step": partial(ours, voxels, kept=False),
    }
    for variant, run in variants.items():
        table.measure("tuning", variant, volumes, "volumes/s", run)
    for n in sizes.clips[:-1]:
        table.measure("tuning", PUBLISHED, n, "volumes/s", partial(published_tuning, sizes, device, n, voxels))
        table.measure("tuning", "ours", n, "volumes/s", partial(our_tuning, sizes, device, n, voxels))
    for n in (fewer, voxels):
        table.measure("tuning, voxels", PUBLISHED, n, "volumes/s", partial(published_tuning, sizes, device, volumes, n))
        table.measure("tuning, voxels", "ours", n, "volumes/s", partial(ours, n))


def published_features(sizes: Sizes, device: str, windows: int, models: int, seconds: float) -> dict:
    """Last token of all layers of some windows, one model after the other."""
    encoders = [encoder(sizes, device) for _ in range(models)]
    sound = torch.randn(windows, samples(seconds), device=device)
    taken, peak = timed(lambda: [published.features(e.model, sound) for e in encoders], device, sizes.repeats)
    return {"per_second": windows * models / taken, "peak_gib": peak}


def our_features(
    sizes: Sizes,
    device: str,
    windows: int,
    models: int,
    seconds: float,
    *,
    hop: float = STEP,
    compiled: bool = False,
    transform: bool = True,
) -> dict:
    """Tokens of all layers from some windows, one front end for all models, as `alignment.features.tokens` has them."""
    encoders = [encoder(sizes, device) for _ in range(models)]
    sound, kernels = torch.randn(windows, samples(seconds), device=device), {}
    n_tokens, first = round(hop / STEP), encoders[0]
    back = torch.round(torch.arange(n_tokens) * STEP / first.frame_seconds).long().flip(0)
    frames = (first.n_frames(sound.shape[1]) - 1 - back).to(device)

    @torch.no_grad()
    def run() -> None:
        with autocast(device), fast.kept_kernels(kernels):
            front = first.front_end(sound)
            for one in encoders:
                one.trunk(front, frames=frames).float().cpu().numpy()

    with with_(compiled, transform):
        for one in encoders:
            fast.compile_blocks(one.model)
        taken, peak = timed(run, device, sizes.repeats)
    config, n_frames = first.model.config, first.n_frames(sound.shape[1])
    flops = front_flops(config, sound.shape[1]) + models * trunk_flops(config, n_frames, n_tokens)
    floor = windows * flops / rate(device, activation_dtype(device))
    return {"per_second": windows * models * n_tokens / taken, "peak_gib": peak, "share_of_floor": floor / taken}


def features(table: Table, device: str, sizes: Sizes) -> None:
    """Tokens a second: windows in a batch, variants, models in a sweep, and the length of a window."""
    table.begin("features", "features, models", "features, context")
    fewest, *_, most = sizes.windows
    ours = partial(our_features, sizes, device)
    given = most, 1, sizes.window
    table.measure("features", PUBLISHED, most, "tokens/s", partial(published_features, sizes, device, *given))
    table.measure("features", "ours", most, "tokens/s", partial(ours, *given))
    table.measure("features", "ours, hop 4 s", most, "tokens/s", partial(ours, *given, hop=HOP))
    n = sizes.models[-1]
    part = "features, models"
    table.measure(part, PUBLISHED, n, "tokens/s", partial(published_features, sizes, device, most, n, sizes.window))
    table.measure(part, "ours", n, "tokens/s", partial(ours, most, n, sizes.window))
    without = partial(ours, *given, transform=False)
    table.measure("features", "ours, without the Fourier transform", most, "tokens/s", without)
    for n in sizes.models[:-1]:
        table.measure(part, PUBLISHED, n, "tokens/s", partial(published_features, sizes, device, most, n, sizes.window))
        table.measure(part, "ours", n, "tokens/s", partial(ours, most, n, sizes.window))
    for n in sizes.windows[:-1]:
        run = partial(published_features, sizes, device, n, 1, sizes.window)
        table.measure("features", PUBLISHED, n, "tokens/s", run)
        table.measure("features", "ours", n, "tokens/s", partial(ours, n, 1, sizes.window))
    for seconds in sizes.contexts:
        given = fewest, 1, seconds
        run = partial(published_features, sizes, device, *given)
        table.measure("features, context", PUBLISHED, seconds, "tokens/s", run)
        table.measure("features, context", "ours", seconds, "tokens/s", partial(ours, *given))


def compiled(table: Table, device: str, sizes: Sizes) -> None:
    """Tuning and features with compiled blocks, which have to be compiled first: about a minute each."""
    volumes, windows, voxels = sizes.clips[-1], sizes.windows[-1], sizes.voxels_of_head[-1]
    runs = {
        ("tuning", "ours, compiled"): partial(our_tuning, sizes, device, volumes, voxels),
        ("features", "ours, compiled"): partial(our_features, sizes, device, windows, 1, sizes.window),
        ("tuning", "ours, spans and components, compiled"): partial(
            our_tuning, sizes, device, volumes, sizes.components, span=True
        ),
    }
    for (part, variant), run in runs.items():
        torch.compiler.reset()
        table.forget(part, variant)
        size, unit = (volumes, "volumes/s") if part == "tuning" else (windows, "tokens/s")
        table.measure(part, variant, size, unit, partial(run, compiled=True))


def design(sizes: Sizes) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], dict[int, list]]:
    """Features, responses and test features, drawn at random, float32; and the splits of so many TRs."""
    rows, columns = sizes.trs[-1], sizes.features
    torch.manual_seed(0)
    shapes = (rows, columns), (rows, sizes.voxels[-1]), (TEST_TRS, columns)
    splits = {n: chunked_splits(n, 3, 20, 0.25, np.random.default_rng(0)) for n in sizes.trs}
    return tuple(torch.randn(shape).numpy() for shape in shapes), splits


def our_ridge(data: tuple, splits: list, voxels: int, device: str, repeats: int) -> dict:
    """One layer's encoding model: 15 penalties, three splits, predictions of the test TRs."""
    x, y, unseen = data
    run = partial(ridge_predict, x, y[:, :voxels], unseen, ALPHAS, splits, device)
    taken, peak = timed(run, device, repeats, warm_up=0)
    floor = ridge_flops(len(x), x.shape[1], voxels, splits) / rate(device, torch.float32)
    return {"per_second": voxels / taken, "peak_gib": peak, "share_of_floor": floor / taken}


def ridge_flops(rows: int, columns: int, voxels: int, splits: list) -> float:
    """Arithmetic of the matrix products in `ridge_predict`, without the decompositions."""
    k = min(rows, columns)
    of_splits = sum(min(len(a), columns) * (len(a) + 2 * min(len(a), columns) + len(b)) for a, b in splits)
    return 2.0 * voxels * (of_splits + k * (rows + TEST_TRS))


def published_ridge(data: tuple, splits: list, sizes: Sizes) -> tuple[float, float, int]:
    """Seconds of the published ridge at the fewer of two numbers of voxels, and for each voxel more.

    The decompositions are of the design alone: they are made, and timed, once.
    """
    x, y, _ = data
    kept, (fewer, more) = [], sizes.timed_voxels

    def decompose(part: np.ndarray, **options: bool) -> tuple[np.ndarray, ...]:
        start = time.perf_counter()
        kept.append((np.linalg.svd(part, **options), time.perf_counter() - start))
        return kept[-1][0]

    def seconds(voxels: int, decompose: Callable) -> float:
        return timed(lambda: published.ridge(x, y[:, :voxels], ALPHAS, splits, decompose), "cpu", 1, warm_up=0)[0]

    at_fewer = seconds(fewer, decompose)
    again = iter([found for found, _ in kept])
    at_more = seconds(more, lambda *_, **__: next(again)) + sum(taken for _, taken in kept)
    return at_fewer, max(at_more - at_fewer, 0) / (more - fewer), fewer


def published_rate(measured: tuple[float, float, int], voxels: int) -> dict:
    """Voxels a second of the published ridge."""
    at_fewer, of_each, fewer = measured
    note = f"on the processor, drawn out from {fewer} voxels and what each more takes"
    return {"per_second": voxels / (at_fewer + of_each * (voxels - fewer)), "note": note}


def himalaya_ridge(data: tuple, splits: list, voxels: int, device: str) -> dict:
    """The same by himalaya, on the same device."""
    from ridge import himalaya_predict

    x, y, unseen = data
    taken, peak = timed(lambda: himalaya_predict(x, y[:, :voxels], unseen, splits, device), device, 1, warm_up=0)
    return {"per_second": voxels / taken, "peak_gib": peak}


def ridge(table: Table, device: str, sizes: Sizes) -> None:
    """Voxels a second of one layer's encoding model, as voxels grow and as stories do."""
    table.begin("ridge", "ridge, stories")
    data, splits = design(sizes)
    few, fewest = first(data, sizes.trs[0]), splits[sizes.trs[0]]
    ridge_predict(few[0], few[1][:, :20], few[2], ALPHAS, fewest, device)  # warms up
    for n in sizes.voxels[::-1]:
        run = partial(our_ridge, data, splits[sizes.trs[-1]], n, device, 1)
        table.measure("ridge", "ours", n, "voxels/s", run)
    for n in sizes.trs:
        run = partial(our_ridge, first(data, n), splits[n], sizes.voxels[0], device, 1)
        table.measure("ridge, stories", "ours", n, "voxels/s", run)


def ridge_of_others(table: Table, device: str, sizes: Sizes) -> None:
    """The same the published way and by himalaya, which take most of the time."""
    for variant in (PUBLISHED, "himalaya"):
        table.forget("ridge", variant)
        table.forget("ridge, stories", variant)
    data, splits = design(sizes)
    of_all, most = splits[sizes.trs[-1]], sizes.voxels[-1]
    measured = published_ridge(data, of_all, sizes)
    for n in sizes.voxels:
        table.measure("ridge", PUBLISHED, n, "voxels/s", partial(published_rate, measured, n))
    for n in sizes.trs:
        of_rows = published_ridge(first(data, n), splits[n], sizes) if n < len(data[0]) else measured
        table.measure("ridge, stories", PUBLISHED, n, "voxels/s", partial(published_rate, of_rows, sizes.voxels[0]))
    if find_spec("himalaya"):
        run = partial(himalaya_ridge, data, of_all, most, device)
        table.measure("ridge", "himalaya", most, "voxels/s", run)


def first(data: tuple[np.ndarray, ...], rows: int) -> tuple[np.ndarray, ...]:
    """The data with so many training TRs."""
    x, y, unseen = data
    return x[:rows], y[:rows], unseen


PARTS = {"tuning": tuning, "features": features, "ridge": ridge, "others": ridge_of_others, "compiled": compiled}


def main() -> None:
    """Time the parts asked for and write table, Markdown and plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu", choices=tuple(SIZES))
    parser.add_argument("--parts", nargs="+", default=("tuning", "features", "ridge", "others"), choices=tuple(PARTS))
    parser.add_argument("--out", type=Path, default=measuring.RESULTS, help="folder of the table")
    parser.add_argument("--small", action="store_true", help="sizes at which everything only runs")
    given = parser.parse_args()
    table, sizes = Table(given.out, given.device), SMALL if given.small else SIZES[given.device]
    for part in given.parts:
        PARTS[part](table, given.device, sizes)
    measuring.report(given.out, given.device)


if __name__ == "__main__":
    main()
