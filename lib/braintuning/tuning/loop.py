"""The brain-tuning loop: a speech encoder and a linear head learn to predict responses from the audio before them."""

import atexit
import copy
import json
import logging
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch.utils.data import BatchSampler

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.fast import compile_blocks
from braintuning.backbone.precision import autocast
from braintuning.results import generator
from braintuning.study.settings import Tuning
from braintuning.tuning.batches import (
    CLIPS_AT_ONCE,
    CheckedLosses,
    Load,
    Samples,
    ahead,
    loader,
    micro_batch_size,
    samples_of,
)
from braintuning.tuning.checkpoint import restore, saving
from braintuning.tuning.components import find_components
from braintuning.tuning.heads import RidgeHead, ridge_head
from braintuning.tuning.model import (
    Front,
    Model,
    SelfTunedModel,
    StoryTargets,
    TunedModel,
    check_stories,
    compared,
    known,
    learnt,
    lowest_loss,
    make_optimiser,
    trainable_state,
)

log = logging.getLogger(__name__)

Aim = Literal["learn", "control", "remove"]


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
    aim: Aim = "learn",
) -> tuple[Model, list[dict]]:
    """Tune an encoder until the validation loss stops falling; return it as it was when that loss was lowest.

    Epoch 0 is the untuned model, which is returned with a warning if no epoch is better. Trunk and head have their own
    learning rates, with linear decay after a warm-up and no dropout (Moussa, Klakow & Toneva 2025). With targets of
    several participants, each batch makes one step for each of them (their NeurIPS 2025 paper); with
    `settings.lora_rank` only adapters and head are tuned. The encoder is changed in place. Processes started by
    `torchrun` tune one model together.

    With `settings.head_start` "ridge", the head starts as a linear probe of the untuned model (Kumar et al. 2022), and
    epochs are compared by a ridge head refitted to each epoch's states: the trained head soon fits noise, which would
    hide what the states gained. The returned model has the refitted head of its epoch.

    Parameters
    ----------
    encoder : SpeechEncoder
    train, validation : mapping of story name to tuning.model.StoryTargets
    settings : study.settings.Tuning
    device : str
        `cpu` or `cuda`.
    checkpoint : Path, optional
        File with the state of tuning, written after most epochs; a run that finds it resumes, with the same result.
    objective : Module, optional
        Its `loss(audio)` is minimised instead of a distance from targets; see `objectives`.
    scratch : Path, optional
        Folder for the front end's output if that does not fit into memory.
    max_memory : float, optional
        Approximate limit of memory per step, in GiB. Batches are then divided into micro-batches, with the same result
        except for the random draws of dropout and masks.
    aim : str
        "learn"; "control", for targets that cannot be predicted: the best of the tuned epochs is returned, since an
        untuned model would be no control; or "remove", to tune the encoder so that a ridge head, refitted in every
        epoch, can predict nothing but the mean: the tuned epoch with the largest fitted loss is returned.

    Returns
    -------
    model : TunedModel or SelfTunedModel
        The latter with an `objective`. A head on components has been brought back to voxels.
    history : list of dict
        epoch from 0, train_loss (None in epoch 0), validation_loss, fitted_loss (mean squared error of a ridge head
        fitted to the epoch's states, its penalty chosen on the validation stories; None where it was not fitted),
        mean_loss (of predicting the mean), and lowest_loss (see `model.lowest_loss`; None where epochs are compared by
        another loss than squared errors).

    Raises
    ------
    InputError
        No stories, targets that do not match, no memory for one clip, or a loss that is not finite.

    Examples
    --------
    >>> story = StoryTargets(audio, clip_ends, responses)  # (samples,), (TRs,) in seconds, (TRs, voxels)
    >>> model, history = bt.brain_tune(encoder, {"train": story}, {"validation": other}, Tuning(epochs=3))
    """
    processes, refits = joined_processes(device), settings.head_start == "ridge" or aim == "remove"
    n_participants, n_targets = check_stories(train, validation)
    components = n_participants and settings.targets == "components" and find_components(train, validation, settings)
    if components:
        train, validation = components.scores_of(train), components.scores_of(validation)
        n_targets = len(components.maps)
    if settings.lora_rank:
        encoder.lora(settings.lora_rank, settings.lora_alpha, settings.lora_dropout, settings.seed)
    model = (SelfTunedModel(encoder, objective) if objective else TunedModel(encoder, n_targets, settings)).to(device)
    if aim == "remove":
        model.forget()
    samples, held_out = samples_of(train, settings), samples_of(validation, settings)
    n_steps = max(n_participants, 1) * math.ceil(len(samples) / settings.batch_size)
    optimiser, schedule = make_optimiser(model, settings, settings.epochs * n_steps)
    history, best = [], copy.deepcopy(trainable_state(model))
    lowest = lowest_loss(validation) if refits or settings.loss == "l2" else None
    save = saving(checkpoint if processes.is_main_process else None)
    if checkpoint and checkpoint.is_file():
        history, best = restore(checkpoint, model, optimiser, schedule)
        log.info(f"resumed after epoch {history[-1]['epoch']}")
    if _goes_on(history, settings, aim):
        load, load_validation = (
            loader(model, stories, settings, device, scratch and scratch / f"{name}.bin", not max_memory)
            for name, stories in (("train", train), ("validation", validation))
        )
        at_once = micro_batch_size(model, load(samples[:2]), settings, device, max_memory)
    while _goes_on(history, settings, aim):
        epoch, trained = len(history), None
        if epoch:
            trained = one_epoch(model, samples, load, settings, epoch, optimiser, schedule, at_once, device)
        fits = n_participants and (not epoch or refits)
        fitted = fit_head(model, samples, load, held_out, load_validation) if fits else None
        if fitted and refits and (aim == "remove" or not epoch):
            model.load_state_dict(fitted.state, strict=False)
        validated = validation_loss(model, held_out, load_validation, settings, device, epoch)
        of_heads = {"fitted_loss": fitted and fitted.loss, "mean_loss": fitted and fitted.mean_loss}
        row = {"epoch": epoch, "train_loss": trained, "validation_loss": validated, **of_heads, "lowest_loss": lowest}
        history.append(row)
        if best_epoch(history, aim) == epoch:
            best = copy.deepcopy(trainable_state(model)) | (fitted.state if fitted and refits else {})
        log.info(json.dumps(history[-1]))
        save(model, optimiser, schedule, history, best)
    if aim != "remove" and not learnt(history):
        kept = "left untuned" if aim == "learn" else f"that of epoch {best_epoch(history, aim)}"
        log.warning(f"tuning: did not learn, no epoch is better than epoch 0; the model is {kept}")
    model.load_state_dict(best, strict=False)
    if components:
        model.head = components.head_of_voxels(model.head)
    return model.eval(), history


