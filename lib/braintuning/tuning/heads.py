"""Linear heads: by ridge regression on pooled states, and how frames are pooled for each volume."""

from typing import NamedTuple

import numpy as np
import torch

N_PENALTIES = 25
SMALLEST, LARGEST = 1e-3, 1e2
"""Penalties tried, as shares of the design's largest singular value."""
TARGETS_AT_ONCE = 4096


class Pooling(torch.nn.Module):
    """Mean of the frames of each volume's clip, weighted by how long before the clip's end they lie.

    Parameters
    ----------
    kind : str
        `mean`, all alike, as in Moussa, Klakow & Toneva (2025); `haemodynamic`, by the canonical response (Friston et
        al. 1998) of nilearn, which begins 0.1 s late, its time counted from the clip's end; `learned`, weights at every
        second that start alike and are tuned.
    seconds : float
        Length of a volume's clip.
    frame_seconds : float
        Time from one frame to the next.
    """

    def __init__(self, kind: str, seconds: float, frame_seconds: float) -> None:
        super().__init__()
        self.kind, self.seconds, self.frame_seconds = kind, seconds, frame_seconds
        lags = np.arange(int(np.ceil(seconds)) + 1.0)
        kernel = np.ones(len(lags))
        if kind == "haemodynamic":
            from nilearn.glm.first_level import spm_hrf

            kernel = np.interp(lags, np.arange(0, 32, 0.1), spm_hrf(0.1, oversampling=1, time_length=32))
            kernel /= kernel.mean()
        kernel = torch.tensor(kernel, dtype=torch.float32)
        if kind == "learned":
            self.kernel = torch.nn.Parameter(kernel)
        else:
            self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, states: torch.Tensor, ends: torch.Tensor | None) -> torch.Tensor:
        """Pooled states of (clips, frames, dim): (clips, dim), or (clips, volumes, dim) where `ends` has volumes.

        `ends` as in `model.Front`; where they are NaN there is no volume, and what is given there means nothing.
        """
        if ends is None:
            ends = torch.full((len(states), 1), self.seconds, device=states.device)
            return states.mean(dim=1) if self.kind == "mean" else self(states, ends)[:, 0]
        centres = (torch.arange(states.shape[1], device=states.device) + 0.5) * self.frame_seconds
        lags = ends[:, :, None] - centres
        inside = (lags >= 0) & (lags < self.seconds)
        before = lags.clamp(0, len(self.kernel) - 1.001).nan_to_num().floor()
        share, before = lags.nan_to_num() - before, before.long()
        weights = torch.where(inside, self.kernel[before] * (1 - share) + self.kernel[before + 1] * share, 0)
        return torch.bmm((weights / inside.sum(dim=2, keepdim=True).clamp_min(1)).to(states.dtype), states)


class RidgeHead(NamedTuple):
    """A head, and losses on the validation clips.

    Attributes
    ----------
    weight, bias : (targets, dim) and (targets,) float32
    loss : float
        Mean squared error, at the penalties that make it smallest.
    mean_loss : float
        Mean squared error of predicting the training clips' mean.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    loss: float
    mean_loss: float

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """Parameters of a model that has this head."""
        return {"head.weight": self.weight, "head.bias": self.bias}


def ridge_head(x: torch.Tensor, y: torch.Tensor, validation_x: torch.Tensor, validation_y: torch.Tensor) -> RidgeHead:
    """Ridge regression from pooled states to targets, with the penalty of each target chosen on the validation clips.

    Parameters
    ----------
    x, validation_x : (clips, dim) float
    y, validation_y : (clips, targets) float

    By the eigenvectors of the states' products in float64, whose rounding is ten orders of magnitude below the smallest
    penalty squared, and not by singular values of the states, which take longer, on a GPU above all.
    """
    mean = x.double().mean(dim=0)
    x, held_out = x.double() - mean, validation_x.double() - mean
    eigenvalues, rotation = torch.linalg.eigh(x.T @ x)
    seen = held_out @ rotation
    shares = torch.logspace(np.log10(SMALLEST), np.log10(LARGEST), N_PENALTIES, dtype=x.dtype, device=x.device)
    shrinkages = 1 / (eigenvalues.clamp_min(0) + eigenvalues[-1] * shares[:, None] ** 2)
    found = []
    for of_train, of_validation in zip(
        y.split(TARGETS_AT_ONCE, 1), validation_y.split(TARGETS_AT_ONCE, 1), strict=True
    ):
        y_mean = of_train.double().mean(dim=0)
        projected, truth = rotation.T @ (x.T @ (of_train.double() - y_mean)), of_validation.double() - y_mean
        errors = torch.stack([(truth - seen @ (s[:, None] * projected)).square().mean(dim=0) for s in shrinkages])
        smallest, chosen = errors.min(dim=0)
        weight = (shrinkages[chosen] * projected.T) @ rotation.T
        found.append((weight.float(), (y_mean - weight @ mean).float(), smallest, truth.square().mean(dim=0)))
    weight, bias, losses, mean_losses = (torch.cat(parts) for parts in zip(*found, strict=True))
    return RidgeHead(weight, bias, float(losses.mean()), float(mean_losses.mean()))
