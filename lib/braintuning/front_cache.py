"""The frozen front end's output of every clip, computed once and read in every epoch."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from braintuning.files import require_space
from braintuning.precision import activation_dtype, autocast
from braintuning.tuned_model import Front, TunedModel

MOST_IN_MEMORY = 4 << 30
SHARE_OF_GPU = 0.3
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
    report: Callable[[str], None] = print,
    spare_memory: bool = True,
) -> Callable[[Rows], Front]:
    """Compute what the front end makes of every clip; give back a function that looks it up.

    Kept in the precision in which models compute.
    Where they take less than `SHARE_OF_GPU` of a GPU's free memory they stay there. Else up to `MOST_IN_MEMORY` bytes
    stay in memory, more go to `file`; the size is reported first.

    Parameters
    ----------
    model : TunedModel
    rows : sequence of (story, row)
        Every clip.
    listen : callable
        From rows to their sound, (clips, samples) float32 on `device`.
    batch_size : int
    device : str
    file : Path, optional
        For what does not fit into memory; without it all stays there.
    report : callable
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
        on_disk = not on_device and file is not None and n_bytes > MOST_IN_MEMORY
        where = "on the device" if on_device else "on disk" if on_disk else "in memory"
        report(f"front end of {len(rows)} clips: {n_bytes / 2**30:.2f} GiB {where}")
        home = device if on_device else "cpu"
        kept = _on_disk(file, shape, dtype, n_bytes) if on_disk else torch.empty(shape, dtype=dtype, device=home)
        for start in range(0, len(rows), batch_size):
            chosen = rows[start : start + batch_size]
            kept[start : start + len(chosen)] = model.front(listen(chosen)).hidden.to(home, dtype)

    def fronts(wanted: Rows) -> Front:
        return Front(to_device(kept[[place[row] for row in wanted]], device), n_frames)

    return fronts


def to_device(tensor: torch.Tensor, device: str) -> torch.Tensor:
    """The tensor on a device, copied there through pinned memory so that nobody waits for it."""
    if device == "cpu" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def _on_disk(file: Path, shape: tuple[int, ...], dtype: torch.dtype, n_bytes: int) -> torch.Tensor:
    require_space(file.parent, n_bytes)
    return torch.from_file(str(file), shared=True, size=int(np.prod(shape)), dtype=dtype).view(shape)
