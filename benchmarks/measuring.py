"""What the timings share: how they are taken, the arithmetic behind them, and the table, its Markdown and its plot."""

import csv
import gc
import resource
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import torch
from braintuning.backbone.precision import precision
from braintuning.results import atomic_path

if TYPE_CHECKING:
    from transformers import Wav2Vec2Config

mpl.use("Agg")
import matplotlib.pyplot as plt

FLOOR = """The floor of a step is the time of its matrix products and convolutions at the rate that this machine reaches
in one large product of random numbers in the same precision (ridge: float32). They are counted by hand for our way of
doing the step: blocks, feature projection and head, three times in tuning; for features the front end once and the last
block at the tokens alone; for ridge what follows the decompositions. Fourier transforms and all that is elementwise
count nothing."""
RESULTS = Path(__file__).parent / "results"
COLUMNS = ("part", "variant", "size", "unit", "per_second", "over_published", "peak_gib", "share_of_floor", "note")
GROWS = {
    "tuning": "clips in a batch",
    "tuning, voxels": "voxels",
    "features": "windows in a batch",
    "features, models": "models in a sweep",
    "features, context": "seconds of a window",
    "ridge": "voxels",
    "ridge, stories": "training TRs",
}
PUBLISHED = "published"
DRAWN = {PUBLISHED: "#0072b2", "ours": "#d55e00"}
"""Variants drawn as they grow, and their colours."""
LARGEST = {"cuda": 8192, "cpu": 1024}
"""Rows of the square matrices whose product tells the machine's rate."""


def save_page(path: Path, about: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a sentence and a table as Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    with atomic_path(path) as temporary:
        temporary.write_text(f"{about}\n\n" + "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n")


class Table:
    """Rows of a table of timings, each written as soon as it is measured; rows of a part that is begun anew go."""

    def __init__(self, folder: Path, device: str) -> None:
        self.path, self.device = Path(folder) / f"{device}.csv", device
        self.rows = read(self.path)

    def begin(self, *parts: str) -> None:
        """Forget earlier rows of some parts."""
        self.rows = [row for row in self.rows if row["part"] not in parts]

    def forget(self, part: str, variant: str) -> None:
        """Forget earlier rows of a variant."""
        self.rows = [row for row in self.rows if (row["part"], row["variant"]) != (part, variant)]

    def add(self, part: str, variant: str, size: float, unit: str, **found: float | str) -> None:
        """Add a row; `found` are other columns of `COLUMNS`, those that are not known left out."""
        row = {"part": part, "variant": variant, "size": size, "unit": unit}
        row |= {name: f"{value:.4g}" if isinstance(value, float) else value for name, value in found.items()}
        self.rows.append(dict.fromkeys((*COLUMNS, "device"), "") | row | {"device": machine(self.device)})
        self._compare()
        with atomic_path(self.path) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, (*COLUMNS, "device"))
            writer.writeheader()
            writer.writerows(self.rows)
        print(", ".join(str(value) for value in self.rows[-1].values() if value != ""), flush=True)

    def measure(self, part: str, variant: str, size: float, unit: str, run: Callable[[], dict]) -> None:
        """Add the row of what `run` finds, or of why it failed: no other row is lost for it."""
        try:
            found = run()
        except Exception as error:  # whatever goes wrong on a machine that nobody has seen
            found = {"note": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:200]}
        gc.collect()
        if self.device == "cuda":
            torch.cuda.empty_cache()
        self.add(part, variant, size, unit, **found)

    def _compare(self) -> None:
        """Say of every row how often as fast it is as the published way of the same part and size."""
        rates = {(row["part"], float(row["size"])): row["per_second"] for row in self.rows if _is_published(row)}
        for row in self.rows:
            published = rates.get((row["part"], float(row["size"])))
            if published and row["per_second"]:
                row["over_published"] = f"{float(row['per_second']) / float(published):.3g}"


def _is_published(row: dict[str, str]) -> bool:
    return row["variant"] == PUBLISHED


def read(path: Path) -> list[dict[str, str]]:
    """Rows of a table that was begun before; none where there is no file with these columns."""
    if not path.is_file():
        return []
    with open(path, newline="") as file:
        reader = csv.DictReader(file)
        return list(reader) if reader.fieldnames == [*COLUMNS, "device"] else []