def one_epoch(
    model: Model,
    samples: Samples,
    load: Load,
    settings: Tuning,
    epoch: int,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    at_once: int,
    device: str,
) -> float:
    """Go once through all samples, in an order of the epoch's own, a step a batch and participant; the mean loss."""
    order = [samples[i] for i in generator(settings.seed, "epoch", epoch - 1).permutation(len(samples))]
    losses = CheckedLosses(model, load, f"epoch {epoch}, step")
    model.train()
    compile_blocks(model.encoder.model)
    with _seeded(settings, device, "draws", epoch - 1):
        for batch, (inputs, targets) in ahead(BatchSampler(order, settings.batch_size, drop_last=False), load):
            for participant, of_one in enumerate(targets):
                losses.add(gradient(model, inputs, of_one, at_once), batch, participant)
                optimiser.step()
                schedule.step()
    return losses.mean()


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
        loss = model.loss(inputs[micro], targets[micro]) * (len(inputs[micro]) / len(inputs))
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
    losses, n_volumes = CheckedLosses(model, load, f"epoch {epoch}, validation step"), []
    model.eval()
    with torch.no_grad(), _seeded(settings, device, "validation"):
        for batch, (inputs, targets) in ahead(BatchSampler(samples, settings.batch_size, drop_last=False), load):
            for participant in range(len(targets)):
                losses.add(model.loss(inputs, targets[participant]), batch, participant)
                n_volumes.append(len(inputs))
    return losses.mean(n_volumes)


def fit_head(model: TunedModel, train: Samples, load: Load, held_out: Samples, load_validation: Load) -> RidgeHead:
    """Ridge head on a model's pooled states, one for all participants; its penalties chosen on the held-out samples."""
    model.eval()
    materials = []
    for samples, of_samples in ((train, load), (held_out, load_validation)):
        states, targets = [], []
        with torch.no_grad(), autocast(next(model.parameters()).device.type):
            for batch in BatchSampler(samples, CLIPS_AT_ONCE, drop_last=False):
                inputs, of_each = of_samples(batch)
                pooled = model.pooled(inputs).float()
                states += [pooled] * len(of_each)
                targets += [known(of_one, inputs.counts) for of_one in of_each]
        materials += [torch.cat(states), torch.cat(targets)]
    return ridge_head(*materials)


def best_epoch(history: list[dict], aim: Aim) -> int:
    """The first epoch with the lowest loss, see `compared`; epoch 0 only where that may be ("learn")."""
    losses = [-loss if aim == "remove" else loss for loss in compared(history)]
    tuned = 0 if aim == "learn" else 1
    return losses.index(min(losses[tuned:]), tuned) if len(losses) > tuned else 0


def _goes_on(history: list[dict], settings: Tuning, aim: Aim) -> bool:
    """Whether epochs are left and the best tuned epoch is among the last `patience`."""
    best_tuned, n_tuned = best_epoch(history, "control" if aim == "learn" else aim), len(history) - 1
    return n_tuned < settings.epochs and best_tuned > n_tuned - settings.patience


@contextmanager
def _seeded(settings: Tuning, device: str, *labels: str | int) -> Iterator[None]:
    """Draws of torch (dropout of adapters, masks) come from a seed of their own and leave others' alone."""
    with torch.random.fork_rng(devices=[torch.device(device)] if device == "cuda" else []):
        torch.manual_seed(int(generator(settings.seed, *labels).integers(2**62)))
        yield
