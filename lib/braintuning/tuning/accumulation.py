"""A batch's gradient in pieces that fit into memory, each process taking its share; batches fetched ahead of use."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch.autograd.graph import saved_tensors_hooks

from braintuning.errors import InputError
from braintuning.tuning import processes

WORKSPACE = 1.5
"""Memory in use at a step's peak over what its forward pass keeps for the backward pass."""

Item, Loaded = TypeVar("Item"), TypeVar("Loaded")


def gradient(
    parameters: Sequence[torch.nn.Parameter], loss_of: Callable[[slice], torch.Tensor], n_clips: int, at_once: int
) -> torch.Tensor:
    """Put the gradient of a batch's mean loss into `parameters`, clips taken a few at a time and by all processes.

    The sum of the pieces' losses, each weighted by its share of the clips, is the batch's loss where that is a mean
    over clips, and so is the gradient.

    Parameters
    ----------
    parameters : sequence of Parameter
    loss_of : callable
        Mean loss of a slice of this batch's clips, a scalar.
    n_clips : int
        Clips of the whole batch.
    at_once : int
        Most clips in one forward and backward pass.

    Returns
    -------
    loss : tensor, scalar
        Of the whole batch, left on its device.
    """
    rank, n_processes = processes.rank(), processes.count()
    first, last = n_clips * rank // n_processes, n_clips * (rank + 1) // n_processes
    total = torch.zeros((), device=parameters[0].device)
    for parameter in parameters:
        parameter.grad = None
    for start in range(first, last, at_once):
        piece = slice(start, min(start + at_once, last))
        loss = loss_of(piece) * ((piece.stop - piece.start) / n_clips)
        loss.backward()
        total += loss.detach()
    if n_processes > 1:
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        processes.add_up([total, *(parameter.grad for parameter in parameters)])
    return total


def kept_for_backward(model: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> int:
    """Bytes that a forward pass keeps for the backward pass, parameters not counted."""
    known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        held = loss()
    del held
    return sum(kept.values())


def clips_within(
    model: torch.nn.Module, loss_of: Callable[[slice], torch.Tensor], max_memory: float, batch_size: int
) -> int:
    """How many clips a forward and backward pass takes at most so that a step stays within some memory; an estimate.

    Weights, gradients and the two moments of AdamW are counted as they are. What the forward pass of one clip and of
    two keeps tells what a clip takes, of which `WORKSPACE` times as much is assumed at the peak, from what any number
    takes: under autocast the weights' copies.

    Parameters
    ----------
    model : Module
    loss_of : callable
        Loss of a slice of some batch's clips, at least two where `batch_size` is more than one.
    max_memory : float
        GiB.
    batch_size : int
        More are never asked for.

    Raises
    ------
    InputError
        Not one clip fits.
    """
    fixed = sum(p.nbytes * (4 if p.requires_grad else 1) for p in model.parameters())
    of_one = kept_for_backward(model, lambda: loss_of(slice(0, 1)))
    of_two = kept_for_backward(model, lambda: loss_of(slice(0, 2))) if batch_size > 1 else of_one
    a_clip = of_two - of_one if of_two > of_one else of_one
    fixed += of_one - a_clip
    at_once = int((max_memory * 2**30 - fixed) / (WORKSPACE * a_clip))
    if at_once < 1:
        least = (fixed + WORKSPACE * a_clip) / 2**30
        raise InputError(f"tuning: a step of one clip takes about {least:.2g} GiB, found a limit of {max_memory:g} GiB")
    return min(at_once, batch_size)


def ahead(items: Iterable[Item], load: Callable[[Item], Loaded]) -> Iterator[tuple[Item, Loaded]]:
    """Yield each item with what `load` makes of it, the next one being loaded meanwhile."""
    with _one_thread() as pool:
        waiting = None
        for item in items:
            following = item, pool.submit(load, item)
            if waiting:
                yield waiting[0], waiting[1].result()
            waiting = following
        if waiting:
            yield waiting[0], waiting[1].result()


def _one_thread() -> ThreadPoolExecutor:
    """A thread that works with the same GPU as its maker: torch keeps the current one for each thread."""
    if not torch.cuda.is_initialized():
        return ThreadPoolExecutor(1)
    return ThreadPoolExecutor(1, initializer=torch.cuda.set_device, initargs=(torch.cuda.current_device(),))
