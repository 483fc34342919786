"""Brain-tuning: a speech encoder and a linear head learn to predict the volume from the sound before it."""

import copy
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from braintuning import timing
from braintuning.backbones import SpeechEncoder
from braintuning.errors import InputError
from braintuning.files import atomic_path
from braintuning.front_cache import cached_fronts
from braintuning.seeding import generator
from braintuning.settings import Tuning
from braintuning.tuned_model import Front, Model, SelfTunedModel, StoryTargets, TunedModel, trainable_state


def learning_rate_factor(step: int, n_steps: int, warmup_fraction: float) -> float:
    """Linear warm-up to 1 over the first share of the steps, then linear decay to 0 at `n_steps`."""
    warmup = round(warmup_fraction * n_steps)
    if step < warmup:
        return (step + 1) / warmup
    return max(n_steps - step, 0) / max(n_steps - warmup, 1)


Rows = list[tuple[str, int]]
Hear = Callable[[Rows], torch.Tensor | Front]


def _listen(stories: Mapping[str, StoryTargets], seconds: float, device: str) -> Callable[[Rows], torch.Tensor]:
    """A function from rows to their clips, (clips, samples)."""

    def listen(rows: Rows) -> torch.Tensor:
        clips = [timing.windows(stories[s].audio, stories[s].times[[row]], seconds) for s, row in rows]
        return torch.from_numpy(np.concatenate(clips)).to(device)

    return listen


def _hearing(
    model: Model,
    stories: Mapping[str, StoryTargets],
    settings: Tuning,
    device: str,
    file: Path | None,
    report: Callable[[str], None],
) -> Hear:
    """A function from rows to what a model takes: their clips, or where it learns targets, what its front end kept."""
    listen = _listen(stories, settings.clip_seconds, device)
    if isinstance(model, SelfTunedModel):
        return listen
    return cached_fronts(
        model, _rows(stories), listen, batch_size=settings.batch_size, device=device, file=file, report=report
    )


def _targets(stories: Mapping[str, StoryTargets], rows: Rows, device: str) -> list[torch.Tensor | None]:
    """Targets of rows, participant by participant, (clips, targets); one None without any."""
    n_participants = len(stories[rows[0][0]].of_each)
    targets = [np.stack([stories[story].of_each[p][row] for story, row in rows]) for p in range(n_participants)]
    return [torch.from_numpy(t).to(device) for t in targets] or [None]


def _rows(stories: Mapping[str, StoryTargets]) -> Rows:
    return [(name, row) for name, story in stories.items() for row in range(len(story.times))]


@contextmanager
def _seeded(settings: Tuning, device: str, *labels: str | int) -> Iterator[None]:
    """Draws of torch (dropout of adapters, masks) come from a seed of their own and leave others' alone."""
    with torch.random.fork_rng(devices=[torch.device(device)] if device == "cuda" else []):
        torch.manual_seed(int(generator(settings.seed, *labels).integers(2**62)))
        yield


def _mean_loss(model: Model, stories: Mapping[str, StoryTargets], hear: Hear, settings: Tuning, device: str) -> float:
    rows, total = _rows(stories), 0.0
    model.eval()
    with torch.no_grad(), _precision(device), _seeded(settings, device, "validation"):
        for start in range(0, len(rows), settings.batch_size):
            batch = rows[start : start + settings.batch_size]
            heard = hear(batch)
            loss = torch.stack([model.loss(heard, target) for target in _targets(stories, batch, device)]).mean()
            _require_finite(loss, batch, "validation")
            total += loss.item() * len(batch)
    return total / len(rows)


def _require_finite(loss: torch.Tensor, batch: Rows, where: str) -> None:
    if not torch.isfinite(loss):
        names = ", ".join(sorted({story for story, _ in batch}))
        raise InputError(f"tuning: loss {loss.item()} at {where} ({names}), expected a finite number")


def _precision(device: str) -> torch.autocast:
    return torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda")


def _optimiser(
    model: Model, settings: Tuning, n_steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    trunk = model.encoder.trainable_parameters()
    known = {id(p) for p in trunk}
    groups = [
        {"params": trunk, "lr": settings.trunk_learning_rate},
        {
            "params": [p for p in model.parameters() if p.requires_grad and id(p) not in known],
            "lr": settings.head_learning_rate,
        },
    ]
    optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: learning_rate_factor(step, n_steps, settings.warmup_fraction)
    )
    return optimiser, schedule


def _train_epoch(
    model: Model,
    stories: Mapping[str, StoryTargets],
    hear: Hear,
    settings: Tuning,
    epoch: int,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    device: str,
) -> float:
    """One pass over the clips in random order; a step for each batch and, one after the other, each participant."""
    rows = _rows(stories)
    order = generator(settings.seed, "epoch", epoch).permutation(len(rows))
    losses = []
    model.train()
    with _seeded(settings, device, "draws", epoch):
        for start in range(0, len(rows), settings.batch_size):
            batch = [rows[i] for i in order[start : start + settings.batch_size]]
            heard = hear(batch)
            for target in _targets(stories, batch, device):
                with _precision(device):
                    loss = model.loss(heard, target)
                _require_finite(loss, batch, f"epoch {epoch + 1}, step {len(losses) + 1}")
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                schedule.step()
                losses.append(loss.item())
    return float(np.mean(losses))


