"""Checkpoints of a tuning run: everything needed to go on to the same result."""

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from braintuning.errors import InputError
from braintuning.results import atomic_path
from braintuning.tuning.model import Model, trainable_state

Schedule = torch.optim.lr_scheduler.LambdaLR

SHARE_OF_TIME = 0.1
"""Most of the time that goes to checkpoints, where one takes longer than a second to write."""


def saving(path: Path | None) -> Callable[..., None]:
    """A function that writes checkpoints to a path, not so often that much time goes there; nothing without a path.

    It takes model, optimiser, schedule, history and the best epoch's trainable state.
    """
    written, took = -np.inf, 0.0

    def save(
        model: Model,
        optimiser: torch.optim.Optimizer,
        schedule: Schedule,
        history: list[dict],
        best: dict[str, torch.Tensor],
    ) -> None:
        nonlocal written, took
        start = time.monotonic()
        if path is None or (took > 1 and start - written < took / SHARE_OF_TIME):
            return
        state = {
            "model": trainable_state(model),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "history": history,
            "best": best,
        }
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            torch.save(state, file)
        written = time.monotonic()
        took = written - start

    return save


def restore(
    path: Path, model: Model, optimiser: torch.optim.Optimizer, schedule: Schedule
) -> tuple[list[dict], dict[str, torch.Tensor]]:
    """Put model, optimiser and schedule where a checkpoint left them.

    Returns
    -------
    history : list of dict
        Losses of the epochs that are done.
    best : dict of name to tensor
        Trainable state of the best of them.

    Raises
    ------
    InputError
        The checkpoint is of a model with other parameters.
    """
    state = torch.load(path, map_location=next(model.parameters()).device, weights_only=True)
    found, expected = (
        {name: tensor.shape for name, tensor in tensors.items()} for tensors in (state["model"], trainable_state(model))
    )
    if found != expected:
        other = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        raise InputError(
            f"{path}: holds another model's parameters (such as {other[0]}), expected those of {model.encoder.family}"
        )
    model.load_state_dict(state["model"], strict=False)
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])
    return state["history"], state["best"]
