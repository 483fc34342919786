"""Training material, the models that learn from it, and their optimiser."""

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.precision import autocast
from braintuning.errors import InputError
from braintuning.study.settings import Tuning
from braintuning.tuning.heads import Pooling
from braintuning.tuning.losses import LOSSES

Optimiser, Schedule = torch.optim.AdamW, torch.optim.lr_scheduler.LambdaLR


@dataclass(frozen=True)
class StoryTargets:
    """One story to learn from.

    Attributes
    ----------
    audio : (samples,) float32
        Mono, 16 kHz.
    times : (TRs,) float
        When the clip of each TR ends, in seconds after the audio's start.
    targets : (TRs, targets) float32, or tuple of such
        Of one participant, or of several in a tuple, which is empty in stimulus-tuning.
    repeats : tuple of (repeats, TRs, targets) float32
        Of each participant, targets from each presentation of the story; empty where it was presented once.
    """

    audio: np.ndarray
    times: np.ndarray
    targets: np.ndarray | tuple[np.ndarray, ...]
    repeats: tuple[np.ndarray, ...] = ()

    @property
    def of_each(self) -> tuple[np.ndarray, ...]:
        """Targets by participant."""
        return self.targets if isinstance(self.targets, tuple) else (self.targets,)


def check_stories(train: Mapping[str, StoryTargets], validation: Mapping[str, StoryTargets]) -> tuple[int, int]:
    """Number of participants and of targets; raises InputError where stories differ in them or hold NaN."""
    if not train or not validation:
        raise InputError("tuning: found no training or no validation story, expected at least one of each")
    of_each = next(iter(train.values())).of_each
    n_participants, n_targets = len(of_each), of_each[0].shape[1] if of_each else 0
    for name, story in [*train.items(), *validation.items()]:
        if len(story.of_each) != n_participants:
            raise InputError(f"story {name}: found {len(story.of_each)} participants, expected {n_participants}")
        for targets in story.of_each:
            if len(story.times) != len(targets):
                raise InputError(f"story {name}: found {len(targets)} TRs of targets, expected {len(story.times)}")
            if targets.shape[1] != n_targets:
                raise InputError(f"story {name}: found {targets.shape[1]} voxels, expected {n_targets}")
            for tr, voxel in np.argwhere(~np.isfinite(targets)):
                found = f"a target of {targets[tr, voxel]} at TR {tr}"
                raise InputError(f"story {name}: found {found}, expected finite numbers")
        if not np.isfinite(story.audio).all():
            raise InputError(f"story {name}: found audio that is not finite, expected numbers")
    return n_participants, n_targets


@dataclass(frozen=True)
class Front:
    """Output of a frozen front end for some clips or spans, and what is predicted from it.

    Attributes
    ----------
    hidden : (clips, frames, channels)
    n_frames : int
        How many of the frames the audio covers.
    ends : (clips, volumes) float, or None
        Where the clip of each volume ends, in seconds after a span's start, NaN where a span has fewer; None where each
        clip is one volume's own, from its first frame to its last.
    counts : tuple of int, or None
        How many volumes each span has, kept on the CPU, so that using it does not wait for the GPU; None as for `ends`.
    """

    hidden: torch.Tensor
    n_frames: int
    ends: torch.Tensor | None = None
    counts: tuple[int, ...] | None = None

    def __getitem__(self, clips: slice) -> "Front":
        if self.ends is None:
            return Front(self.hidden[clips], self.n_frames)
        return Front(self.hidden[clips], self.n_frames, self.ends[clips], self.counts[clips])

    def __len__(self) -> int:
        """How many volumes are predicted."""
        return len(self.hidden) if self.counts is None else sum(self.counts)


class TunedModel(torch.nn.Module):
    """An encoder whose last layer, pooled over the frames of a volume's clip, is mapped linearly to the targets.

    The head starts at zero, predicting the mean, so that the trunk is moved by the responses and not by a random head.

    Parameters
    ----------
    encoder : SpeechEncoder
    n_targets : int
    settings : study.settings.Tuning
        Its loss and pooling, and the weight of the distance from the encoder's states as they are now.
    """

    def __init__(self, encoder: SpeechEncoder, n_targets: int, settings: Tuning | None = None) -> None:
        super().__init__()
        settings = settings or Tuning()
        self.encoder, self.head = encoder, torch.nn.Linear(encoder.dim, n_targets)
        self.pooling = Pooling(settings.pooling, settings.clip_seconds, encoder.frame_seconds)
        self._loss, self._keep_weight = LOSSES[settings.loss], settings.keep_weight
        self._forgets = False
        self._untuned = (copy.deepcopy(encoder).eval(),) if settings.keep_weight else ()
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)

    def forget(self) -> None:
        """From now on the loss is the mean square of a frozen head's predictions: 0 where it predicts but the mean."""
        self._forgets = True
        self.head.requires_grad_(False)

    def forward(self, inputs: torch.Tensor | Front) -> torch.Tensor:
        """Predicted responses, (volumes, targets) float32, to clips, (clips, samples) float32, or to their `Front`.

        The volumes of spans follow each other.
        """
        return self.head(self.pooled(inputs)).float()

    def pooled(self, inputs: torch.Tensor | Front) -> torch.Tensor:
        """Pooled states of the last layer, (volumes, dim)."""
        front = inputs if isinstance(inputs, Front) else self.front(inputs)
        return known(self.pooling(self._states(self.encoder, front), front.ends), front.counts)

    def front(self, audio: torch.Tensor) -> Front:
        """Output of the frozen front end for clips, (clips, samples) float32."""
        return Front(self.encoder.front_end(audio), self.encoder.n_frames(audio.shape[1]))

    def loss(self, inputs: torch.Tensor | Front, targets: torch.Tensor) -> torch.Tensor:
        """Brain loss of some volumes with (volumes, targets), a scalar; in training also the distance from before.

        Computed in `precision` of the model's device.
        """
        with autocast(self.head.weight.device.type):
            front = inputs if isinstance(inputs, Front) else self.front(inputs)
            states = self._states(self.encoder, front)
            predicted = self.head(known(self.pooling(states, front.ends), front.counts)).float()
            targets = known(targets, front.counts)
            loss = predicted.square().mean() if self._forgets else self._loss(predicted, targets)
            if self._keep_weight and self.training:
                loss = loss + self._keep_weight * self._distance(states, front)
            return loss

    def _distance(self, states: torch.Tensor, front: Front) -> torch.Tensor:
        """Mean squared distance from the untuned model's states, as a share of their variance over a clip's frames.

        A span counts by its volumes, as in the loss, so that micro-batches add up to their batch.
        """
        with torch.no_grad():
            untuned = self._states(self._untuned[0].to(states.device), front).float()
        distances = (states.float() - untuned).square().mean(dim=(1, 2))
        counts = to_device(torch.tensor(front.counts or [1] * len(distances), dtype=torch.float32), distances.device)
        return (distances / untuned.var(dim=1).mean(dim=1)) @ (counts / counts.sum())

    @staticmethod
    def _states(encoder: SpeechEncoder, front: Front) -> torch.Tensor:
        return encoder.trunk(front.hidden, front.n_frames, layers=[-1])[-1]


