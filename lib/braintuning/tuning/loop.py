"""The brain-tuning loop: a speech encoder and a linear head learn to predict responses from the audio before them."""

import atexit
import copy
import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch.utils.data import BatchSampler

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.results import generator
from braintuning.study.settings import Tuning
from braintuning.tuning.batches import CheckedLosses, Load, Samples, ahead, loader, micro_batch_size, samples_of
from braintuning.tuning.model import (
    Front,
    Model,
    SelfTunedModel,
    StoryTargets,
    TunedModel,
    check_stories,
    learnt,
    make_optimiser,
    restore,
    saving,
    trainable_state,
)

log = logging.getLogger(__name__)


def brain_tune(
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
    untuned_may_win: bool = True,
) -> tuple[Model, list[dict]]:
    """Tune an encoder until the validation loss stops falling; return it as it was when that loss was lowest.

    Epoch 0 is the untuned model, whose head is zero and so predicts the mean; where no epoch is better, it is returned
    with a warning. Two learning rates, linear decay after a warm-up, no dropout (Moussa, Klakow & Toneva 2025). With
    targets of several participants each batch makes one step for each of them (their NeurIPS 2025 paper); with
    `settings.lora_rank` only adapters and head move. Processes that `torchrun` started tune one model together. The
    encoder is changed in place.

    Parameters
    ----------
    encoder : SpeechEncoder
    train, validation : mapping of story name to tuning.model.StoryTargets
    settings : study.settings.Tuning
    device : str
        `cpu` or `cuda`.
    checkpoint : Path, optional
        File of everything needed to go on, written after most epochs; a run that finds it goes on to the same result.
    objective : Module, optional
        Its `loss(audio)` is minimised instead of a distance from targets; see `objectives`.
    scratch : Path, optional
        Folder for the front end's output where that does not fit into memory.
    max_memory : float, optional
        GiB that a step may take, about. Batches are then divided into micro-batches, to the same result except for the
        draws of dropout and masks.
    untuned_may_win : bool
        False: the best of the tuned epochs is returned, even if it is worse than epoch 0. For a control whose targets
        cannot be predicted, and which would be no control if it stayed untuned.

    Returns
    -------
    model : TunedModel or SelfTunedModel
        The latter with an `objective`.
    history : list of dict
        epoch from 0, train_loss (None in epoch 0), validation_loss.

    Raises
    ------
    InputError
        No stories, targets that do not match, no memory for one clip, or a loss that is not finite.
    """
    processes = joined_processes(device)
    n_participants, n_targets = check_stories(train, validation)
    if settings.lora_rank:
        encoder.lora(settings.lora_rank, settings.lora_alpha, settings.lora_dropout, settings.seed)
    model = SelfTunedModel(encoder, objective) if objective else TunedModel(encoder, n_targets, settings.loss)
    model.to(device)
    samples = samples_of(train)
    n_steps = max(n_participants, 1) * math.ceil(len(samples) / settings.batch_size)
    optimiser, schedule = make_optimiser(model, settings, settings.epochs * n_steps)
    history, best = [], copy.deepcopy(trainable_state(model))
    save = saving(checkpoint if processes.is_main_process else None)
    if checkpoint and checkpoint.is_file():
        history, best = restore(checkpoint, model, optimiser, schedule)
        log.info(f"resumed after epoch {history[-1]['epoch']}")
    if _goes_on(history, settings):
        load, load_validation = (
            loader(model, stories, settings, device, scratch and scratch / f"{name}.bin", not max_memory)
            for name, stories in (("train", train), ("validation", validation))
        )
        at_once = micro_batch_size(model, load(samples[:2]), settings, device, max_memory)
    while _goes_on(history, settings):
        epoch, trained = len(history), None
        if epoch:
            losses = CheckedLosses(model, load, f"epoch {epoch}, step")
            order = [samples[i] for i in generator(settings.seed, "epoch", epoch - 1).permutation(len(samples))]
            model.train()
            with _seeded(settings, device, "draws", epoch - 1):
                for batch, (inputs, targets) in ahead(BatchSampler(order, settings.batch_size, drop_last=False), load):
                    for participant in range(len(targets)):
                        losses.add(gradient(model, inputs, targets[participant], at_once), batch, participant)
                        optimiser.step()
                        schedule.step()
            trained = losses.mean()
        validated = validation_loss(model, samples_of(validation), load_validation, settings, device, epoch)
        rivals = history if untuned_may_win else history[1:]
        if validated < min((done["validation_loss"] for done in rivals), default=math.inf):
            best = copy.deepcopy(trainable_state(model))
        history.append({"epoch": epoch, "train_loss": trained, "validation_loss": validated})
        log.info(json.dumps(history[-1]))
        save(model, optimiser, schedule, history, best)
    if not learnt(history):
        kept = "left untuned" if untuned_may_win else "that of its best tuned epoch"
        log.warning(f"tuning: did not learn, no epoch is better than epoch 0; the model is {kept}")
    model.load_state_dict(best, strict=False)
    return model.eval(), history


