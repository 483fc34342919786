"""Brain losses between predicted and measured responses, both (clips, voxels); each returns a scalar."""

from collections.abc import Callable

import torch
from torch.nn import functional


def correlation_loss(predicted: torch.Tensor, measured: torch.Tensor) -> torch.Tensor:
    """One minus the mean over voxels of Pearson's r over the clips of a batch."""
    return 1 - _cosine(predicted - predicted.mean(dim=0), measured - measured.mean(dim=0), dim=0)


def cosine_and_l2_loss(predicted: torch.Tensor, measured: torch.Tensor) -> torch.Tensor:
    """One minus the mean over clips of the cosine between predicted and measured pattern, plus the squared error."""
    return 1 - _cosine(predicted, measured, dim=1) + functional.mse_loss(predicted, measured)


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "l2": functional.mse_loss,
    "correlation": correlation_loss,
    "cosine + l2": cosine_and_l2_loss,
}
"""By the name that a study gives as `tuning.loss`; a new one is also added to `study.settings.Tuning.loss`."""

OVER_THE_BATCH = ("correlation",)
"""Losses that are no mean over clips, so that a batch cannot be divided into micro-batches."""

SMALLEST_NORM = 1e-3
"""Norms below it count as this much, so that a prediction of zeros has a gradient."""


def _cosine(a: torch.Tensor, b: torch.Tensor, dim: int) -> torch.Tensor:
    norms = a.norm(dim=dim).clamp_min(SMALLEST_NORM) * b.norm(dim=dim).clamp_min(SMALLEST_NORM)
    return ((a * b).sum(dim=dim) / norms).mean()
