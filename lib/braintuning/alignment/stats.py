"""Statistics of alignment: over participants, over blocks of time, over voxels."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from braintuning.errors import InputError

FEWEST_PARTICIPANTS = 6
"""With fewer, no signed-rank test can reach p < .05 on both sides (2 / 2^5 = .0625)."""
FEWEST_TO_RESAMPLE = 50
"""With fewer values a percentile interval is too narrow: of two it covers 50 %, of four 80 %, of eight 87 %."""


def signed_rank_p(differences: Sequence[float]) -> float:
    """Two-sided p of the signed-rank test that paired differences lie around zero (Wilcoxon 1945).

    Parameters
    ----------
    differences : (participants,) float

    Returns
    -------
    p : float
        NaN with fewer than `FEWEST_PARTICIPANTS` participants in whom the difference is defined (not NaN), or if all
        differences are zero.
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
    """Two-sided p that not everybody's difference has the same sign (intersection-union test, Berger 1982).

    Parameters
    ----------
    differences : sequence of (difference, p)
        Of each participant, p two-sided.

    Returns
    -------
    p : float
        Twice the largest one-sided p towards the sign of the mean, at most 1.
    """
    values = np.asarray(differences, float)
    agrees = np.sign(values[:, 0]) == np.sign(values[:, 0].mean())
    return float(min(1.0, 2 * np.where(agrees, values[:, 1] / 2, 1 - values[:, 1] / 2).max()))


def bonferroni_p(p: Sequence[float]) -> float:
    """P that in nobody there is a difference: the smallest of several p times their number, at most 1; NaN of none.

    It holds however the p values depend on each other (Dunn 1961), as they do when all heard the same story.
    """
    p = np.asarray(p, float)
    p = p[np.isfinite(p)]
    return float(min(1.0, len(p) * p.min())) if len(p) else float("nan")


def mean_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Interval of the mean of (n,) values after Student (1908), which takes them to be drawn from a normal law.

    NaN bounds with fewer than two values.
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def mean_p(values: Sequence[float]) -> float:
    """Two-sided p that the mean of (n,) values is zero, by the t test that belongs to `mean_interval`; NaN below two.

    Values that are all the same give 0, or 1 where they are zero.
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        return float("nan")
    if values.std() == 0:
        return float(not values.any())
    return float(stats.ttest_1samp(values, 0.0).pvalue)


def bootstrap_interval(
    values: np.ndarray, rng: np.random.Generator, level: float = 0.95, n_resamples: int = 2000
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of (n,) values (Efron 1979); of fewer than 50, `mean_interval`.

    Over voxels it says how evenly a mean is made up in these recordings, not how sure it is for other people or other
    sound: neighbouring voxels share noise, so that it is too narrow for that. `block_values` has the one over time.
    """
    values = np.asarray(values, float)
    if len(values) < FEWEST_TO_RESAMPLE:
        return mean_interval(values, level)
    result = stats.bootstrap(
        (values,), np.mean, confidence_level=level, n_resamples=n_resamples, batch=200, method="percentile", rng=rng
    )
    return float(result.confidence_interval.low), float(result.confidence_interval.high)


def _blocks(rows: np.ndarray, block_rows: int) -> np.ndarray:
    """Cut (rows, voxels) into whole blocks, (blocks, block_rows, voxels) float64; rows left over are not used."""
    n_blocks = len(rows) // block_rows
    if n_blocks < 2:
        raise InputError(f"block permutation: found {len(rows)} rows, expected at least two blocks of {block_rows}")
    return np.asarray(rows[: n_blocks * block_rows], np.float64).reshape(n_blocks, block_rows, -1)


def _standardised(blocks: np.ndarray) -> np.ndarray:
    deviations = blocks - blocks.mean(axis=(0, 1))
    scale = np.sqrt((deviations**2).mean(axis=(0, 1)))
    return deviations / np.where(scale > 0, scale, np.inf)


def _p(null: np.ndarray, observed: float) -> float:
    """(b + 1) / (n + 1), b draws of the null being at least as large as what was observed (Phipson & Smyth 2010).

    NaN where the observed value or one of the null is not a number.
    """
    if not (np.isfinite(observed) and np.isfinite(null).all()):
        return float("nan")
    return float((1 + np.sum(null >= observed - 1e-12)) / (len(null) + 1))


