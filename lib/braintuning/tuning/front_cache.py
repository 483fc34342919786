"""The frozen front end's output of every clip, computed once and read in every epoch."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from braintuning.backbone.precision import activation_dtype, autocast
from braintuning.results import require_space
from braintuning.tuning import processes
from braintuning.tuning.accumulation import ahead
from braintuning.tuning.model import Front, TunedModel

log = logging.getLogger(__name__)

SHARE_OF_MEMORY = 0.3
SHARE_OF_GPU = 0.3
CLIPS_AT_ONCE = 16
"""A front end's largest array, of the first convolution, takes up to 130 MB a clip of 10 s."""
Rows = Sequence[tuple[str, int]]
Listen = Callable[[Rows], torch.Tensor]


def cached_fronts(
    model: TunedModel,
    rows: Rows,
    listen: Listen,
    *,
    batch_size: int,
    device: str = "cpu",
    file: Path | None = None,
    spare_memory: bool = True,
) -> Callable[[Rows], Front]:
    """Compute what the front end makes of every clip; give back a function that looks it up.

    Kept in the precision in which models compute. Where they take less than `SHARE_OF_GPU` of a GPU's free memory they
    stay there. Else they stay in memory where they take less than `SHARE_OF_MEMORY` of what is available, divided by
    the processes that tune together, or go to `file`; the size is reported first.

    Parameters
    ----------
    model : TunedModel
    rows : sequence of (story, row)
        Every clip.
    listen : callable
        From rows to their sound, (clips, samples) float32 on `device`; called from another thread.
    batch_size : int
        Clips at a time; no more than `CLIPS_AT_ONCE` are taken.
    device : str
    file : Path, optional
        For what does not fit into memory; without it all stays there.
    spare_memory : bool
        Whether some of a GPU's memory may go to it.

    Returns
    -------
    fronts : callable
        From rows to a `Front` on `device`.

    Raises
    ------
    InputError
        No room for the file.
    """
    place = {row: number for number, row in enumerate(rows)}
    dtype = activation_dtype(device)
    with torch.no_grad(), autocast(device):
        hidden, n_frames = model.front(listen(rows[:1]))
        shape = (len(rows), *hidden.shape[1:])
        n_bytes = int(np.prod(shape)) * dtype.itemsize
        on_device = spare_memory and device != "cpu" and n_bytes < SHARE_OF_GPU * torch.cuda.mem_get_info()[0]
        on_disk = (
            not on_device and file is not None and n_bytes > SHARE_OF_MEMORY * available_memory() / processes.count()
        )
        where = "on the device" if on_device else "on disk" if on_disk else "in memory"
        log.info(f"front end of {len(rows)} clips: {n_bytes / 2**30:.2f} GiB {where}")
        home = device if on_device else "cpu"
        kept = _on_disk(file, shape, dtype, n_bytes) if on_disk else torch.empty(shape, dtype=dtype, device=home)
        at_once, start = min(batch_size, CLIPS_AT_ONCE), 0
        for chosen, sound in ahead([rows[i : i + at_once] for i in range(0, len(rows), at_once)], listen):
            kept[start : start + len(chosen)] = model.front(sound).hidden.to(home, dtype)
            start += len(chosen)

    def fronts(wanted: Rows) -> Front:
        places = torch.tensor([place[row] for row in wanted])
        if on_device:
            return Front(kept[to_device(places, device)], n_frames)
        if device == "cpu":
            return Front(kept[places], n_frames)
        pinned = torch.empty((len(places), *shape[1:]), dtype=dtype, pin_memory=True)
        return Front(torch.index_select(kept, 0, places, out=pinned).to(device, non_blocking=True), n_frames)

    return fronts


def available_memory() -> float:
    """Bytes that a new process could take without swapping; where the system does not say, infinity."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return float("inf")
    return next((1024.0 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), float("inf"))


def to_device(tensor: torch.Tensor, device: str) -> torch.Tensor:
    """The tensor on a device, copied there through pinned memory so that nobody waits for it."""
    if device == "cpu" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _on_disk(file: Path, shape: tuple[int, ...], dtype: torch.dtype, n_bytes: int) -> torch.Tensor:
    require_space(file.parent, n_bytes)
    return torch.from_file(str(file), shared=True, size=int(np.prod(shape)), dtype=dtype).view(shape)
