"""Variance partitioning: what low-level features and a model explain alone, and what they share."""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch

from braintuning.alignment.encoding import study_splits
from braintuning.study.settings import Encoding

Pair = tuple[np.ndarray, np.ndarray]
"""A feature space: (train TRs, features) and (test TRs, features) float32."""

SHARES = (0.0, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 0.9, 0.97, 0.99, 1.0)
"""Of the first of two spaces in their common kernel: either alone, half and half, and between."""

DRAWN = 16
"""Mixtures of three spaces or more that are drawn, beside each alone, each pair in halves, and all alike."""


def mixtures(n_spaces: int, rng: np.random.Generator) -> np.ndarray:
    """Shares of spaces in their common kernel among which banded ridge chooses; (mixtures, n_spaces), rows sum to 1."""
    if n_spaces == 1:
        return np.ones((1, 1))
    if n_spaces == 2:
        return np.array([[share, 1 - share] for share in SHARES])
    alone = np.eye(n_spaces)
    pairs = [(alone[a] + alone[b]) / 2 for a, b in combinations(range(n_spaces), 2)]
    return np.vstack([alone, pairs, alone.mean(axis=0), rng.dirichlet(np.full(n_spaces, 0.5), DRAWN)])


def banded_predict(
    spaces: Sequence[Pair], train_y: np.ndarray, settings: Encoding, rng: np.random.Generator, device: str = "cpu"
) -> np.ndarray:
    """Predictions of banded ridge, with a penalty for each space in each voxel; (test TRs, voxels) float32.

    After Nunez-Elizalde, Huth & Gallant (2019). Himalaya (Dupre la Tour, Eickenberg, Nunez-Elizalde & Gallant 2022)
    searches over `mixtures` of the spaces and a penalty; voxels with the same choice are then fitted together. `rng`
    draws the splits, and some of the mixtures.
    """
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search

    backend = set_backend("torch_cuda" if device == "cuda" else "torch")
    splits = study_splits(len(train_y), settings, rng)
    y, *xs = (backend.asarray(data, dtype="float32") for data in (train_y, *(train for train, _ in spaces)))
    scales = [float((x**2).sum() / len(x)) or 1.0 for x in xs]
    kernels = backend.stack([x @ x.T / scale for x, scale in zip(xs, scales, strict=True)])
    searched = {
        "n_iter": backend.asarray(mixtures(len(xs), rng), dtype="float32"),
        "alphas": backend.asarray(np.logspace(-2, 5, settings.n_alphas), dtype="float32"),
    }
    options = {"local_alpha": True, "return_weights": None, "n_targets_batch": 2000, "progress_bar": False}
    # minus the mean squared error; truth (TRs, voxels), predicted (penalties, TRs, voxels)
    options |= {"score_func": lambda truth, predicted: -(predicted - truth).square_().mean(dim=1), "cv": splits}
    deltas = solve_multiple_kernel_ridge_random_search(kernels, y, **searched, **options)[0]
    unseen = [backend.asarray(test, dtype="float32") for _, test in spaces]
    test_kernels = backend.stack([new @ x.T / scale for new, x, scale in zip(unseen, xs, scales, strict=True)])
    return _predict(kernels.double(), test_kernels.double(), y.double(), deltas.double()).float().cpu().numpy()


def _predict(kernels: torch.Tensor, test_kernels: torch.Tensor, y: torch.Tensor, deltas: torch.Tensor) -> torch.Tensor:
    """Predictions, (test TRs, voxels), of kernel ridge whose spaces are weighted by exp(deltas), (spaces, voxels)."""
    choices, choice_of = deltas.unique(dim=1, return_inverse=True)
    predicted = y.new_empty(test_kernels.shape[1], y.shape[1])
    for number, weights in enumerate(choices.exp().T):
        kernel, test_kernel = (torch.einsum("k,kij->ij", weights, k) for k in (kernels, test_kernels))
        factor = torch.linalg.cholesky(kernel + torch.eye(len(kernel), dtype=kernel.dtype, device=kernel.device))
        chosen = choice_of == number
        predicted[:, chosen] = test_kernel @ torch.cholesky_solve(y[:, chosen], factor)
    return predicted


def explained(predicted: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Share of each column's variance that a prediction explains: 1 - residual / total sum of squares; (columns,)."""
    deviations = measured - measured.mean(axis=0, dtype=np.float64)
    residual = deviations - (predicted - predicted.mean(axis=0, dtype=np.float64))
    return 1 - (residual**2).sum(axis=0) / (deviations**2).sum(axis=0)
