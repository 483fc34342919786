"""Checkpoints of the loop: after a kill it goes on to the same model."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch

from braintuning.errors import InputError
from braintuning.results import atomic_path
from braintuning.tuning.model import Model, Optimiser, Schedule, State, trainable_state

SHARE_OF_TIME = 0.1
"""Largest share of the time that is spent on writing checkpoints, where one takes longer than a second."""


def saving(path: Path | None) -> Callable[..., None]:
    """A function that writes checkpoints to a path, not so often that much time goes there; nothing without a path.

    A checkpoint is one file, there whole or not at all: accelerate's is a folder of several, pickles among them.
    """
    written, took = -math.inf, 0.0

    def save(model: Model, optimiser: Optimiser, schedule: Schedule, history: list[dict], best: State) -> None:
        nonlocal written, took
        start = time.monotonic()
        if not path or (took > 1 and start - written < took / SHARE_OF_TIME):
            return
        state = {"optimiser": optimiser.state_dict(), "schedule": schedule.state_dict()}
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            torch.save({**state, "model": trainable_state(model), "history": history, "best": best}, file)
        written = time.monotonic()
        took = written - start

    return save


def restore(path: Path, model: Model, optimiser: Optimiser, schedule: Schedule) -> tuple[list[dict], State]:
    """Put model, optimiser and schedule where a checkpoint left them; give back history and best state."""
    state = torch.load(path, map_location=next(model.parameters()).device, weights_only=True)
    found = {name: tensor.shape for name, tensor in state["model"].items()}
    expected = {name: tensor.shape for name, tensor in trainable_state(model).items()}
    if found != expected:
        other = min(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
        family = model.encoder.family
        raise InputError(f"{path}: holds another model's parameters (such as {other}), expected those of {family}")
    model.load_state_dict(state["model"], strict=False)
    optimiser.load_state_dict(state["optimiser"])
    schedule.load_state_dict(state["schedule"])
    return state["history"], state["best"]
