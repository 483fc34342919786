"""Brain losses between predicted and measured responses, both (clips, voxels); each returns a scalar, mean over clips.

`spatial correlation` and `cosine + huber` are those of the multi-participant code of the authors (Moussa & Toneva 2025,
NeurIPS; `train_utils.py` of github bridge-ai-neuro/multi-brain-tuning).
"""

from collections.abc import Callable

import torch
from torch.nn import functional

HUBER_DELTA = 0.6
"""Error from which the Huber loss rises in a line."""
SMALLEST_NORM = 1e-3
"""Norms below it count as this much, so that a prediction of zeros has a gradient; it counts as no similarity."""


def spatial_correlation_loss(predicted: torch.Tensor, measured: torch.Tensor) -> torch.Tensor:
    """One minus the mean over clips of Pearson's r over voxels, between the predicted and the measured pattern."""
    return _cosine_loss(*(patterns - patterns.mean(dim=1, keepdim=True) for patterns in (predicted, measured)))


def cosine_and_huber_loss(predicted: torch.Tensor, measured: torch.Tensor) -> torch.Tensor:
    """One minus the mean over clips of the cosine between the two patterns, plus the mean Huber loss of the errors.

    An error e counts ``e^2 / 2`` up to `HUBER_DELTA`, d, and ``d (|e| - d / 2)`` beyond it (Huber 1964).
    """
    return _cosine_loss(predicted, measured) + functional.huber_loss(predicted, measured, delta=HUBER_DELTA)


def _cosine_loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return 1 - functional.cosine_similarity(a, b, eps=SMALLEST_NORM).mean()


LOSSES: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "l2": functional.mse_loss,
    "spatial correlation": spatial_correlation_loss,
    "cosine + huber": cosine_and_huber_loss,
}
"""By the name that a study gives as `tuning.loss`; a new one is also added to `study.settings.Tuning.loss`.

A mean over clips each, so that a batch can be divided into micro-batches.
"""
