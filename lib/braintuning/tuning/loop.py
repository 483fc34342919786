"""Brain-tuning: a speech encoder and a linear head learn to predict the volume from the sound before it."""

import copy
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.precision import autocast
from braintuning.errors import InputError
from braintuning.results import generator
from braintuning.study.settings import Tuning
from braintuning.tuning import processes
from braintuning.tuning.accumulation import ahead, clips_within, gradient
from braintuning.tuning.batches import Hear, Rows, hearing, rows_of, targets_of
from braintuning.tuning.checkpoints import restore, saving
from braintuning.tuning.losses import OVER_THE_BATCH
from braintuning.tuning.model import Front, Model, SelfTunedModel, StoryTargets, TunedModel, trainable_state

log = logging.getLogger(__name__)


def learning_rate_factor(step: int, n_steps: int, warmup_fraction: float) -> float:
    """Linear warm-up to 1 over the first share of the steps, then linear decay to 0 at `n_steps`."""
    warmup = round(warmup_fraction * n_steps)
    if step < warmup:
        return (step + 1) / warmup
    return max(n_steps - step, 0) / max(n_steps - warmup, 1)


STEPS_BETWEEN_CHECKS = {"cpu": 1, "cuda": 50}
"""A GPU is waited for, to see whether losses are finite, only once in so many steps."""

SHARE_OF_FREE_MEMORY = 0.9
"""Of a GPU's free memory, what a step may take where nobody says."""


@contextmanager
def _seeded(settings: Tuning, device: str, *labels: str | int) -> Iterator[None]:
    """Draws of torch (dropout of adapters, masks) come from a seed of their own and leave others' alone."""
    with torch.random.fork_rng(devices=[torch.device(device)] if device == "cuda" else []):
        torch.manual_seed(int(generator(settings.seed, *labels).integers(2**62)))
        yield


LossOf = Callable[[slice], torch.Tensor]
"""From a slice of a batch's clips to their mean loss."""


def _mean_loss(
    model: Model, stories: Mapping[str, StoryTargets], hear: Hear, settings: Tuning, epoch: int, device: str
) -> float:
    rows, total = rows_of(stories), 0.0
    model.eval()
    with torch.no_grad(), _seeded(settings, device, "validation"):
        for start in range(0, len(rows), settings.batch_size):
            batch = rows[start : start + settings.batch_size]
            heard, targets = hear(batch), targets_of(stories, batch, device)
            losses = [loss_of_clips(model, heard, target, device) for target in targets]
            found = [(loss_of(slice(None)), batch, loss_of) for loss_of in losses]
            where = f"epoch {epoch + 1}, validation batch {start // settings.batch_size + 1}, participant"
            total += float(np.mean(_finite(found, where, 1))) * len(batch)
    return total / len(rows)


def _finite(losses: list[tuple[torch.Tensor, Rows, LossOf]], where: str, first: int) -> list[float]:
    """Losses, numbered from `first`, as numbers; one that is not finite is refused with the stories it comes from."""
    values = torch.stack([loss.detach() for loss, _, _ in losses]).tolist()
    for number, (value, (_, batch, loss_of)) in enumerate(zip(values, losses, strict=True), first):
        if not np.isfinite(value):
            with torch.no_grad():
                alone = [bool(torch.isfinite(loss_of(slice(i, i + 1)))) for i in range(len(batch))]
            culprits = {story for (story, _), fine in zip(batch, alone, strict=True) if not fine}
            names = ", ".join(sorted(culprits or {story for story, _ in batch}))
            raise InputError(f"tuning: loss {value} at {where} {number} (story {names}), expected a finite number")
    return values


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
    optimiser = torch.optim.AdamW(groups, weight_decay=settings.weight_decay, fused=True)
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
    at_once: int,
) -> float:
    """One pass over the clips in random order; a step for each batch and, one after the other, each participant."""
    rows = rows_of(stories)
    order = generator(settings.seed, "epoch", epoch).permutation(len(rows))
    batches = [[rows[i] for i in order[s : s + settings.batch_size]] for s in range(0, len(rows), settings.batch_size)]
    losses, done = [], []
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    model.train()
    with _seeded(settings, device, "draws", epoch):
        for batch, (heard, targets) in ahead(batches, lambda b: (hear(b), targets_of(stories, b, device))):
            for target in targets:
                loss_of = loss_of_clips(model, heard, target, device)
                losses.append((gradient(parameters, loss_of, len(batch), at_once), batch, loss_of))
                if len(losses) >= STEPS_BETWEEN_CHECKS[device] or batch is batches[-1]:
                    done += _finite(losses, f"epoch {epoch + 1}, step", len(done) + 1)
                    losses = []
                optimiser.step()
                schedule.step()
    return float(np.mean(done))


def loss_of_clips(model: Model, heard: torch.Tensor | Front, target: torch.Tensor | None, device: str) -> LossOf:
    """The loss of a slice of a batch's clips."""

    def loss_of(piece: slice) -> torch.Tensor:
        part = Front(heard.hidden[piece], heard.n_frames) if isinstance(heard, Front) else heard[piece]
        with autocast(device):
            return model.loss(part, None if target is None else target[piece])

    return loss_of