def joined_processes(device: str) -> PartialState:
    """The processes that `torchrun` started, each on a GPU of its own where they are on GPUs; only the first logs."""
    processes = PartialState(cpu=device == "cpu")
    if not processes.is_main_process:
        logging.getLogger("braintuning").setLevel(logging.WARNING)
    if processes.num_processes > 1:
        atexit.register(processes.destroy_process_group)
    return processes


def gradient(model: Model, inputs: torch.Tensor | Front, targets: torch.Tensor, at_once: int) -> torch.Tensor:
    """Put the gradient of a batch's mean loss into the parameters; give back the loss, a scalar on its device.

    Each process takes its share of the clips, in micro-batches of `at_once`. The sum of their losses, each weighted by
    its share of the clips, is the batch's loss where that is a mean over clips, and so is the gradient. (accelerate's
    `accumulate` and DDP weight micro-batches and processes alike, whatever their clips.)
    """
    moved = [parameter for parameter in model.parameters() if parameter.requires_grad]
    processes, n_clips, total = PartialState(), len(targets), torch.zeros((), device=moved[0].device)
    rank, n_processes = processes.process_index, processes.num_processes
    first, last = n_clips * rank // n_processes, n_clips * (rank + 1) // n_processes
    model.zero_grad()
    for start in range(first, last, at_once):
        micro = slice(start, min(start + at_once, last))
        loss = model.loss(inputs[micro], targets[micro]) * ((micro.stop - micro.start) / n_clips)
        loss.backward()
        total += loss.detach()
    if n_processes > 1:
        parts = [total, *(torch.zeros_like(p) if p.grad is None else p.grad for p in moved)]
        sums = reduce(torch.cat([part.reshape(-1) for part in parts]), "sum").split([part.numel() for part in parts])
        total = sums[0].squeeze()
        for parameter, summed in zip(moved, sums[1:], strict=True):
            parameter.grad = summed.view_as(parameter)
    return total


def validation_loss(model: Model, samples: Samples, load: Load, settings: Tuning, device: str, epoch: int = 0) -> float:
    """Mean loss over samples, and over participants."""
    total = 0.0
    model.eval()
    with torch.no_grad(), _seeded(settings, device, "validation"):
        for number, batch in enumerate(BatchSampler(samples, settings.batch_size, drop_last=False), 1):
            inputs, targets = load(batch)
            losses = CheckedLosses(model, load, f"epoch {epoch}, validation batch {number}, participant")
            for participant in range(len(targets)):
                losses.add(model.loss(inputs, targets[participant]), batch, participant)
            total += losses.mean() * len(batch)
    return total / len(samples)


def _goes_on(history: list[dict], settings: Tuning) -> bool:
    """Whether there are epochs left, and one of the last `patience` was the best but for epoch 0."""
    tuned, patience = [done["validation_loss"] for done in history[1:]], settings.patience
    saturated = len(tuned) > patience and min(tuned[-patience:]) >= min(tuned[:-patience])
    return len(tuned) < settings.epochs and not saturated


@contextmanager
def _seeded(settings: Tuning, device: str, *labels: str | int) -> Iterator[None]:
    """Draws of torch (dropout of adapters, masks) come from a seed of their own and leave others' alone."""
    with torch.random.fork_rng(devices=[torch.device(device)] if device == "cuda" else []):
        torch.manual_seed(int(generator(settings.seed, *labels).integers(2**62)))
        yield