def correlation_p(
    predicted: np.ndarray,
    measured: np.ndarray,
    weights: np.ndarray,
    rng: np.random.Generator,
    block_rows: int = 10,
    n_permutations: int = 1000,
) -> float:
    """One-sided p of a mean correlation: predictions against measurements whose blocks of rows changed places.

    Parameters
    ----------
    predicted, measured : (rows, voxels) float
    weights : (voxels,) float
        Weight of each voxel's correlation in the mean: 1, or 1 over its noise ceiling.
    rng : numpy Generator
    block_rows : int
        Rows that stay together.
    n_permutations : int

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
    p, m = (_standardised(_blocks(rows, block_rows)) for rows in (predicted, measured))
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

    If they did not, it would not matter which of the two predicted a block of rows: the null swaps them block by block.
    Blocks are taken to be independent. Where they are not, the test is too easy on a difference: of two models that do
    not differ, in AR(1) noise of .9 and blocks of 10 rows, it finds 13 % different at p < .05; at .35, as fMRI has
    after a few seconds, 6 %.

    Parameters
    ----------
    first, second, measured : (rows, voxels) float
    weights, rng, block_rows, n_permutations
        As in `correlation_p`.

    Returns
    -------
    p : float
        NaN as in `correlation_p`.

    Raises
    ------
    InputError
        Fewer than two blocks.
    """
    if not np.shape(measured)[1]:
        return float("nan")
    a, b, m = (_standardised(_blocks(rows, block_rows)) for rows in (first, second, measured))
    sums = {name: _block_sums(model, m) for name, model in (("a", a), ("b", b))}
    swapped = rng.random((n_permutations, len(a))) < 0.5
    swapped = np.concatenate([np.zeros((1, len(a)), bool), swapped]).astype(np.float64)
    n_rows = a.shape[0] * block_rows
    gap = _mixed_correlation(swapped, sums["b"], sums["a"], n_rows) - _mixed_correlation(
        swapped, sums["a"], sums["b"], n_rows
    )
    means = np.abs(gap @ weights)
    return _p(means[1:], means[0])


def _block_sums(model: np.ndarray, measured: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums over each block of the prediction, its square, and its product with the measurement; (blocks, voxels)."""
    return model.sum(axis=1), (model**2).sum(axis=1), (model * measured).sum(axis=1)


def _mixed_correlation(swapped: np.ndarray, kept: tuple, other: tuple, n_rows: int) -> np.ndarray:
    """Correlation with the measurement of `kept` whose `swapped` (draws, blocks) come from `other`; (draws, voxels)."""
    total, squares, products = (k.sum(axis=0) + swapped @ (o - k) for k, o in zip(kept, other, strict=True))
    variance = squares / n_rows - (total / n_rows) ** 2
    return products / n_rows / np.sqrt(np.where(variance > 1e-12, variance, np.inf))


def block_values(
    first: np.ndarray, second: np.ndarray | None, measured: np.ndarray, weights: np.ndarray, block_rows: int = 10
) -> np.ndarray:
    """What each block of rows says of a mean correlation, or of the difference between two models'.

    The jackknife's pseudo-values (Tukey 1958): n times the whole minus n - 1 times what is left without the block.
    Their `mean_interval` is that of the mean over other stretches of such recordings. Noise that voxels share is in it,
    since all voxels of a block go together. Values of several participants in the same blocks may be averaged first.

    Parameters
    ----------
    first, measured : (rows, voxels) float
    second : (rows, voxels) float, or None
        The other model; without one the values are those of the first's mean correlation.
    weights : (voxels,) float
        As in `correlation_p`.
    block_rows : int

    Returns
    -------
    values : (blocks,) float
        NaN without a voxel.

    Raises
    ------
    InputError
        Fewer than two blocks.
    """
    if not np.shape(measured)[1]:
        return np.full(len(measured) // block_rows, np.nan)
    m = _standardised(_blocks(measured, block_rows))
    whole, without = 0.0, 0.0
    for model, sign in ((first, 1), (second, -1)):
        if model is not None:
            total, left = _correlations_without_blocks(_standardised(_blocks(model, block_rows)), m, weights)
            whole, without = whole + sign * total, without + sign * left
    return len(m) * whole - (len(m) - 1) * without


def _correlations_without_blocks(
    model: np.ndarray, measured: np.ndarray, weights: np.ndarray
) -> tuple[float, np.ndarray]:
    """Weighted mean correlation of (blocks, rows, voxels) arrays, of all blocks and with each left out in turn."""

    def correlation(sums: list[np.ndarray], n_rows: int) -> np.ndarray:
        model_sum, model_squares, products, sum_, squares = (s / n_rows for s in sums)
        variance = (model_squares - model_sum**2) * (squares - sum_**2)
        return (products - model_sum * sum_) / np.sqrt(np.where(variance > 1e-12, variance, np.inf)) @ weights

    sums = [*_block_sums(model, measured), measured.sum(axis=1), (measured**2).sum(axis=1)]
    totals, n_rows = [s.sum(axis=0) for s in sums], model.shape[0] * model.shape[1]
    left = [total - s for total, s in zip(totals, sums, strict=True)]
    n_voxels = model.shape[2]
    return correlation(totals, n_rows) / n_voxels, correlation(left, n_rows - model.shape[1]) / n_voxels
