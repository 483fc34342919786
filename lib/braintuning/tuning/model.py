"""What is tuned: one story's material, and the models that learn from it."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.tuning.losses import LOSSES


@dataclass(frozen=True)
class StoryTargets:
    """One story to learn from.

    Attributes
    ----------
    audio : (samples,) float32
        Mono, 16 kHz.
    times : (rows,) float
        Seconds after the sound's start at which each row was acquired.
    targets : (rows, targets) float32, or tuple of such
        What the head has to predict; a tuple holds those of several participants, an empty one none (stimulus-tuning).
    """

    audio: np.ndarray
    times: np.ndarray
    targets: np.ndarray | tuple[np.ndarray, ...]

    @property
    def of_each(self) -> tuple[np.ndarray, ...]:
        """Targets of each participant."""
        return self.targets if isinstance(self.targets, tuple) else (self.targets,)


class Front(NamedTuple):
    """What an encoder's frozen front end makes of some clips.

    Attributes
    ----------
    hidden : (clips, frames, channels) float
    n_frames : int
        Leading frames that the clips cover.
    """

    hidden: torch.Tensor
    n_frames: int


class TunedModel(torch.nn.Module):
    """An encoder whose last layer, averaged over a clip's frames, is mapped linearly to the targets.

    The head starts at zero, predicting the mean, so that the trunk is moved by the responses and not by a random head.
    """

    def __init__(self, encoder: SpeechEncoder, n_targets: int, loss: str = "l2") -> None:
        super().__init__()
        self.encoder = encoder
        self.head = torch.nn.Linear(encoder.dim, n_targets)
        self._loss = LOSSES[loss]
        torch.nn.init.zeros_(self.head.weight)
        torch.nn.init.zeros_(self.head.bias)

    def forward(self, heard: torch.Tensor | Front) -> torch.Tensor:
        """Predict volumes, (clips, targets) float32, from clips, (clips, samples) float32, or from their front."""
        front = heard if isinstance(heard, Front) else self.front(heard)
        return self.head(self.encoder.trunk(*front, layers=[-1])[-1].mean(dim=1)).float()

    def front(self, audio: torch.Tensor) -> Front:
        """What the frozen front end makes of clips, (clips, samples) float32."""
        return Front(self.encoder.front_end(audio), self.encoder.n_frames(audio.shape[1]))

    def loss(self, heard: torch.Tensor | Front, targets: torch.Tensor) -> torch.Tensor:
        """Distance of the predictions for some clips from their targets, (clips, targets); a scalar."""
        return self._loss(self(heard), targets)


class SelfTunedModel(torch.nn.Module):
    """An encoder that goes on with its family's self-supervised objective: stimulus-tuning."""

    def __init__(self, encoder: SpeechEncoder, objective: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = objective

    def loss(self, audio: torch.Tensor, targets: None = None) -> torch.Tensor:
        """The objective's own loss on some clips; a scalar."""
        return self.head.loss(audio)


Model = TunedModel | SelfTunedModel


def trainable_state(model: Model) -> dict[str, torch.Tensor]:
    """Parameters that tuning moves, and what its head or objective keeps beside them, by name."""
    moved = {name: parameter.detach() for name, parameter in model.named_parameters() if parameter.requires_grad}
    return moved | {f"head.{name}": kept for name, kept in model.head.named_buffers()}