def timed(run: Callable[[], object], device: str, repeats: int, warm_up: int = 1) -> tuple[float, float]:
    """Median seconds of repeats after some that warm up, and GiB in use at most."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    else:
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    seconds = []
    for _ in range(repeats + warm_up):
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return median(seconds[warm_up:]), (torch.cuda.max_memory_allocated() if device == "cuda" else peak()) / 2**30


def peak() -> int:
    """Bytes of memory that this process has held at most, on Linux since the peak was last forgotten."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else ()
    found = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return 1024 * (found[0] if found else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def block_flops(config: "Wav2Vec2Config", frames: int, asked: int) -> float:
    """Arithmetic of a transformer block that sees so many frames and gives so many of them back."""
    dim, inner = config.hidden_size, config.intermediate_size
    return 4 * frames * dim**2 + asked * (4 * dim**2 + 4 * dim * inner + 4 * frames * dim)


def trunk_flops(config: "Wav2Vec2Config", frames: int, asked: int) -> float:
    """Arithmetic of all blocks and the feature projection where so many frames of the last one are asked for."""
    whole = (config.num_hidden_layers - 1) * block_flops(config, frames, frames)
    return whole + block_flops(config, frames, asked) + 2 * frames * config.conv_dim[-1] * config.hidden_size


def front_flops(config: "Wav2Vec2Config", samples: int) -> float:
    """Arithmetic of the front end's convolutions."""
    total, length, channels = 0.0, samples, 1
    for out, kernel, stride in zip(config.conv_dim, config.conv_kernel, config.conv_stride, strict=True):
        length = (length - kernel) // stride + 1
        total, channels = total + 2 * length * channels * kernel * out, out
    return total


_rates: dict[tuple[str, torch.dtype], float] = {}


def rate(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations a second that one large matrix product of random numbers reaches."""
    if (device, dtype) not in _rates:
        n = LARGEST[device]
        a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
        _rates[device, dtype] = 2 * n**3 / timed(lambda: a @ b, device, 10, 3)[0]
    return _rates[device, dtype]


def machine(device: str) -> str:
    """The device by name, with the precision that models compute in, and torch's version."""
    cpu = f"{torch.get_num_threads()} CPU threads, {torch.cpu.get_capabilities().get('cpu_name', 'unknown')}"
    name = torch.cuda.get_device_name() if device == "cuda" else cpu
    return f"{name}; {precision(device)}; PyTorch {torch.__version__}"


def report(folder: Path, device: str) -> None:
    """Write the Markdown and the plot of a table."""
    rows = read(Path(folder) / f"{device}.csv")
    about = "; ".join(sorted({row["device"] for row in rows})) + "\n\n" + FLOOR.replace("\n", " ")
    save_page(Path(folder) / f"{device}.md", about, COLUMNS, ([row[name] for name in COLUMNS] for row in rows))
    draw(rows, Path(folder) / f"{device}.png")


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Time of a unit of work against what grows, a panel a part; and how often as fast every variant is."""
    rows = [row for row in rows if row["per_second"]]
    growing = [part for part in GROWS if len({row["size"] for row in rows if row["part"] == part}) > 1]
    fig, axes = plt.subplots(2, 4, figsize=(12, 6), layout="constrained")
    for ax, part in zip(axes.ravel(), growing, strict=False):
        of_part = [row for row in rows if row["part"] == part]
        for variant, colour in DRAWN.items():
            places = sorted(
                (float(r["size"]), 1e3 / float(r["per_second"])) for r in of_part if r["variant"] == variant
            )
            if len(places) > 1:
                ax.plot(*zip(*places, strict=True), "-o", ms=3, color=colour, label=variant)
        ax.set(title=part, xlabel=GROWS[part], ylabel=f"milliseconds a {of_part[0]['unit'].removesuffix('s/s')}")
        ax.set(xlim=(0, None), ylim=(0, None))
        ax.legend(fontsize=6)
    for ax in axes.ravel()[len(growing) :]:
        ax.axis("off")
    by_size = sorted(rows, key=lambda row: float(row["size"]))
    best = {(row["part"], row["variant"]): float(row["over_published"]) for row in by_size if row["over_published"]}
    best = {name: times for name, times in sorted(best.items(), key=lambda item: item[1]) if name[1] != PUBLISHED}
    if best:
        last = axes.ravel()[-1]
        last.axis("on")
        last.barh([": ".join(name) for name in best], list(best.values()), color=DRAWN["ours"])
        last.axvline(1, color="black", lw=0.8)
        last.tick_params(axis="y", labelsize=5)
        last.set(xlabel="times the published way", xscale="log")
    with atomic_path(path) as temporary:
        fig.savefig(temporary, dpi=150, format="png")
    plt.close(fig)


if __name__ == "__main__":
    report(Path(sys.argv[1]), sys.argv[2])
