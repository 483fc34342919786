"""Taking a low-level feature out of a representation, so that a linear model cannot find it there again."""

from collections.abc import Mapping, Sequence

import numpy as np

from braintuning import encoding
from braintuning.partition import banded_predict
from braintuning.settings import Encoding


def surrounding(feature: np.ndarray, reach: int) -> np.ndarray:
    """Rows of a feature beside those up to `reach` before and after.

    Parameters
    ----------
    feature : (reach + rows + reach, dim) float
        With `reach` more rows at either end.
    reach : int

    Returns
    -------
    surrounded : (rows, (2 * reach + 1) * dim) float32
    """
    rows = len(feature) - 2 * reach
    return np.hstack([feature[shift : shift + rows] for shift in range(2 * reach + 1)]).astype(np.float32)


def reach_of(delays: Sequence[int]) -> int:
    """Rows before and after that a feature must be removed with.

    An encoding model sees features at several delays at once. Were only the same row's sound removed from each row, the
    sound of row t could still be read out of the row before or after, through what that row keeps of its neighbours.
    Removing each row's neighbourhood as wide as the delays are apart leaves nothing of any row that the model
    combines.
    """
    return max(delays) - min(delays)


def remove(
    representations: Mapping[str, np.ndarray],
    features: Sequence[Mapping[str, np.ndarray]],
    train: Sequence[str],
    settings: Encoding,
    rng: np.random.Generator,
    device: str = "cpu",
) -> dict[str, np.ndarray]:
    """Subtract what ridge regression predicts of each dimension from one low-level feature, or from several together.

    Fitted on the training stories, with a penalty of its own for every dimension, chosen by chunked cross-validation,
    and applied to all stories (Oota, Celik, Deniz & Toneva 2024; Moussa, Klakow & Toneva 2025). Several features have a
    penalty each (banded ridge), so that a wide one does not drown a narrow one.

    Parameters
    ----------
    representations : mapping of story to (rows, dimensions) float32
        Each column is z-scored within its story before the removal.
    features : sequence of mapping of story to (reach + rows + reach, dim) float32
        With `reach_of(settings.delays)` more rows at either end.
    train : sequence of str
    settings : Encoding
    rng : numpy Generator
        Draws the splits.
    device : str

    Returns
    -------
    residuals : dict of story to (rows, dimensions) float32
        Not scaled again: a dimension that was mostly sound stays small.
    """
    reach, names = reach_of(settings.delays), list(representations)
    standard = {story: encoding.zscore(rows).astype(np.float32) for story, rows in representations.items()}
    designs = [
        {s: surrounding(encoding.zscore(np.asarray(feature[s], np.float32)), reach) for s in names}
        for feature in features
    ]
    train_y = np.concatenate([standard[story] for story in train])
    train_xs = [np.concatenate([design[story] for story in train]) for design in designs]
    every_xs = [np.concatenate([design[story] for story in names]) for design in designs]
    if len(features) == 1:
        predicted = encoding.predict(train_xs[0], train_y, every_xs[0], settings, rng, device)
    else:
        predicted = banded_predict(train_xs, train_y, every_xs, settings, rng, device)
    ends = np.cumsum([len(standard[story]) for story in names])[:-1]
    return {story: standard[story] - part for story, part in zip(names, np.split(predicted, ends), strict=True)}
