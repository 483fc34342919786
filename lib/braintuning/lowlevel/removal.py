"""Residualisation: low-level features regressed out of a design."""

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from braintuning.alignment import encoding
from braintuning.alignment.correlation import moments, zscore
from braintuning.alignment.ridge import ridge_predict
from braintuning.study.settings import Encoding, Removal

EVERY_LAG, TR_BY_TR = REMOVALS = get_args(Removal)
"""Two ways to remove a low-level feature, which differ in what `remove` is given.

Every lag (ours): the feature at every delay is removed from each delayed copy of the model's features, so that no copy
restores what another has lost. TR by TR (the code of Moussa, Klakow & Toneva 2025, after Oota et al. 2024): the feature
of a TR is removed from the model's features of that TR, which are delayed afterwards. What they keep of earlier TRs
stays (`LowLevelFit.at_lags`); in return fewer columns are fitted, which generalises better to another story.
"""
ALPHAS = np.logspace(-3, 3, 25)
"""Penalties, on singular values of features whose TRs have squares that sum to 1: from next to none to next to all.

The encoding model's own penalties do not serve here: the smallest of them, 10, leaves a shrunken copy of whatever
varies little, which a regression easily scales up again.
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

    Fitted to the training stories, with a penalty among `ALPHAS` for every column, chosen by chunked cross-validation,
    and applied to all stories (Oota, Celik, Deniz & Toneva 2024; Moussa, Klakow & Toneva 2025). Several features are
    scaled to the same total variance, so that one with many columns does not dominate.

    Removal is linear and limited by its training TRs. Low-level information that the model represents in another form,
    or with weights that do not generalise to another voice, stays, which makes R too low; but semantic information that
    is correlated with low-level features is removed too. `read_out` measures how much ridge regression still decodes.

    Parameters
    ----------
    design : mapping of story to (TRs, columns) float32
        Z-scored, and delayed or not: see `EVERY_LAG` and `TR_BY_TR`.
    low_level : sequence of mapping of story to (TRs, dim) float32
        TRs and delays as in `design`.
    rng
        Draws the validation splits.

    Returns
    -------
    residuals : dict of story to (TRs, columns) float32
        Not scaled again: a column that was mostly low-level stays small.
    """
    names = list(design)
    x = _side_by_side(low_level, train)
    train_x, train_y = (np.concatenate([trs[story] for story in train]) for trs in (x, design))
    splits = encoding.study_splits(len(train_x), settings, rng)
    predicted = ridge_predict(train_x, train_y, np.concatenate([x[n] for n in names]), ALPHAS, splits, device)[0]
    ends = np.cumsum([len(design[name]) for name in names])[:-1]
    return {name: design[name] - part for name, part in zip(names, np.split(predicted, ends), strict=True)}


def _side_by_side(features: Sequence[Mapping[str, np.ndarray]], train: Sequence[str]) -> dict[str, np.ndarray]:
    """Features, (TRs, dim) of a story each, side by side; the squares of each sum to 1 in the mean training TR."""
    scales = [np.sqrt(np.mean(np.concatenate([(x[s] ** 2).sum(axis=1) for s in train]))) or 1 for x in features]
    return {
        story: np.hstack([x[story] / scale for x, scale in zip(features, scales, strict=True)]).astype(np.float32)
        for story in features[0]
    }


def read_out(predicted: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Correlation of a decoded feature with the feature, both (TRs, dim), in a story, and what it would be by chance.

    Both are averaged over the columns that vary, NaN where none does; a column of which nothing is decoded counts as 0.
    Chance is the 95th percentile over circular shifts of the story, without shifts of less than a tenth of it, to which
    slow features hardly respond.
    """
    varies = np.isfinite(moments(truth)[1])
    if not varies.any():
        return np.nan, np.nan
    first, second = (np.fft.rfft(zscore(x[:, varies].astype(np.float64)), axis=0) for x in (predicted, truth))
    by_shift = np.fft.irfft(first.conj() * second, len(truth), axis=0).mean(axis=1) / len(truth)
    least = max(round(LEAST_SHIFT * len(truth)), 1)
    return float(by_shift[0]), float(np.quantile(by_shift[least : len(truth) - least + 1], CHANCE))
