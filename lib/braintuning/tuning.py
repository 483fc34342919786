"""Brain-tuning: a speech encoder and a linear head learn to predict the volume from the sound before it."""

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from braintuning import timing
from braintuning.backbones import SpeechEncoder
from braintuning.errors import InputError
from braintuning.files import atomic_path
from braintuning.seeding import generator
from braintuning.settings import Tuning


@dataclass(frozen=True)
class StoryTargets:
    """One story to learn from.

    Attributes
    ----------
    audio : (samples,) float32
        Mono, 16 kHz.
    times : (rows,) float
        Seconds after the sound's start at which each row was acquired.
    targets : (rows, voxels) float32
        What the head has to predict.
    """

    audio: np.ndarray
    times: np.ndarray
    targets: np.ndarray


class TunedModel(torch.nn.Module):
    """An encoder whose last layer, averaged over a clip's frames, is mapped linearly to the voxels.

    The head starts at zero, predicting the mean, so that the trunk is moved by the responses and not by a random head.
    """

    def __init__(self, encoder: SpeechEncoder, n_voxels: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = torch.nn.Linear(encoder.dim, n_voxels)
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Predict volumes from clips: (clips, samples) float32 to (clips, voxels) float32."""
        return self.head(self.encoder(audio, layers=[-1])[-1].mean(dim=1)).float()

    def trainable_state(self) -> dict[str, torch.Tensor]:
        """Parameters that tuning moves, by name."""
        return {name: p.detach() for name, p in self.named_parameters() if p.requires_grad}


def learning_rate_factor(step: int, n_steps: int, warmup_fraction: float) -> float:
    """Linear warm-up to 1 over the first share of the steps, then linear decay to 0 at `n_steps`."""
    warmup = round(warmup_fraction * n_steps)
    if step < warmup:
        return (step + 1) / warmup
    return max(n_steps - step, 0) / max(n_steps - warmup, 1)


def _batch(
    stories: Mapping[str, StoryTargets], rows: list[tuple[str, int]], seconds: float, device: str
) -> tuple[torch.Tensor, torch.Tensor]:
    audio = np.concatenate([timing.windows(stories[s].audio, stories[s].times[[row]], seconds) for s, row in rows])
    targets = np.stack([stories[story].targets[row] for story, row in rows])
    return torch.from_numpy(audio).to(device), torch.from_numpy(targets).to(device)


def _rows(stories: Mapping[str, StoryTargets]) -> list[tuple[str, int]]:
    return [(name, row) for name, story in stories.items() for row in range(len(story.targets))]


def _mean_loss(model: TunedModel, stories: Mapping[str, StoryTargets], settings: Tuning, device: str) -> float:
    rows, total = _rows(stories), 0.0
    with torch.no_grad(), _precision(device):
        for start in range(0, len(rows), settings.batch_size):
            batch = rows[start : start + settings.batch_size]
            audio, targets = _batch(stories, batch, settings.clip_seconds, device)
            loss = torch.nn.functional.mse_loss(model(audio), targets)
            _require_finite(loss, batch, "validation")
            total += loss.item() * len(batch)
    return total / len(rows)


def _require_finite(loss: torch.Tensor, batch: list[tuple[str, int]], where: str) -> None:
    if not torch.isfinite(loss):
        names = ", ".join(sorted({story for story, _ in batch}))
        raise InputError(f"tuning: loss {loss.item()} at {where} ({names}), expected a finite number")


def _precision(device: str) -> torch.autocast:
    return torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda")


def _optimiser(
    model: TunedModel, settings: Tuning, n_steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    trunk = [p for p in model.encoder.parameters() if p.requires_grad]
    groups = [
        {"params": trunk, "lr": settings.trunk_learning_rate},
        {"params": model.head.parameters(), "lr": settings.head_learning_rate},
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: learning_rate_factor(step, n_steps, settings.warmup_fraction)
    )
    return optimiser, schedule


def _train_epoch(
    model: TunedModel,
    stories: Mapping[str, StoryTargets],
    settings: Tuning,
    epoch: int,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    device: str,
) -> float:
    rows = _rows(stories)
    order = generator(settings.seed, "epoch", epoch).permutation(len(rows))
    losses = []
    for start in range(0, len(rows), settings.batch_size):
        batch = [rows[i] for i in order[start : start + settings.batch_size]]
        audio, targets = _batch(stories, batch, settings.clip_seconds, device)
        with _precision(device):
            predicted = model(audio)
        loss = torch.nn.functional.mse_loss(predicted, targets)
        _require_finite(loss, batch, f"epoch {epoch + 1}, step {len(losses) + 1}")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def _check(train: Mapping[str, StoryTargets], validation: Mapping[str, StoryTargets]) -> int:
    if not train or not validation:
        raise InputError("tuning: found no training or no validation story, expected at least one of each")
    n_voxels = next(iter(train.values())).targets.shape[1]
    for name, story in {**train, **validation}.items():
        if len(story.times) != len(story.targets):
            raise InputError(f"story {name}: found {len(story.targets)} rows of targets, expected {len(story.times)}")
        if story.targets.shape[1] != n_voxels:
            raise InputError(f"story {name}: found {story.targets.shape[1]} voxels, expected {n_voxels}")
    return n_voxels


def tune(
    encoder: SpeechEncoder,
    train: Mapping[str, StoryTargets],
    validation: Mapping[str, StoryTargets],
    settings: Tuning,
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    report: Callable[[str], None] = print,
) -> tuple[TunedModel, list[dict]]:
    """Tune an encoder until the validation loss stops falling; return it as it was when that loss was lowest.

    Mean squared error, two learning rates, linear decay after a warm-up, no dropout (Moussa, Klakow & Toneva 2025).
    With a `checkpoint` path, everything needed to go on is written there after each epoch, and a run that finds one
    goes on from it to the same result.

    Parameters
    ----------
    encoder : SpeechEncoder
        Changed in place.
    train, validation : mapping of story name to StoryTargets
    settings : Tuning
    device : str
        `cpu` (float32) or `cuda` (bfloat16 with float32 weights).
    checkpoint : Path, optional
    report : callable
        Receives one line an epoch.

    Returns
    -------
    model : TunedModel
    history : list of dict
        epoch, train_loss, validation_loss.

    Raises
    ------
    InputError
        No stories, rows that do not match, or a loss that is not finite.
    """
    n_voxels = _check(train, validation)
    model = TunedModel(encoder, n_voxels).to(device)
    n_steps = settings.epochs * -(-len(_rows(train)) // settings.batch_size)
    optimiser, schedule = _optimiser(model, settings, n_steps)
    history: list[dict] = []
    best = copy.deepcopy(model.trainable_state())
    if checkpoint and checkpoint.is_file():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        if state["model"].keys() != model.trainable_state().keys():
            raise InputError(f"{checkpoint}: holds another model's parameters, expected those of {encoder.family}")
        model.load_state_dict(state["model"], strict=False)
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        history, best = state["history"], state["best"]
        report(f"resumed after epoch {len(history)}")
    while len(history) < settings.epochs and not _saturated(history, settings.patience):
        epoch = len(history)
        train_loss = _train_epoch(model, train, settings, epoch, optimiser, schedule, device)
        losses = {"train_loss": train_loss, "validation_loss": _mean_loss(model, validation, settings, device)}
        if losses["validation_loss"] < min((h["validation_loss"] for h in history), default=np.inf):
            best = copy.deepcopy(model.trainable_state())
        history.append({"epoch": epoch + 1, **losses})
        report(json.dumps(history[-1]))
        if checkpoint:
            _save(checkpoint, model, optimiser, schedule, history, best)
    model.load_state_dict(best, strict=False)
    return model, history


def _saturated(history: list[dict], patience: int) -> bool:
    losses = [h["validation_loss"] for h in history]
    return len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])


def _save(
    path: Path,
    model: TunedModel,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    history: list[dict],
    best: dict[str, torch.Tensor],
) -> None:
    state = {
        "model": model.trainable_state(),
        "optimiser": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
        "history": history,
        "best": best,
    }
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save(state, file)
