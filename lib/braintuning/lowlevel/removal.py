"""Taking low-level features out of a design, so that the encoding model cannot find them there again."""

from collections.abc import Mapping, Sequence

import numpy as np

from braintuning.alignment import encoding
from braintuning.alignment.ridge import ridge_predict
from braintuning.study.settings import Encoding

ALPHAS = np.logspace(-3, 3, 25)
"""Penalties, on singular values of features whose rows have squares that sum to 1: from next to none to next to all.

The encoding model's own penalties are no use here: the least of them, 10, leaves a shrunken copy of whatever varies
little, and a regression has no difficulty with making it large again.
"""
LEAST_SHIFT = 0.1
CHANCE = 0.95


def remove(
    design: Mapping[str, np.ndarray],
    low_level: Sequence[Mapping[str, np.ndarray]],
    train: Sequence[str],
    settings: Encoding,
    rng: np.random.Generator,
    device: str = "cpu",
) -> dict[str, np.ndarray]:
    """Subtract what ridge regression predicts of each column from one low-level feature, or from several together.

    Fitted on the training stories, with a penalty among `ALPHAS` of its own for every column, chosen by chunked
    cross-validation, and applied to all stories (Oota, Celik, Deniz & Toneva 2024; Moussa, Klakow & Toneva 2025). Both
    sides are given as the encoding model takes them, delayed: each delayed copy of the model is freed from the feature
    at every delay, so that what one row keeps of its neighbours' sound does not come back through another delay. In the
    training rows the residual has then next to nothing in common with the feature (exactly nothing without a penalty:
    Frisch & Waugh 1933), and next to nothing is what an encoding model can learn of it there. Several features go
    through the same regression side by side, scaled to the same total variance, so that a wide one does not drown a
    narrow one.

    What this cannot do: it is linear, and as good as the rows that it is fitted to. Sound that the model holds in
    another form, or whose weights do not carry over to another voice, stays, and R is then too low: a lower bound of
    what is low-level, but for meaning that goes along with sound and goes with it. `read_out` says how much a ridge
    regression still finds.

    Parameters
    ----------
    design : mapping of story to (rows, columns) float32
    low_level : sequence of mapping of story to (rows, dim) float32
        Rows and delays as in `design`.
    train : sequence of str
    settings : Encoding
        Its validation splits.
    rng : numpy Generator
        Draws the splits.
    device : str

    Returns
    -------
    residuals : dict of story to (rows, columns) float32
        Not scaled again: a column that was mostly sound stays small.
    """
    names = list(design)
    x = side_by_side(low_level, train)
    train_x, train_y = (np.concatenate([rows[story] for story in train]) for rows in (x, design))
    splits = encoding.chunked_splits(
        len(train_x), settings.validation_splits, settings.validation_chunk_rows, settings.validation_fraction, rng
    )
    predicted = ridge_predict(train_x, train_y, np.concatenate([x[n] for n in names]), ALPHAS, splits, device)[0]
    ends = np.cumsum([len(design[name]) for name in names])[:-1]
    return {name: design[name] - part for name, part in zip(names, np.split(predicted, ends), strict=True)}


def side_by_side(features: Sequence[Mapping[str, np.ndarray]], train: Sequence[str]) -> dict[str, np.ndarray]:
    """Features beside each other, each scaled so that its squares sum to 1 in the mean row of the training stories.

    Parameters
    ----------
    features : sequence of mapping of story to (rows, dim) float32
    train : sequence of str

    Returns
    -------
    joined : dict of story to (rows, sum of dims) float32
    """
    scales = [np.sqrt(np.mean(np.concatenate([(x[s] ** 2).sum(axis=1) for s in train]))) or 1 for x in features]
    return {
        story: np.hstack([x[story] / scale for x, scale in zip(features, scales, strict=True)]).astype(np.float32)
        for story in features[0]
    }


def read_out(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """How well a feature is predicted in a story, and how well it would be by chance.

    Both are correlations averaged over the columns that vary. Chance is what 95 % of the story's circular shifts stay
    below, of which those by less than a tenth of it, which slow features hardly notice, are left out.

    Parameters
    ----------
    predicted, truth : (rows, dim) float

    Returns
    -------
    correlation, chance : float
        A column of which nothing is predicted counts as 0; NaN where no column varies.
    """
    varies = np.isfinite(encoding.moments(truth)[1])
    if not varies.any():
        return np.nan, np.nan
    first, second = (np.fft.rfft(encoding.zscore(x[:, varies].astype(np.float64)), axis=0) for x in (predicted, truth))
    by_shift = np.fft.irfft(first.conj() * second, len(truth), axis=0).mean(axis=1) / len(truth)
    least = max(round(LEAST_SHIFT * len(truth)), 1)
    return float(by_shift[0]), float(np.quantile(by_shift[least : len(truth) - least + 1], CHANCE))
