"""Linear heads: by ridge regression on pooled states, and how frames are pooled for each volume."""

from typing import NamedTuple

import numpy as np
import torch
from nilearn.glm.first_level import spm_hrf

N_PENALTIES = 25
SMALLEST, LARGEST = 1e-3, 1e2
"""Penalties tried, as shares of the design's largest singular value."""


class Pooling(torch.nn.Module):
    """Mean of the frames of each volume's clip, weighted by how long before its end they lie.

    Parameters
    ----------
    kind : str
        `mean`, all alike, as in Moussa, Klakow & Toneva (2025); `haemodynamic`, by the canonical response (Friston et
        al. 1998) to audio so long ago; `learned`, weights at every second that start alike and are tuned.
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
            kernel = np.interp(lags, np.arange(0, 32, 0.1), spm_hrf(0.1, oversampling=1, time_length=32))
            kernel /= kernel.mean()
        kernel = torch.tensor(kernel, dtype=torch.float32)
        if kind == "learned":
            self.kernel = torch.nn.Parameter(kernel)
        else:
            self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, states: torch.Tensor, ends: torch.Tensor | None) -> torch.Tensor:
        """Pooled states, (volumes, dim), of (clips, frames, dim); `ends` as in `model.Front`."""
        if ends is None and self.kind == "mean":
            return states.mean(dim=1)
        centres = (torch.arange(states.shape[1], device=states.device) + 0.5) * self.frame_seconds
        if ends is None:
            ends = torch.full((len(states), 1), self.seconds, device=states.device)
        lags = ends[:, :, None] - centres
        inside = (lags >= 0) & (lags < self.seconds)
        before = lags.clamp(0, len(self.kernel) - 1.001).nan_to_num().floor()
        share, before = lags.nan_to_num() - before, before.long()
        weights = torch.where(inside, self.kernel[before] * (1 - share) + self.kernel[before + 1] * share, 0)
        pooled = torch.bmm((weights / inside.sum(dim=2, keepdim=True).clamp_min(1)).to(states.dtype), states)
        return pooled[ends.isfinite()]


class RidgeHead(NamedTuple):
    """A head and its loss on the validation clips, at the penalties that make it smallest.

    `weight`, (targets, dim), and `bias`, (targets,), float32; `loss` the mean squared error.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    loss: float


def ridge_head(x: torch.Tensor, y: torch.Tensor, validation_x: torch.Tensor, validation_y: torch.Tensor) -> RidgeHead:
    """Ridge regression from pooled states to targets, with the penalty of each target chosen on the validation clips.

    The linear probe from which fine-tuning starts without distorting what the model knows (Kumar et al. 2022), and by
    which epochs are compared: what a model's states hold, apart from how far its running head has come.

    Parameters
    ----------
    x, validation_x : (clips, dim) float
    y, validation_y : (clips, targets) float
    """
    x, y, held_out = x.double(), y.double(), validation_x.double()
    x_mean, y_mean = x.mean(dim=0), y.mean(dim=0)
    left, singular, right = torch.linalg.svd(x - x_mean, full_matrices=False)
    projected, seen, truth = left.T @ (y - y_mean), (held_out - x_mean) @ right.T, validation_y - y_mean
    penalties = singular[0] * torch.logspace(
        np.log10(SMALLEST), np.log10(LARGEST), N_PENALTIES, dtype=torch.float64, device=x.device
    )
    smallest = torch.full((y.shape[1],), torch.inf, dtype=torch.float64, device=x.device)
    chosen = torch.zeros_like(smallest)
    for penalty in penalties:
        shrinkage = singular / (singular**2 + penalty**2)
        error = (truth - seen @ (shrinkage[:, None] * projected)).square().mean(dim=0)
        better = error < smallest
        smallest, chosen = torch.where(better, error, smallest), torch.where(better, penalty, chosen)
    weight = (right.T @ (singular[:, None] / (singular[:, None] ** 2 + chosen**2) * projected)).T
    return RidgeHead(weight.float(), (y_mean - weight @ x_mean).float(), float(smallest.mean()))
