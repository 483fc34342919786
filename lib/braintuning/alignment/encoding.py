"""Encoding models: ridge regression from features to responses, its score, and the noise ceiling."""

import numpy as np
import torch

from braintuning.alignment.ridge import Split, ridge_predict
from braintuning.errors import InputError
from braintuning.study.settings import Encoding


def moments(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column of (rows, columns) data; infinity for the latter of a constant column.

    Columns are constant when they vary by less than float32 resolves. Both are (columns,) float64.
    """
    mean = data.mean(axis=0, dtype=np.float64)
    deviation = np.sqrt(((data - mean) ** 2).mean(axis=0))
    return mean, np.where(deviation > 1e-6 * np.abs(mean), deviation, np.inf)


def zscore(data: np.ndarray) -> np.ndarray:
    """Each column with mean 0 and standard deviation 1; a constant column becomes 0. Shape and dtype are kept."""
    mean, deviation = moments(data)
    return ((data - mean) / deviation).astype(data.dtype)


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson r of matching columns of two (rows, columns) arrays; (columns,), NaN where a column is constant."""
    (mean_a, deviation_a), (mean_b, deviation_b) = moments(a), moments(b)
    covariance = ((a - mean_a) * (b - mean_b)).mean(axis=0)
    return np.where(np.isinf(deviation_a + deviation_b), np.nan, covariance / (deviation_a * deviation_b))


def noise_ceiling(repeats: np.ndarray) -> np.ndarray:
    """Highest correlation that a perfect model can reach with the mean response.

    Signal power over the variance of the mean response, square root taken: `CC_max` of Schoppe, Harper, Willmore, King
    & Schnupp (2016), equations 3 and 8. NaN where the estimated signal power is not positive, so that nothing is
    divided by it.

    Parameters
    ----------
    repeats : (repeats, rows, voxels) float
        Responses to the same story, two presentations or more.

    Returns
    -------
    ceiling : (voxels,) float64
        In (0, 1], or NaN.

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


def chunked_splits(
    n_rows: int, n_splits: int, chunk_rows: int, fraction: float, rng: np.random.Generator
) -> list[Split]:
    """Random splits of a time series into training and validation rows, whole chunks at a time.

    Parameters
    ----------
    n_rows : int
        Rows to split.
    n_splits : int
        Splits to draw.
    chunk_rows : int
        Consecutive rows that stay together; the last chunk takes what is left over.
    fraction : float
        Share of the rows that validates.
    rng : numpy Generator

    Returns
    -------
    splits : list of (train, validation), sorted row indices int64

    Raises
    ------
    InputError
        Fewer than two chunks.
    """
    n_chunks = n_rows // chunk_rows
    if n_chunks < 2:
        raise InputError(f"encoding model: found {n_rows} training rows, expected at least two chunks of {chunk_rows}")
    chunk_of_row = np.minimum(np.arange(n_rows) // chunk_rows, n_chunks - 1)
    n_validation = min(max(round(fraction * n_chunks), 1), n_chunks - 1)
    splits = []
    for _ in range(n_splits):
        validates = np.isin(chunk_of_row, rng.choice(n_chunks, n_validation, replace=False))
        splits.append((np.flatnonzero(~validates), np.flatnonzero(validates)))
    return splits


def alphas_of(settings: Encoding) -> np.ndarray:
    """The study's penalties, log-spaced; (n_alphas,) float64."""
    return np.logspace(settings.log10_alpha_min, settings.log10_alpha_max, settings.n_alphas)


def predict(
    train_x: np.ndarray,
    train_y: np.ndarray | torch.Tensor,
    test_x: np.ndarray,
    settings: Encoding,
    rng: np.random.Generator,
    device: str = "cpu",
) -> np.ndarray:
    """Responses predicted by a ridge model with the study's penalties and splits; shapes as in `ridge_predict`."""
    splits = chunked_splits(
        len(train_x), settings.validation_splits, settings.validation_chunk_rows, settings.validation_fraction, rng
    )
    return ridge_predict(train_x, train_y, test_x, alphas_of(settings), splits, device)[0]


def score_blocks(
    x: np.ndarray, y: np.ndarray, settings: Encoding, rng: np.random.Generator, gap_rows: int, device: str = "cpu"
) -> np.ndarray:
    """Predict each of `settings.folds` contiguous blocks of one story from the others, and average the correlations.

    Correlations are taken block by block, since penalties, and with them the size of the predictions, differ between
    blocks. No mean is added: the mean of the other blocks runs against that of the predicted one.

    Parameters
    ----------
    x : (rows, features) float32
        Z-scored over all rows.
    y : (rows, columns) float32
        Z-scored over all rows.
    settings : Encoding
    rng : numpy Generator
    gap_rows : int
        Rows left out of training on either side of the predicted block, so that no delay reaches across.
    device : str

    Returns
    -------
    r : (columns,) float64
    """
    rows, scores = np.arange(len(y)), []
    for block in np.array_split(rows, settings.folds):
        train = rows[(rows < block[0] - gap_rows) | (rows > block[-1] + gap_rows)]
        scores.append(correlation(predict(x[train], y[train], x[block], settings, rng, device), y[block]))
    return np.mean(scores, axis=0)


def leave_one_out_correlation(responses: np.ndarray) -> np.ndarray:
    """Correlation of each participant with the mean of all others (Hasson et al. 2004).

    Parameters
    ----------
    responses : (participants, rows, regions) float

    Returns
    -------
    correlation : (participants, regions) float64
    """
    total = responses.sum(axis=0)
    others = (total - responses) / (len(responses) - 1)
    return np.stack([correlation(one, rest) for one, rest in zip(responses, others, strict=True)])


def group_mean_ceiling(responses: np.ndarray) -> np.ndarray:
    """Highest correlation that a perfect model can reach with the mean over participants.

    Square root of the reliability of a mean of `n` participants whose mean pairwise correlation is `r`,
    `n r / (1 + (n - 1) r)` (Spearman 1910; Brown 1910). NaN where `r` is not positive.

    Parameters
    ----------
    responses : (participants, rows, regions) float
        Z-scored over rows.

    Returns
    -------
    ceiling : (regions,) float64
    """
    n = len(responses)
    pairs = np.triu_indices(n, 1)
    pairwise = np.stack([np.corrcoef(responses[..., region])[pairs].mean() for region in range(responses.shape[-1])])
    pairwise = np.where(pairwise > 0, pairwise, np.nan)
    return np.sqrt(n * pairwise / (1 + (n - 1) * pairwise))
