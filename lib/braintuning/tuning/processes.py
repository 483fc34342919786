"""Several processes that tune one model together, as `torchrun` starts them; one process where it does not."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed


def rank() -> int:
    """Number of this process, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def count() -> int:
    """Processes that tune together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


@contextmanager
def together(device: str) -> Iterator[None]:
    """Join the processes that `torchrun` started, each on a GPU of its own where they are on GPUs."""
    if "WORLD_SIZE" not in os.environ:
        yield
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if device == "cuda" else "gloo")
    if rank() > 0:
        logging.getLogger("braintuning").setLevel(logging.WARNING)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def wait_for_all() -> None:
    """Return once every process has come here."""
    if distributed.is_initialized():
        distributed.barrier()


@contextmanager
def first_one_first() -> Iterator[None]:
    """Let process 0 do something, then the others: they find what it left on disk."""
    if rank() > 0:
        wait_for_all()
    yield
    if rank() == 0:
        wait_for_all()


def add_up(tensors: list[torch.Tensor]) -> None:
    """Replace each tensor by its sum over all processes; those of one dtype travel as one."""
    if count() == 1:
        return
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        alike = [tensor for tensor in tensors if tensor.dtype == dtype]
        together = torch.cat([tensor.reshape(-1) for tensor in alike])
        distributed.all_reduce(together)
        for tensor, total in zip(alike, together.split([tensor.numel() for tensor in alike]), strict=True):
            tensor.copy_(total.view_as(tensor))