def known(padded: torch.Tensor, counts: Sequence[int] | None) -> torch.Tensor:
    """Rows of all volumes, (volumes, columns): those of clips as they are, those of spans without padding.

    Of spans, (spans, most volumes, columns), the first `counts` rows each. A boolean mask would wait for the GPU.
    """
    if counts is None:
        return padded
    rows = np.concatenate([np.arange(count) + span * padded.shape[1] for span, count in enumerate(counts)])
    return padded.flatten(0, 1).index_select(0, to_device(torch.from_numpy(rows), padded.device))


def to_device(tensor: torch.Tensor, device: str | torch.device) -> torch.Tensor:
    """The tensor on a device, copied there through pinned memory without waiting."""
    on_cpu = torch.device(device).type == "cpu"
    return tensor if on_cpu else tensor.pin_memory().to(device, non_blocking=True)


class SelfTunedModel(torch.nn.Module):
    """An encoder that goes on with its family's self-supervised objective: stimulus-tuning."""

    def __init__(self, encoder: SpeechEncoder, objective: torch.nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, objective

    def loss(self, audio: torch.Tensor, targets: torch.Tensor | None = None) -> torch.Tensor:
        """The objective's own loss on some clips, which have no targets; a scalar, in `precision` likewise."""
        with autocast(audio.device.type):
            return self.head.loss(audio)


Model, State = TunedModel | SelfTunedModel, dict[str, torch.Tensor]


def trainable_state(model: Model) -> State:
    """Parameters that tuning moves, and what its head or objective keeps beside them, by name."""
    moved = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
    head = [*model.head.named_parameters(), *model.head.named_buffers()]
    return moved | {f"head.{name}": kept.detach() for name, kept in head}


def learning_rate_factor(step: int, n_steps: int, warmup_fraction: float) -> float:
    """Linear warm-up to 1 over the first share of the steps, then linear decay to 0 at `n_steps`."""
    warmup = round(warmup_fraction * n_steps)
    if step < warmup:
        return (step + 1) / warmup
    return max(n_steps - step, 0) / max(n_steps - warmup, 1)


def make_optimiser(model: Model, settings: Tuning, n_steps: int) -> tuple[Optimiser, Schedule]:
    """AdamW with a learning rate for the trunk and one for the head, and their schedule over `n_steps`."""
    trunk = {"params": model.encoder.trainable_parameters(), "lr": settings.trunk_learning_rate}
    of_trunk = {id(parameter) for parameter in trunk["params"]}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in of_trunk]
    head = {"params": others, "lr": settings.head_learning_rate}
    optimiser = Optimiser([trunk, head], weight_decay=settings.weight_decay, fused=True)
    return optimiser, Schedule(optimiser, lambda step: learning_rate_factor(step, n_steps, settings.warmup_fraction))


def lowest_loss(stories: Mapping[str, StoryTargets]) -> float | None:
    """Mean squared error that a perfect model of some stories would have; None unless all were presented repeatedly.

    Of each target the variance of its presentations' mean that they do not share, which is that of one presentation
    about the mean over their number, on the target's own scale.
    """
    if not all(story.repeats for story in stories.values()):
        return None
    losses = []
    for story in stories.values():
        for targets, repeats in zip(story.of_each, story.repeats, strict=True):
            of_noise = repeats.var(axis=0, ddof=1).mean(axis=0) / len(repeats)
            losses.append(np.mean(of_noise * targets.var(axis=0) / repeats.mean(axis=0).var(axis=0)))
    return float(np.mean(losses))


def compared(history: list[dict]) -> list[float]:
    """The losses by which epochs are compared: of heads fitted to every epoch's states, else of the running head."""
    fitted = [row["fitted_loss"] for row in history]
    every = all(loss is not None and math.isfinite(loss) for loss in fitted)
    return fitted if every else [row["validation_loss"] for row in history]


def learnt(history: list[dict]) -> bool:
    """Whether tuning lowered the loss that epochs are compared by below that of the untuned model, epoch 0."""
    losses = compared(history)
    return min(losses) < losses[0]
