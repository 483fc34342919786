"""Significance tests between conditions."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from braintuning.alignment.correlation import zscore
from braintuning.errors import InputError

FEWEST_PARTICIPANTS = 6
"""With fewer, no two-sided signed-rank test can reach p < .05 (2 / 2^5 = .0625)."""
INTEGRAL_TIMES = 6
FEWEST_BLOCKS = 8
"""With fewer, a test that swaps blocks cannot fall below p = .015."""


def signed_rank_p(differences: Sequence[float]) -> float:
    """Two-sided p of the signed-rank test that paired differences lie around zero (Wilcoxon 1945).

    NaN with fewer than `FEWEST_PARTICIPANTS` participants whose difference is not NaN, or if all differences are zero.
    """
    differences = np.asarray(differences, float)
    differences = differences[np.isfinite(differences)]
    if len(differences) < FEWEST_PARTICIPANTS or not differences.any():
        return float("nan")
    return float(stats.wilcoxon(differences).pvalue)


def false_discovery_q(p: Sequence[float]) -> np.ndarray:
    """Adjusted p values that control the false discovery rate (Benjamini & Hochberg 1995); NaN stays NaN, uncounted."""
    p = np.asarray(p, float)
    q, known = np.full(p.shape, np.nan), np.isfinite(p)
    if known.any():
        q[known] = stats.false_discovery_control(p[known])
    return q


def conjunction_p(differences: Sequence[tuple[float, float]]) -> float:
    """Two-sided p of the null hypothesis that differences do not all have one sign (Berger 1982, intersection-union).

    From each participant's (difference, two-sided p): twice the largest one-sided p towards the sign of the mean, at
    most 1; NaN where one is not known.
    """
    values = np.asarray(differences, float)
    agrees = np.sign(values[:, 0]) == np.sign(values[:, 0].mean())
    return float(np.minimum(1.0, 2 * np.where(agrees, values[:, 1] / 2, 1 - values[:, 1] / 2).max()))


def bonferroni_p(p: Sequence[float]) -> float:
    """P of the null hypothesis that nobody has a difference: the smallest p times their number, at most 1; NaN of none.

    It holds however the p values depend on each other (Dunn 1961), as they do when all listened to the same story.
    """
    p = np.asarray(p, float)
    p = p[np.isfinite(p)]
    return float(min(1.0, len(p) * p.min())) if len(p) else float("nan")


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the mean of (n,) normally distributed values (Student 1908); NaN with fewer than two."""
    values = np.asarray(values, float)
    if len(values) < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def correlation_p(
    predicted: np.ndarray,
    measured: np.ndarray,
    weights: np.ndarray,
    rng: np.random.Generator,
    block_rows: int = 10,
    n_permutations: int = 1000,
) -> float:
    """One-sided p of a mean correlation, against predictions of measurements whose blocks of TRs are permuted.

    Parameters
    ----------
    predicted, measured : (TRs, voxels) float
    weights : (voxels,) float
        Weight of each voxel's correlation in the mean: 1, or 1 over its noise ceiling.
    block_rows : int
        TRs that stay together, from `block_length`.

    Returns
    -------
    p : float
        At least 1 / (n_permutations + 1); NaN without a voxel, or with a prediction or measurement that is NaN.

    Raises
    ------
    InputError
        Fewer than two blocks.
    """
    if not np.shape(measured)[1]:
        return float("nan")
    p, m = (_standard_blocks(trs, block_rows) for trs in (predicted, measured))
    products = np.einsum("itv,jtv,v->ij", p, m, weights, optimize=True) / (p.shape[0] * block_rows * p.shape[2])
    places = np.arange(len(p))
    null = np.array([products[places, rng.permutation(len(p))].sum() for _ in range(n_permutations)])
    return _p(null, products.trace())


def difference_p(
    first: np.ndarray,
    second: np.ndarray,
    measured: np.ndarray,
    weights: np.ndarray,
    rng: np.random.Generator,
    block_rows: int = 10,
    n_permutations: int = 1000,
) -> float:
    """Two-sided p that two models' mean correlations with the same measurements differ.

    Under the null hypothesis the models' predictions can be swapped block by block. Blocks are taken to be independent;
    `block_length` says how long they must be, and how nearly that holds. Shapes, NaN and errors are as in
    `correlation_p`.
    """
    if not np.shape(measured)[1]:
        return float("nan")
    a, b, m = (_standard_blocks(trs, block_rows) for trs in (first, second, measured))
    swapped = rng.random((n_permutations, len(a))) < 0.5
    swapped = np.concatenate([np.zeros((1, len(a)), bool), swapped]).astype(np.float64)
    sums, n_trs = (_block_sums(a, m), _block_sums(b, m)), a.shape[0] * block_rows

    def mixed(kept: list[np.ndarray], other: list[np.ndarray]) -> np.ndarray:
        """Correlation of `kept` whose `swapped` blocks come from `other`; (draws, voxels)."""
        totals = [k.sum(axis=0) + swapped @ (o - k) for k, o in zip(kept, other, strict=True)]
        return _correlation([*totals, 0, n_trs], n_trs)

    means = np.abs((mixed(*sums[::-1]) - mixed(*sums)) @ weights)
    return _p(means[1:], means[0])


