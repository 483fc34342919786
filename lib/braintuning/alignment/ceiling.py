"""Noise ceilings: the correlation that a perfect model would reach."""

import numpy as np

from braintuning.alignment.encoding import correlation, moments
from braintuning.errors import InputError


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
