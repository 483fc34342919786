"""Noise ceilings: the correlation that a perfect model would reach."""

from collections.abc import Callable

import numpy as np

from braintuning.alignment.correlation import moments
from braintuning.alignment.stats import false_discovery_q
from braintuning.errors import InputError

N_NULL = 20
"""Draws of the null distribution of ceilings, each of every voxel."""


def noise_ceiling(repeats: np.ndarray) -> np.ndarray:
    """Noise ceiling: the correlation that a perfect model would reach with the mean response to repeated presentations.

    The square root of the signal power divided by the variance of the mean response: `CC_max` of Schoppe, Harper,
    Willmore, King & Schnupp (2016), equations 3 and 8.

    Parameters
    ----------
    repeats : (repeats, TRs, voxels) float
        Responses to at least two presentations of the same story.

    Returns
    -------
    ceiling : (voxels,) float64
        In (0, 1]; NaN where the estimated signal power is not positive.

    Raises
    ------
    InputError
        Fewer than two repeats.
    """
    n_repeats = len(repeats)
    if n_repeats < 2:
        raise InputError(f"noise ceiling: found {n_repeats} repeat of the test story, expected at least 2")
    variance_of_sum = np.var(repeats.sum(axis=0, dtype=np.float64), axis=0, ddof=1)
    sum_of_variances = sum(np.var(repeat, axis=0, ddof=1, dtype=np.float64) for repeat in repeats)
    signal_power = (variance_of_sum - sum_of_variances) / (n_repeats * (n_repeats - 1))
    variance_of_mean = variance_of_sum / n_repeats**2
    measurable = (signal_power > 0) & np.isfinite(moments(repeats.mean(axis=0, dtype=np.float64))[1])
    ratio = np.divide(signal_power, variance_of_mean, out=np.full(len(signal_power), np.nan), where=measurable)
    return np.sqrt(np.minimum(ratio, 1))


def null_ceilings(
    repeats: np.ndarray,
    rng: np.random.Generator,
    n_draws: int = N_NULL,
    measure: Callable[[np.ndarray], np.ndarray] = noise_ceiling,
) -> np.ndarray:
    """Ceilings of the same repeats, or people, with nothing in common; (n_draws, voxels), 0 where one is not positive.

    Each repeat is rotated in time by a number of TRs of its own, far from those of the others, so that noise keeps its
    autocorrelation and what voxels share. Shapes and errors are as of `measure`.
    """
    n_repeats, n_trs = repeats.shape[:2]
    drawn, apart = np.empty((n_draws, repeats.shape[2])), n_trs / max(n_repeats, 1)
    for draw in drawn:
        shifts = (rng.permutation(n_repeats) * apart + rng.uniform(0, apart / 2, n_repeats)).astype(int)
        draw[:] = measure(np.stack([np.roll(*pair, axis=0) for pair in zip(repeats, shifts, strict=True)]))
    return np.nan_to_num(drawn)


def ceiling_q(ceiling: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Q of the hypothesis that a voxel repeats nothing, (voxels,); NaN where the ceiling is.

    P is the share of all voxels' `null`, (draws, voxels), that is as large, `(b + 1) / (n + 1)`; the false discovery
    rate is controlled over voxels (Benjamini & Hochberg 1995). A voxel without a ceiling counts as p = 1.
    """
    return np.where(np.isfinite(ceiling), false_discovery_q(_ceiling_p(ceiling, null)), np.nan)


def noise_above(ceiling: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Voxels of pure noise expected above ceilings of 0, .01, ... 1; (101,) float64.

    The number of null voxels (Storey 2002: twice those with p above .5) times the share of `null` that is above.
    """
    n_null = min(2 * int((_ceiling_p(ceiling, null) > 0.5).sum()), len(ceiling))
    return np.array([n_null * (null > threshold / 100).mean() for threshold in range(101)])


def _ceiling_p(ceiling: np.ndarray, null: np.ndarray) -> np.ndarray:
    drawn = np.sort(null, axis=None)
    as_large = len(drawn) - np.searchsorted(drawn, np.nan_to_num(ceiling), side="left")
    return (as_large + 1) / (len(drawn) + 1)


def leave_one_out_correlation(responses: np.ndarray) -> np.ndarray:
    """Correlation of each person with the mean of all others (Hasson et al. 2004), where there are at least two.

    Responses are (people, TRs, regions), NaN where a person has none, which then counts neither for them nor in the
    mean; correlations are (people, regions) float64, NaN of a region that is constant in a person.
    """
    known = np.isfinite(responses)
    values = np.where(known, responses, 0).astype(np.float64)
    total, n_others = values.sum(axis=0), known.sum(axis=0) - known
    others = (total - values) / np.maximum(n_others, 1)
    return np.array([_correlation(*pair) for pair in zip(values, others, known & (n_others > 0), strict=True)])


def _correlation(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Pearson r of matching columns over the TRs of each that count, (TRs, columns) bool; NaN where one is constant."""
    n = np.maximum(where.sum(axis=0), 1)
    a, b = (np.where(where, values - (values * where).sum(axis=0) / n, 0) for values in (a, b))
    scale = np.sqrt((a * a).sum(axis=0) * (b * b).sum(axis=0))
    return np.divide((a * b).sum(axis=0), scale, out=np.full(len(n), np.nan), where=scale > 1e-9 * n)


def shared_ceiling(responses: np.ndarray) -> np.ndarray:
    """Correlation that a model of what people share can be expected to reach with one of them; (regions,) float64.

    Mean over people of `leave_one_out_correlation`, a little low, since the mean of the others has noise of its own;
    NaN where that is not positive.
    """
    mean = np.ma.masked_invalid(leave_one_out_correlation(responses)).mean(axis=0).filled(np.nan)
    return np.where(mean > 0, mean, np.nan)


def split_half_ceiling(responses: np.ndarray, rng: np.random.Generator, n_splits: int = 50) -> np.ndarray:
    """Highest correlation that a perfect model can reach with the mean over people; (regions,) float64.

    Square root of the mean's reliability: the correlation `r` of the means of two halves of people, mean over random
    halves, stepped up to twice as many, `2 r / (1 + r)` (Spearman 1910; Brown 1910). A region that nobody in
    a half has does not count there. NaN where `r` is not positive. Responses are as in `leave_one_out_correlation`.
    """
    people, found = np.ma.masked_invalid(responses.astype(np.float64)), []
    for _ in range(n_splits):
        halves = [people[half].mean(axis=0) for half in np.array_split(rng.permutation(len(people)), 2)]
        known = ~np.any([np.ma.getmaskarray(half) for half in halves], axis=0)
        found.append(_correlation(*(half.filled(0) for half in halves), known))
    r = np.ma.masked_invalid(found).mean(axis=0).filled(np.nan)
    r = np.where(r > 0, r, np.nan)
    return np.sqrt(2 * r / (1 + r))
