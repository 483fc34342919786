"""Correlation over TRs, and the standard scores that it is made of."""

import numpy as np


def moments(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each column of (TRs, columns) data; infinity for the latter of a constant column.

    Columns are constant when they vary by less than float32 resolves. Both are (columns,) float64.
    """
    mean = data.mean(axis=0, dtype=np.float64)
    deviation = np.sqrt(((data - mean) ** 2).mean(axis=0))
    return mean, np.where(deviation > 1e-6 * np.abs(mean), deviation, np.inf)


def zscore(data: np.ndarray, lead: int = 0) -> np.ndarray:
    """Each column with mean 0 and standard deviation 1 over all TRs but the first `lead`; a constant one becomes 0.

    Shape is kept, and so is the dtype but for whole numbers, which become float64.
    """
    mean, deviation = moments(data[lead:])
    return ((data - mean) / deviation).astype(data.dtype if np.issubdtype(data.dtype, np.floating) else np.float64)


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson r of matching columns of two (TRs, columns) arrays; (columns,), NaN where a column is constant."""
    (mean_a, deviation_a), (mean_b, deviation_b) = moments(a), moments(b)
    covariance = ((a - mean_a) * (b - mean_b)).mean(axis=0)
    return np.where(np.isinf(deviation_a + deviation_b), np.nan, covariance / (deviation_a * deviation_b))