def tr_values(first: np.ndarray, second: np.ndarray | None, measured: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Contribution of each TR to a mean correlation, or to the difference between two models'; (TRs,).

    The jackknife's pseudo-values (Tukey 1958): n times the whole minus n - 1 times what is left without the TR. Values
    of several participants at the same TRs may be averaged. Without a `second` model they are those of the first's mean
    correlation; NaN without a voxel. Shapes are as in `correlation_p`.
    """
    n_trs, n_voxels = np.shape(measured)
    if not n_voxels:
        return np.full(n_trs, np.nan)
    m = _standard_blocks(measured, 1)
    whole, without = 0.0, 0.0
    for model, sign in ((first, 1), (second, -1)):
        if model is not None:
            sums = [*_block_sums(_standard_blocks(model, 1), m), m.sum(axis=1), (m**2).sum(axis=1)]
            totals = [s.sum(axis=0) for s in sums]
            left = [total - s for total, s in zip(totals, sums, strict=True)]
            whole = whole + sign * (_correlation(totals, n_trs) @ weights / n_voxels)
            without = without + sign * (_correlation(left, n_trs - 1) @ weights / n_voxels)
    return n_trs * whole - (n_trs - 1) * without


def block_length(values: np.ndarray, at_least: int) -> int:
    """TRs that stay together in a test or interval, so many that blocks of (TRs,) `tr_values` are nearly independent.

    Six integral times of the values' autocorrelation, but at least `at_least` and, beyond that, at most an eighth of
    the TRs. The integral time is (1 + r) / (1 - r), as of a first-order autoregression, r being the correlation of
    neighbours plus its bias (1 + 3 r) / n (Marriott & Pope 1954). Values that are constant or not all numbers give
    `at_least`. The block length that minimises the error of a variance (Politis & White 2004) is a third of it, and
    leaves tests too liberal.

    `benchmarks/results/blocks.md` says how often tests then find what is not there in AR(1) noise, and how often
    `block_interval` holds the truth: about as they say up to an autocorrelation of .8 from one TR to the next.
    """
    values = np.asarray(values, float)
    deviations, n_trs = values - values.mean(), len(values)
    power = deviations @ deviations
    if not power > 1e-24 * n_trs:
        return at_least
    r = deviations[1:] @ deviations[:-1] / power
    r = np.clip(r + (1 + 3 * r) / n_trs, 0.0, 0.99)
    return max(at_least, min(round(INTEGRAL_TIMES * (1 + r) / (1 - r)), n_trs // FEWEST_BLOCKS))


def block_interval(values: np.ndarray, block_rows: int) -> tuple[float, float]:
    """95 % interval of the mean of (TRs,) `tr_values`, over blocks: `mean_interval` of the means of whole ones.

    It is that of other such recordings of these participants, noise that voxels share included, since all voxels of a
    block go together. NaN with fewer than two blocks.
    """
    n_blocks = len(values) // block_rows
    return mean_interval(np.reshape(values[: n_blocks * block_rows], (n_blocks, block_rows)).mean(axis=1))


def _standard_blocks(trs: np.ndarray, block_rows: int) -> np.ndarray:
    """Whole blocks of z-scored (TRs, voxels), (blocks, block_rows, voxels) float64; TRs left over are not used."""
    n_blocks = len(trs) // block_rows
    if n_blocks < 2:
        raise InputError(f"block permutation: found {len(trs)} rows, expected at least two blocks of {block_rows}")
    return zscore(np.asarray(trs[: n_blocks * block_rows], np.float64)).reshape(n_blocks, block_rows, -1)


def _block_sums(model: np.ndarray, measured: np.ndarray) -> list[np.ndarray]:
    """Sums over each block of the prediction, its square, and its product with the measurement; (blocks, voxels)."""
    return [model.sum(axis=1), (model**2).sum(axis=1), (model * measured).sum(axis=1)]


def _correlation(sums: Sequence[np.ndarray | float], n_trs: int) -> np.ndarray:
    """Pearson r from sums of model, its square, its product with the measurement, the measurement and its square."""
    model, model_squares, products, measured, squares = (total / n_trs for total in sums)
    variance = (model_squares - model**2) * (squares - measured**2)
    return (products - model * measured) / np.sqrt(np.where(variance > 1e-12, variance, np.inf))


def _p(null: np.ndarray, observed: float) -> float:
    """(b + 1) / (n + 1), b draws of the null being at least as large as what was observed (Phipson & Smyth 2010).

    NaN where the observed value or one of the null is not a number.
    """
    if not (np.isfinite(observed) and np.isfinite(null).all()):
        return float("nan")
    return float((1 + np.sum(null >= observed - 1e-12)) / (len(null) + 1))