def _at_once(
    model: Model,
    train: Mapping[str, StoryTargets],
    hear: Hear,
    settings: Tuning,
    device: str,
    max_memory: float | None,
) -> int:
    """Most clips in one pass: the whole batch, or what a limit of memory allows."""
    at_once, rows = settings.batch_size, rows_of(train)[:2]
    whole = isinstance(model, SelfTunedModel) or settings.loss in OVER_THE_BATCH
    limit = max_memory or (None if whole else _free_memory(model, device))
    if limit:
        model.eval()
        loss_of = loss_of_clips(model, hear(rows), targets_of(train, rows, device)[0], device)
        at_once = clips_within(model, loss_of, limit, settings.batch_size)
    if whole and (at_once < settings.batch_size or processes.count() > 1):
        loss = "objective" if isinstance(model, SelfTunedModel) else f"loss {settings.loss!r}"
        raise InputError(
            f"tuning: the {loss} is taken over all clips of a batch, of which {at_once} fit into the "
            f"limit of memory and {processes.count()} processes would share them; expected all of them on one"
        )
    return at_once


def _free_memory(model: Model, device: str) -> float | None:
    """GiB of a GPU that a step may take, the model's own weights included; None on a CPU."""
    if device != "cuda":
        return None
    free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return (SHARE_OF_FREE_MEMORY * free + sum(p.nbytes for p in model.parameters())) / 2**30


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
            for row, values in enumerate(targets):
                if not np.isfinite(values).all():
                    found = values[~np.isfinite(values)][0]
                    raise InputError(f"story {name}: found a target of {found} in row {row}, expected finite numbers")
        if not np.isfinite(story.audio).all():
            raise InputError(f"story {name}: found sound that is not finite, expected numbers")
    return n_participants, n_targets


def tune(
    encoder: SpeechEncoder,
    train: Mapping[str, StoryTargets],
    validation: Mapping[str, StoryTargets],
    settings: Tuning,
    *,
    device: str = "cpu",
    checkpoint: Path | None = None,
    objective: torch.nn.Module | None = None,
    scratch: Path | None = None,
    max_memory: float | None = None,
) -> tuple[Model, list[dict]]:
    """Tune an encoder until the validation loss stops falling; return it as it was when that loss was lowest.

    Two learning rates, linear decay after a warm-up, no dropout (Moussa, Klakow & Toneva 2025). With targets of several
    participants each batch makes one step for each of them (their NeurIPS 2025 paper); with `settings.lora_rank` only
    adapters and head move. With a `checkpoint` path, everything needed to go on is written there after each epoch
    (where that takes long, after some), and a run that finds one goes on from it to the same result.

    Parameters
    ----------
    encoder : SpeechEncoder
        Changed in place.
    train, validation : mapping of story name to StoryTargets
    settings : Tuning
    device : str
        `cpu` or `cuda`; see `precision.precision`.
    checkpoint : Path, optional
    objective : Module, optional
        Its `loss(audio)` is minimised instead of a distance from targets; see `self_supervised`.
    scratch : Path, optional
        Folder for what the front end makes of the clips where that does not fit into memory; see `front_cache`.
    max_memory : float, optional
        GiB that a step may take, about; batches are then gone through in pieces, to the same result but for the draws
        of dropout and masks, which are made piece by piece.

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
    n_steps = settings.epochs * max(n_participants, 1) * -(-len(rows_of(train)) // settings.batch_size)
    optimiser, schedule = _optimiser(model, settings, n_steps)
    history: list[dict] = []
    best = copy.deepcopy(trainable_state(model))
    if checkpoint and checkpoint.is_file():
        history, best = restore(checkpoint, model, optimiser, schedule)
        log.info(f"resumed after epoch {len(history)}")
    hear = {
        name: hearing(model, stories, settings, device, scratch and scratch / f"{name}.bin", not max_memory)
        for name, stories in (("train", train), ("validation", validation))
        if _goes_on(history, settings)
    }
    at_once = _at_once(model, train, hear["train"], settings, device, max_memory) if hear else 0
    save = saving(checkpoint if processes.rank() == 0 else None)
    while _goes_on(history, settings):
        epoch = len(history)
        train_loss = _train_epoch(model, train, hear["train"], settings, epoch, optimiser, schedule, device, at_once)
        losses = {
            "train_loss": train_loss,
            "validation_loss": _mean_loss(model, validation, hear["validation"], settings, epoch, device),
        }
        if losses["validation_loss"] < min((h["validation_loss"] for h in history), default=np.inf):
            best = copy.deepcopy(trainable_state(model))
        history.append({"epoch": epoch + 1, **losses})
        log.info(json.dumps(history[-1]))
        save(model, optimiser, schedule, history, best)
    model.load_state_dict(best, strict=False)
    return model.eval(), history


def _goes_on(history: list[dict], settings: Tuning) -> bool:
    """Whether there are epochs left, and one of the last `patience` lowered the validation loss."""
    losses, patience = [h["validation_loss"] for h in history], settings.patience
    saturated = len(losses) > patience and min(losses[-patience:]) >= min(losses[:-patience])
    return len(losses) < settings.epochs and not saturated
