"""Noise ceilings: the correlation that a perfect model would reach."""

import numpy as np

from braintuning.alignment.encoding import correlation, moments
from braintuning.alignment.stats import false_discovery_q
from braintuning.errors import InputError

N_NULL = 20
"""Draws of the null distribution of ceilings, each of every voxel."""


def noise_ceiling(repeats: np.ndarray) -> np.ndarray:
    """Highest correlation that a perfect model can reach with the mean response.

    Square root of signal power over the variance of the mean response: `CC_max` of Schoppe, Harper, Willmore, King &
    Schnupp (2016), equations 3 and 8.

    Parameters
    ----------
    repeats : (repeats, TRs, voxels) float
        Responses to the same story, two presentations or more.

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


def null_ceilings(repeats: np.ndarray, rng: np.random.Generator, n_draws: int = N_NULL) -> np.ndarray:
    """Noise ceilings of the same repeats with nothing in common; (n_draws, voxels), 0 where signal power is negative.

    Each repeat is rotated in time by a number of TRs of its own, far from those of the others, so that noise keeps its
    autocorrelation and what voxels share. Shapes and errors are as in `noise_ceiling`.
    """
    n_repeats, n_trs = repeats.shape[:2]
    drawn, apart = np.empty((n_draws, repeats.shape[2])), n_trs / max(n_repeats, 1)
    for draw in drawn:
        shifts = (rng.permutation(n_repeats) * apart + rng.uniform(0, apart / 2, n_repeats)).astype(int)
        draw[:] = noise_ceiling(np.stack([np.roll(*pair, axis=0) for pair in zip(repeats, shifts, strict=True)]))
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
    """Correlation of each participant with the mean of all others (Hasson et al. 2004).

    Responses are (participants, TRs, regions), correlations (participants, regions) float64.
    """
    others = (responses.sum(axis=0) - responses) / (len(responses) - 1)
    return np.stack([correlation(one, rest) for one, rest in zip(responses, others, strict=True)])


def group_mean_ceiling(responses: np.ndarray) -> np.ndarray:
    """Highest correlation that a perfect model can reach with the mean over participants; (regions,) float64.

    Square root of the reliability of a mean of `n` participants whose mean pairwise correlation is `r`,
    `n r / (1 + (n - 1) r)` (Spearman 1910; Brown 1910); NaN where `r` is not positive. Responses are (participants,
    TRs, regions), z-scored over TRs.
    """
    n = len(responses)
    pairs = np.triu_indices(n, 1)
    pairwise = np.stack([np.corrcoef(responses[..., region])[pairs].mean() for region in range(responses.shape[-1])])
    pairwise = np.where(pairwise > 0, pairwise, np.nan)
    return np.sqrt(n * pairwise / (1 + (n - 1) * pairwise))
