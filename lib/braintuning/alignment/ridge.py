"""Ridge regression for many voxels: one decomposition for all of them, and predictions instead of weights.

Himalaya 0.4.11 chooses the same penalties in over 99.9 % of voxels and predicts the same to 2e-5, but takes, on two
threads of an AMD EPYC, 2.8 times the processor time for 550 training TRs, 1,536 features and 13,700 voxels; 2.5 times
for 2,000, 3,072 and 20,000; and 4.0 times for 4,000, 1,536 and 10,000: `benchmarks/ridge.py`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import joblib
import numpy as np
import torch

Split = tuple[np.ndarray, np.ndarray]

VOXELS_AT_ONCE = 4000
SMALL, KEPT = 500, 64
"""The decompositions of the last `KEPT` designs of at most `SMALL` training TRs are kept: people who heard one story
share a design."""
FEWEST_AT_ONCE = 256
SHARE_OF_FREE_MEMORY = 0.5
NEAR = 3e-3
"""Two eigenvalues are too near for `Errors` to divide by their difference: as a share of the larger plus a penalty."""
SPARSE = 0.05
"""Where fewer pairs of eigenvalues are near, a CPU multiplies by these alone, three times as fast as by the matrix."""


class Factors(NamedTuple):
    """A design's eigenvectors, ready to predict some TRs: `seen @ ((basis.T @ y) / (eigenvalues + alpha^2))`.

    `basis`, (training TRs, k), and `seen`, (TRs to predict, k), are float32; `eigenvalues`, (k,) float64, are squared
    singular values of the training design.
    """

    basis: torch.Tensor
    eigenvalues: torch.Tensor
    seen: torch.Tensor

    def predict(self, y: torch.Tensor, squared: torch.Tensor) -> torch.Tensor:
        """Predictions, (TRs to predict, voxels), from y, (training TRs, voxels), and squared penalties, (voxels,)."""
        return self.seen @ ((self.basis.T @ y) / (self.eigenvalues.float()[:, None] + squared))


class Errors(NamedTuple):
    """Summed squared errors of every penalty in a split's validation TRs, without a prediction.

    With `p = basis.T @ y`, `d_k = 1 / (eigenvalue_k + alpha^2)` and `m = seen.T @ seen`, the error is
    `|truth|^2 - 2 sum_k d_k p_k (seen.T @ truth)_k + sum_kl d_k d_l p_k p_l m_kl`. As `d_k d_l` is
    `(d_k - d_l) / (eigenvalue_l - eigenvalue_k)`, the double sum is one over k of `d_k`, whose factors do not depend on
    the penalty: one matrix product serves all of them. Pairs of eigenvalues too close to divide by their difference
    (`NEAR`), including each with itself, use the mean of `d_k^2` and `d_l^2` for `d_k d_l`, an error below
    `NEAR^2 / 2` of it. In float32 errors are right to about a millionth of `|truth|^2`, or of themselves where larger;
    to a hundred-thousandth where a penalty is far too small.

    `shrinkage`, (n_alphas, k) float64, is `d`; `apart`, (k, k) float32, is `m_kl / (eigenvalue_l - eigenvalue_k)` where
    that can be had, and `near` is `m_kl` elsewhere.
    """

    train: np.ndarray
    validation: np.ndarray
    factors: Factors
    shrinkage: torch.Tensor
    apart: torch.Tensor
    near: torch.Tensor

    def __call__(self, y: torch.Tensor) -> torch.Tensor:
        """Errors, (n_alphas, voxels) float64, from all TRs of y, (TRs, voxels) float32."""
        truth, p = y[self.validation], self.factors.basis.T @ y[self.train]
        linear = (p * (self.apart @ p - self.factors.seen.T @ truth)).double()
        square = (p * (self.near @ p)).double()
        return truth.double().square().sum(dim=0) + 2 * self.shrinkage @ linear + self.shrinkage**2 @ square


def errors_of(train: np.ndarray, validation: np.ndarray, factors: Factors, alphas: np.ndarray) -> Errors:
    """`Errors` of a split; alphas, (n_alphas,), are penalties on the scale of singular values."""
    squared = torch.as_tensor(alphas**2, dtype=torch.float64, device=factors.basis.device)
    damped = factors.eigenvalues + squared.min()
    difference = factors.eigenvalues[None, :] - factors.eigenvalues[:, None]
    near = difference.abs() < NEAR * torch.maximum(damped[None, :], damped[:, None])
    products = factors.seen.double().T @ factors.seen.double()
    apart = (products / difference.masked_fill(near, torch.inf)).float()
    shrinkage = 1 / (factors.eigenvalues + squared[:, None])
    close = (products * near).float()
    if close.device.type == "cpu" and near.double().mean() < SPARSE:
        close = close.to_sparse()
    return Errors(train, validation, factors, shrinkage, apart, close)


def ridge_predict(
    train_x: np.ndarray,
    train_y: np.ndarray | torch.Tensor,
    test_x: np.ndarray,
    alphas: np.ndarray,
    splits: Sequence[Split],
    device: str = "cpu",
) -> tuple[np.ndarray, np.ndarray]:
    """Ridge regression with a penalty of its own for every voxel, chosen by cross-validated mean squared error.

    Minimises `|y - x w|^2 + alpha^2 |w|^2`: penalties are on the scale of singular values. Voxels are taken in groups
    that fit into the device's free memory, and the weights `w` are never formed. A group that does not fit is halved,
    down to `FEWEST_AT_ONCE` voxels; then the CPU takes over. There is no intercept: centre the columns.

    Parameters
    ----------
    train_x, test_x : (TRs, features) float32
    train_y : (TRs, voxels) float32
        A tensor may be on the device already.
    alphas : (n_alphas,) float
    splits : sequence of (training TRs, validation TRs)

    Returns
    -------
    predicted : (test TRs, voxels) float32
    best_alpha : (voxels,) float64
    """
    alphas, n_voxels = np.asarray(alphas, np.float64), train_y.shape[1]
    predicted, best = np.empty((len(test_x), n_voxels), np.float32), np.empty(n_voxels)
    decomposed, start = None, 0
    while start < n_voxels:
        try:
            if decomposed is None:
                if device != "cpu" or len(train_x) > SMALL:
                    decomposed = _decomposed(train_x, test_x, splits, alphas, device)
                else:
                    decomposed = _decomposed_once(train_x, test_x, splits, alphas)
                at_once = _fitting(*decomposed, device)
            group = slice(start, start + at_once)
            predicted[:, group], best[group] = _group(*decomposed, train_y[:, group], alphas, device)
            start += at_once
            continue
        except torch.OutOfMemoryError:
            if device == "cpu":
                raise
        if decomposed is not None and at_once > FEWEST_AT_ONCE:
            at_once = max(at_once // 2, FEWEST_AT_ONCE)
        else:
            decomposed, device = None, "cpu"
        torch.cuda.empty_cache()
    return predicted, best


_kept: dict[str, tuple[Factors, list[Errors]]] = {}


def _decomposed_once(*given: object) -> tuple[Factors, list[Errors]]:
    """`_decomposed` on the CPU, kept for the next call with the same numbers."""
    key = joblib.hash(given)
    if key not in _kept:
        _kept[key] = _decomposed(*given, "cpu")
        if len(_kept) > KEPT:
            del _kept[next(iter(_kept))]
    return _kept[key]


def _decomposed(
    train_x: np.ndarray, test_x: np.ndarray, splits: Sequence[Split], alphas: np.ndarray, device: str
) -> tuple[Factors, list[Errors]]:
    """Factors of the whole design and errors of each split, in float64, over TRs or features, whichever are fewer."""
    x, held_out = (torch.tensor(a, dtype=torch.float64, device=device) for a in (train_x, test_x))
    if len(x) < x.shape[1]:
        products = x @ x.T
        whole = _over_rows(products, held_out @ x.T)
        parts = [_over_rows(products[train][:, train], products[validation][:, train]) for train, validation in splits]
    else:
        whole = _over_features(x, held_out)
        parts = [_over_features(x[train], x[validation]) for train, validation in splits]
    return whole, [errors_of(*split, part, alphas) for split, part in zip(splits, parts, strict=True)]


def _over_rows(products: torch.Tensor, products_with_others: torch.Tensor) -> Factors:
    """Factors from the scalar products of training TRs with each other, and of the TRs to predict with them."""
    eigenvalues, basis = torch.linalg.eigh(products)
    return Factors(basis.float(), eigenvalues.clamp_min(0), (products_with_others @ basis).float())


def _over_features(x: torch.Tensor, others: torch.Tensor) -> Factors:
    """Factors from a training design, (TRs, features), and the TRs to predict."""
    eigenvalues, rotation = torch.linalg.eigh(x.T @ x)
    return Factors((x @ rotation).float(), eigenvalues.clamp_min(0), (others @ rotation).float())


def _group(
    whole: Factors, parts: Sequence[Errors], y: np.ndarray | torch.Tensor, alphas: np.ndarray, device: str
) -> tuple[np.ndarray, np.ndarray]:
    """Predictions, (test TRs, voxels), of a group of voxels, and the penalties with the smallest errors over splits."""
    if isinstance(y, np.ndarray):
        y = torch.from_numpy(np.ascontiguousarray(y))
    y = y.contiguous().to(device, torch.float32)
    errors = sum(part(y) / len(part.validation) for part in parts)
    chosen = alphas[errors.argmin(dim=0).cpu().numpy()]
    squared = torch.as_tensor(chosen**2, dtype=torch.float32, device=device)
    return whole.predict(y, squared).cpu().numpy(), chosen


def _fitting(whole: Factors, parts: Sequence[Errors], device: str) -> int:
    """Voxels whose responses, projections and errors fit into half of the free memory."""
    if device == "cpu":
        return VOXELS_AT_ONCE
    of_split = max(len(part.train) + 3 * len(part.validation) + 8 * len(part.near) for part in parts)
    floats = len(whole.basis) + max(of_split, 3 * len(whole.eigenvalues) + len(whole.seen))
    return max(int(SHARE_OF_FREE_MEMORY * torch.cuda.mem_get_info()[0] / (4 * floats)), FEWEST_AT_ONCE)
