"""Ridge regression for many voxels: one decomposition for all of them, and predictions instead of weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

Split = tuple[np.ndarray, np.ndarray]

VOXELS_AT_ONCE = 4000
FEWEST_AT_ONCE = 256
SHARE_OF_FREE_MEMORY = 0.5


@dataclass(frozen=True)
class Factors:
    """A design's eigenvectors, ready to predict some rows: `seen @ ((basis.T @ y) / (eigenvalues + alpha^2))`.

    Attributes
    ----------
    basis : (training rows, k) float32
    eigenvalues : (k,) float32
        Squared singular values of the training design.
    seen : (rows to predict, k) float32
    """

    basis: torch.Tensor
    eigenvalues: torch.Tensor
    seen: torch.Tensor

    def predict(self, projected: torch.Tensor, squared: torch.Tensor | float) -> torch.Tensor:
        """Predictions, (rows, voxels), with penalties squared, one or (voxels,), from `basis.T @ y`, (k, voxels)."""
        if isinstance(squared, float):
            return (self.seen / (self.eigenvalues + squared)) @ projected
        return self.seen @ (projected / (self.eigenvalues[:, None] + squared))


Part = tuple[np.ndarray, np.ndarray, Factors]
"""Training rows, validation rows and factors of a split."""


def factors(train_x: torch.Tensor, other_x: torch.Tensor) -> Factors:
    """Decompose a training design over rows or over features, whichever are fewer; in float64, given in float32.

    Parameters
    ----------
    train_x : (training rows, features)
    other_x : (rows to predict, features)
    """
    x, other = train_x.double(), other_x.double()
    if len(x) < x.shape[1]:
        eigenvalues, basis = torch.linalg.eigh(x @ x.T)
        seen = other @ (x.T @ basis)
    else:
        eigenvalues, rotation = torch.linalg.eigh(x.T @ x)
        basis, seen = x @ rotation, other @ rotation
    return Factors(basis.float(), eigenvalues.clamp_min(0).float(), seen.float())


def ridge_predict(
    train_x: np.ndarray,
    train_y: np.ndarray | torch.Tensor,
    test_x: np.ndarray,
    alphas: np.ndarray,
    splits: Sequence[Split],
    device: str = "cpu",
    at_once: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression with a penalty of its own for every voxel, chosen by cross-validated mean squared error.

    Minimises `|y - x w|^2 + alpha^2 |w|^2`: penalties are on the scale of singular values. Voxels are taken in groups
    that fit into the device's free memory, and the weights `w` are never formed. A group that does not fit is halved,
    down to `FEWEST_AT_ONCE` voxels; then the CPU takes over. There is no intercept: center the columns.

    Parameters
    ----------
    train_x, test_x : (rows, features) float32
    train_y : (rows, voxels) float32
        A tensor may be on the device already.
    alphas : (n_alphas,) float
    splits : list of (train rows, validation rows)
    device : str
        `cpu` or `cuda`.
    at_once : int, optional
        Voxels in a group; by default what half of the free memory takes.

    Returns
    -------
    predicted : (test rows, voxels) float32
    best_alpha : (voxels,) float64
    """
    alphas, n_voxels = np.asarray(alphas, np.float64), train_y.shape[1]
    predicted, best = np.empty((len(test_x), n_voxels), np.float32), np.empty(n_voxels)
    decomposed, start = None, 0
    while start < n_voxels:
        full = False
        try:
            if decomposed is None:
                decomposed = _decomposed(train_x, test_x, splits, device)
            at_once = at_once or _fitting(*decomposed, device)
            group = slice(start, start + at_once)
            predicted[:, group], best[group] = _group(*decomposed, train_y[:, group], alphas, device)
        except torch.OutOfMemoryError:
            if device == "cpu":
                raise
            full = True
        if not full:
            start += at_once
        elif decomposed is not None and at_once > FEWEST_AT_ONCE:
            at_once = max(at_once // 2, FEWEST_AT_ONCE)
        else:
            decomposed, at_once, device = None, None, "cpu"
        if full:
            torch.cuda.empty_cache()
    return predicted, best


def _decomposed(
    train_x: np.ndarray, test_x: np.ndarray, splits: Sequence[Split], device: str
) -> tuple[Factors, list[Part]]:
    """Factors of the whole design, and of each split's training rows."""
    x, held_out = (torch.as_tensor(a, dtype=torch.float32, device=device) for a in (train_x, test_x))
    parts = [(train, validation, factors(x[train], x[validation])) for train, validation in splits]
    return factors(x, held_out), parts


def _group(
    whole: Factors, parts: Sequence[Part], y: np.ndarray | torch.Tensor, alphas: np.ndarray, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions, (test rows, voxels), and penalties of a group of voxels."""
    if isinstance(y, np.ndarray):
        y = torch.from_numpy(np.ascontiguousarray(y))
    y = y.contiguous().to(device, torch.float32)
    chosen = alphas[_losses(parts, y, alphas).argmin(axis=0)]
    squared = torch.as_tensor(chosen**2, dtype=torch.float32, device=device)
    return whole.predict(whole.basis.T @ y, squared).cpu().numpy(), chosen


def _losses(parts: Sequence[Part], y: torch.Tensor, alphas: np.ndarray) -> np.ndarray:
    """Mean squared error of every penalty and voxel, averaged over splits; (n_alphas, voxels)."""
    total = torch.zeros(len(alphas), y.shape[1], device=y.device)
    for train, validation, split in parts:
        projected, truth = split.basis.T @ y[train], y[validation]
        for number, alpha in enumerate(alphas):
            total[number] += split.predict(projected, float(alpha**2)).sub_(truth).square_().mean(dim=0)
    return total.cpu().numpy()


def _fitting(whole: Factors, parts: Sequence[Part], device: str) -> int:
    """Voxels whose responses, projections and predictions fit into half of the free memory."""
    if device == "cpu":
        return VOXELS_AT_ONCE
    of_split = max(len(part.basis) + len(part.seen) * 3 + len(part.eigenvalues) for _, _, part in parts)
    floats = len(whole.basis) + max(of_split, 2 * len(whole.eigenvalues) + len(whole.seen))
    return max(int(SHARE_OF_FREE_MEMORY * torch.cuda.mem_get_info()[0] / (4 * floats)), FEWEST_AT_ONCE)