def _check(train: Mapping[str, StoryTargets], validation: Mapping[str, StoryTargets]) -> tuple[int, int]:
    """Number of participants and of targets, the same in every story."""
    if not train or not validation:
        raise InputError("tuning: found no training or no validation story, expected at least one of each")
    of_each = next(iter(train.values())).of_each
    n_participants, n_targets = len(of_each), of_each[0].shape[1] if of_each else 0
    for name, story in {**train, **validation}.items():
        if len(story.of_each) != n_participants:
            raise InputError(f"story {name}: found {len(story.of_each)} participants, expected {n_participants}")
        for targets in story.of_each:
            if len(story.times) != len(targets):
                raise InputError(f"story {name}: found {len(targets)} rows of targets, expected {len(story.times)}")
            if targets.shape[1] != n_targets:
                raise InputError(f"story {name}: found {targets.shape[1]} voxels, expected {n_targets}")
    return n_participants, n_targets


def tune(
    encoder: SpeechEncoder,
    train: Mapping[str, StoryTargets],
    validation: Mapping[str, StoryTargets],
    settings: Tuning,
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    report: Callable[[str], None] = print,
    objective: torch.nn.Module | None = None,
    scratch: Path | None = None,
) -> tuple[Model, list[dict]]:
    """Tune an encoder until the validation loss stops falling; return it as it was when that loss was lowest.

    Two learning rates, linear decay after a warm-up, no dropout (Moussa, Klakow & Toneva 2025). With targets of several
    participants each batch makes one step for each of them (their NeurIPS 2025 paper); with `settings.lora_rank` only
    adapters and head move. With a `checkpoint` path, everything needed to go on is written there after each epoch, and
    a run that finds one goes on from it to the same result.

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
    objective : Module, optional
        Its `loss(audio)` is minimised instead of a distance from targets; see `self_supervised`.
    scratch : Path, optional
        Folder for what the front end makes of the clips where that does not fit into memory; see `front_cache`.

    Returns
    -------
    model : TunedModel, or SelfTunedModel with an `objective`
    history : list of dict
        epoch, train_loss, validation_loss.

    Raises
    ------
    InputError
        No stories, rows that do not match, or a loss that is not finite.
    """
    n_participants, n_targets = _check(train, validation)
    if settings.lora_rank:
        encoder.lora(settings.lora_rank, settings.lora_alpha, settings.lora_dropout, settings.seed)
    model = SelfTunedModel(encoder, objective) if objective else TunedModel(encoder, n_targets, settings.loss)
    model.to(device)
    n_steps = settings.epochs * max(n_participants, 1) * -(-len(_rows(train)) // settings.batch_size)
    optimiser, schedule = _optimiser(model, settings, n_steps)
    history: list[dict] = []
    best = copy.deepcopy(trainable_state(model))
    if checkpoint and checkpoint.is_file():
        state = torch.load(checkpoint, map_location=device, weights_only=True)
        if state["model"].keys() != trainable_state(model).keys():
            raise InputError(f"{checkpoint}: holds another model's parameters, expected those of {encoder.family}")
        model.load_state_dict(state["model"], strict=False)
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        history, best = state["history"], state["best"]
        report(f"resumed after epoch {len(history)}")
    hear = {
        name: _hearing(model, stories, settings, device, scratch and scratch / f"{name}.bin", report)
        for name, stories in (("train", train), ("validation", validation))
        if _goes_on(history, settings)
    }
    while _goes_on(history, settings):
        epoch = len(history)
        train_loss = _train_epoch(model, train, hear["train"], settings, epoch, optimiser, schedule, device)
        losses = {
            "train_loss": train_loss,
            "validation_loss": _mean_loss(model, validation, hear["validation"], settings, device),
        }
        if losses["validation_loss"] < min((h["validation_loss"] for h in history), default=np.inf):
            best = copy.deepcopy(trainable_state(model))
        history.append({"epoch": epoch + 1, **losses})
        report(json.dumps(history[-1]))
        if checkpoint:
            _save(checkpoint, model, optimiser, schedule, history, best)
    model.load_state_dict(best, strict=False)
    return model.eval(), history


def _goes_on(history: list[dict], settings: Tuning) -> bool:
    """Whether there are epochs left, and one of the last `patience` lowered the validation loss."""
    losses, patience = [h["validation_loss"] for h in history], settings.patience
    saturated = len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])
    return len(losses) < settings.epochs and not saturated


def _save(
    path: Path,
    model: Model,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LambdaLR,
    history: list[dict],
    best: dict[str, torch.Tensor],
) -> None:
    state = {
        "model": trainable_state(model),
        "optimiser": optimiser.state_dict(),
        "schedule": schedule.state_dict(),
        "history": history,
        "best": best,
    }
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save(state, file)
