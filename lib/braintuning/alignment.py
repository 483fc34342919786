"""From features and responses to alignment: design, scores of every layer, means over regions."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from braintuning import encoding, rois, timing
from braintuning.seeding import generator
from braintuning.settings import Encoding, Stories


def design_matrix(features: np.ndarray, delays: tuple[int, ...]) -> np.ndarray:
    """Z-scored and delayed features of one story.

    Parameters
    ----------
    features : (lead + rows, dim) float32
        With as many leading rows as the longest delay.
    delays : tuple of int

    Returns
    -------
    design : (rows, len(delays) * dim) float32
    """
    lead = max(delays)
    mean, deviation = encoding.moments(features[lead:])
    standard = ((features - mean) / deviation).astype(features.dtype)
    return timing.delay(standard, delays)[lead:]


def score_layers(
    features: Mapping[str, np.ndarray],
    responses: Mapping[str, np.ndarray],
    stories: Stories,
    settings: Encoding,
    device: str = "cpu",
) -> np.ndarray:
    """Correlation of predicted and measured responses to the test stories, from encoding models of every layer.

    Parameters
    ----------
    features : mapping of story to (layers + 1, lead + rows, dim) float32
        As `design_matrix` takes them, layer by layer.
    responses : mapping of story to (rows, voxels) float32
    stories : Stories
        Which of them train and which test.
    settings : Encoding
    device : str

    Returns
    -------
    r : (layers + 1, voxels) float32
    """
    train_y = np.concatenate([encoding.zscore(responses[story]) for story in stories.train])
    test_y = np.concatenate([responses[story][settings.test_skip_rows :] for story in stories.test])
    scores = []
    for layer in range(len(features[stories.train[0]])):
        design = {s: design_matrix(features[s][layer], settings.delays) for s in stories.train + stories.test}
        train_x = np.concatenate([design[story] for story in stories.train])
        test_x = np.concatenate([design[story][settings.test_skip_rows :] for story in stories.test])
        predicted = encoding.predict(train_x, train_y, test_x, settings, generator(settings.seed, "splits"), device)
        scores.append(encoding.correlation(predicted, test_y))
    return np.stack(scores)


def region_table(alignment: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Mean alignment of each region group.

    Parameters
    ----------
    alignment : (layers + 1, voxels) float
        NaN where a voxel is not used.
    labels : (voxels,) str
        Region of each voxel.

    Returns
    -------
    table : DataFrame
        layer, roi, alignment (NaN for a group without a used voxel), n_voxels.
    """
    rows = []
    for group in rois.GROUPS:
        inside = alignment[:, rois.members(labels, group)]
        n_voxels = int(np.isfinite(inside[0]).sum())
        means = np.nanmean(inside, axis=1) if n_voxels else np.full(len(inside), np.nan)
        rows += [(layer, group, mean, n_voxels) for layer, mean in enumerate(means)]
    return pd.DataFrame(rows, columns=["layer", "roi", "alignment", "n_voxels"])
