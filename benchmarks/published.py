"""The expensive steps as the published code does them: plain float32, everything computed anew every time."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from transformers import Wav2Vec2Model


def tuning_step(
    model: Wav2Vec2Model,
    head: torch.nn.Linear,
    optimiser: torch.optim.Optimizer,
    audio: torch.Tensor,
    targets: torch.Tensor,
) -> None:
    """One step: whole model, all hidden states kept, mean over frames, linear head, mean squared error."""
    hidden = model(audio, output_hidden_states=True).hidden_states[-1]
    loss = torch.nn.functional.mse_loss(head(hidden.mean(dim=1)), targets)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()


@torch.no_grad()
def features(model: Wav2Vec2Model, windows: torch.Tensor) -> list[np.ndarray]:
    """Last token of every layer of every window, windows one batch after the other."""
    hidden = model(windows, output_hidden_states=True).hidden_states
    return [layer[:, -1].cpu().numpy() for layer in hidden]


def ridge(
    x: np.ndarray,
    y: np.ndarray,
    alphas: np.ndarray,
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
    decompose: Callable = np.linalg.svd,
) -> np.ndarray:
    """Weights (features, voxels) of ridge regression with a penalty a voxel, by singular values and correlations.

    For each split and penalty all voxels are predicted and correlated with what was measured; the penalty with the
    highest mean correlation is taken, voxel by voxel.
    """
    scores = np.zeros((len(alphas), y.shape[1]))
    for train, validation in splits:
        u, s, vt = decompose(x[train], full_matrices=False)
        projected, unseen, truth = u.T @ y[train], x[validation] @ vt.T, y[validation]
        z = (truth - truth.mean(0)) / truth.std(0)
        for k, alpha in enumerate(alphas):
            predicted = (unseen * (s / (s**2 + alpha**2))) @ projected
            scores[k] += (z * ((predicted - predicted.mean(0)) / predicted.std(0))).mean(0)
    best, weights = scores.argmax(axis=0), np.zeros((x.shape[1], y.shape[1]), x.dtype)
    u, s, vt = decompose(x, full_matrices=False)
    projected = u.T @ y
    for k in np.unique(best):
        voxels = best == k
        weights[:, voxels] = vt.T @ ((s / (s**2 + alphas[k] ** 2))[:, None] * projected[:, voxels])
    return weights
