"""From features and responses to alignment: design, scores of every layer, means over regions."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from braintuning import timing
from braintuning.alignment import encoding
from braintuning.cortex import regions as rois
from braintuning.results import generator
from braintuning.study.settings import Encoding

SHARE_OF_GPU = 0.3


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


def predict_layers(
    features: Mapping[str, np.ndarray],
    responses: Mapping[str, np.ndarray],
    train: Sequence[str],
    test: Sequence[str],
    settings: Encoding,
    device: str = "cpu",
) -> Iterator[np.ndarray]:
    """Responses to the test stories that encoding models of every layer predict, layer by layer.

    Parameters
    ----------
    features : mapping of story to (layers + 1, lead + rows, dim) float32
        As `design_matrix` takes them, layer by layer.
    responses : mapping of story to (rows, voxels) float32
        At least of the training stories.
    train, test : sequence of str
        Stories to fit and to predict.
    settings : Encoding
    device : str

    Yields
    ------
    predicted : (rows of the test stories after the skipped ones, voxels) float32
    """
    train_y = on_device_if_it_fits(standard_responses(responses, train), device)
    for layer in range(len(features[train[0]])):
        design = {story: design_matrix(features[story][layer], settings.delays) for story in (*train, *test)}
        yield encoding.predict(*fitted_and_tested(design, train_y, train, test, settings), device)


def standard_responses(responses: Mapping[str, np.ndarray], train: Sequence[str]) -> np.ndarray:
    """Responses to the training stories, each z-scored on its own, one after the other; (rows, voxels) float32."""
    ends = np.cumsum([len(responses[story]) for story in train])
    standard = np.empty((ends[-1], responses[train[0]].shape[1]), np.float32)
    for story, end in zip(train, ends, strict=True):
        standard[end - len(responses[story]) : end] = encoding.zscore(responses[story])
    return standard


def on_device_if_it_fits(responses: np.ndarray, device: str) -> np.ndarray | torch.Tensor:
    """The responses on a GPU where they take less than `SHARE_OF_GPU` of its free memory, else as they are."""
    if device == "cpu" or responses.nbytes > SHARE_OF_GPU * torch.cuda.mem_get_info()[0]:
        return responses
    return torch.from_numpy(responses).to(device)


def fitted_and_tested(
    design: Mapping[str, np.ndarray],
    train_y: np.ndarray | torch.Tensor,
    train: Sequence[str],
    test: Sequence[str],
    settings: Encoding,
) -> tuple[np.ndarray, np.ndarray | torch.Tensor, np.ndarray, Encoding, np.random.Generator]:
    """What `encoding.predict` takes: design and responses of the training stories, design of the test stories.

    Shapes as in `predict_layers`, `train_y` from `standard_responses`; the skipped rows of the test stories are left
    out, and the splits are the same for every design.
    """
    train_x = np.concatenate([design[story] for story in train])
    test_x = np.concatenate([design[story][settings.test_skip_rows :] for story in test])
    return train_x, train_y, test_x, settings, generator(settings.seed, "splits")


def measured(responses: Mapping[str, np.ndarray], test: Sequence[str], settings: Encoding) -> np.ndarray:
    """Responses that predictions are compared with: the test stories without the skipped rows; (rows, voxels)."""
    return np.concatenate([responses[story][settings.test_skip_rows :] for story in test])


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
