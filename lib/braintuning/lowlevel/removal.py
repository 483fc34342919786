"""Residualisation: low-level features regressed out of a design."""

from collections.abc import Mapping, Sequence
from typing import get_args

import numpy as np

from braintuning.alignment import encoding
from braintuning.alignment.correlation import moments, zscore
from braintuning.alignment.ridge import ridge_predict
from braintuning.study.settings import Encoding, Removal

EVERY_LAG, TR_BY_TR = REMOVALS = get_args(Removal)
"""Two ways to residualise, which differ in what `remove` is given.

Every lag (ours): the delayed design loses the delayed feature. Each delayed copy of the model loses the feature at
every delay, so that what the model keeps of earlier TRs does not come back through another delay. TR by TR (the code of
Moussa, Klakow & Toneva 2025, after Oota et al. 2024): each TR of the model loses the feature of the same TR, and only
then is the model delayed. What a TR of the model keeps of the feature at earlier TRs stays in, see
`LowLevelFit.at_lags`: Whisper tiny.en much of the spectrum, little of phones. In return fewer columns are fitted, by as
many times as there are delays, and what they learn carries over better to another story.
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
    and applied to all stories (Oota, Celik, Deniz & Toneva 2024; Moussa, Klakow & Toneva 2025). In the training TRs the
    residual has then next to nothing in common with the feature (exactly nothing without a penalty: Frisch & Waugh
    1933). Several features are scaled to the same total variance, so that a wide one does not drown a narrow one.

    Residualisation is linear and limited by its training TRs. Low-level information that the model represents in
    another form, or whose weights do not carry over to another voice, stays, and R is then too low: a lower bound of
    what is low-level, except that semantic information correlated with low-level features is lost with them.
    `read_out` measures how much a ridge regression still decodes.

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
