"""Encoding models: ridge regression from delayed features to responses."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from braintuning import timing
from braintuning.alignment.correlation import correlation, zscore
from braintuning.alignment.ridge import Split, ridge_predict
from braintuning.errors import InputError
from braintuning.results import generator
from braintuning.study.settings import Encoding

ALPHAS = tuple(np.logspace(1, 4, 15).tolist())
SHARE_OF_GPU = 0.3


def chunked_splits(n_trs: int, n_splits: int, chunk_trs: int, fraction: float, rng: np.random.Generator) -> list[Split]:
    """Random splits of a time series into training and validation TRs, sorted indices int64.

    `chunk_trs` consecutive TRs stay together, and the last chunk takes what is left over; `fraction` is the share that
    validates. Raises `InputError` with fewer than two chunks.
    """
    n_chunks = n_trs // chunk_trs
    if n_chunks < 2:
        raise InputError(f"encoding model: found {n_trs} training TRs, expected at least two chunks of {chunk_trs}")
    chunk_of_tr = np.minimum(np.arange(n_trs) // chunk_trs, n_chunks - 1)
    n_validation = min(max(round(fraction * n_chunks), 1), n_chunks - 1)
    splits = []
    for _ in range(n_splits):
        validates = np.isin(chunk_of_tr, rng.choice(n_chunks, n_validation, replace=False))
        splits.append((np.flatnonzero(~validates), np.flatnonzero(validates)))
    return splits


def study_splits(n_trs: int, settings: Encoding, rng: np.random.Generator) -> list[Split]:
    """`chunked_splits` with a study's settings."""
    chunk, fraction = settings.validation_chunk_rows, settings.validation_fraction
    return chunked_splits(n_trs, settings.validation_splits, chunk, fraction, rng)


class EncodingModel(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Voxelwise encoding model: ridge regression with a separate penalty for each voxel, as a scikit-learn estimator.

    Uses the splits and solver of a study's encoding models. There is no intercept: z-score features and responses story
    by story, and delay the features (`timing.delay`, or `design_matrix` for both).

    Parameters
    ----------
    alphas : sequence of float
        Candidate penalties, on the scale of singular values: `|y - X w|^2 + alpha^2 |w|^2` is minimised.
    n_splits, chunk_rows, validation_fraction : int, int, float
        Random validation sets of chunks of consecutive TRs, which choose the penalties; see `chunked_splits`.
    seed, device : int, str
        Seed of the splits; `cpu` or `cuda`.

    Attributes
    ----------
    coef_, best_alphas_ : (features, voxels) float32, (voxels,) float64
        Weights and chosen penalties; without the voxel axis if `y` has none.

    Examples
    --------
    >>> model = bt.EncodingModel().fit(train_x, train_y)  # (TRs, features), (TRs, voxels)
    >>> model.score(test_x, test_y)  # mean correlation over voxels
    """

    def __init__(
        self,
        alphas: Sequence[float] = ALPHAS,
        n_splits: int = 3,
        chunk_rows: int = 20,
        validation_fraction: float = 0.25,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        self.alphas = alphas
        self.n_splits = n_splits
        self.chunk_rows = chunk_rows
        self.validation_fraction = validation_fraction
        self.seed = seed
        self.device = device

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fit (TRs, features) to (TRs, voxels) or (TRs,); `InputError` with fewer than two chunks of TRs."""
        X, y = validate_data(self, X, y, dtype=np.float32, multi_output=True, y_numeric=True, ensure_min_samples=2)
        y, rng = y.astype(np.float32, copy=False), generator(self.seed, "splits")
        splits = chunked_splits(len(X), self.n_splits, self.chunk_rows, self.validation_fraction, rng)
        identity = np.eye(X.shape[1], dtype=np.float32)
        coef, best = ridge_predict(X, y.reshape(len(y), -1), identity, self.alphas, splits, self.device)
        self.coef_, self.best_alphas_ = (coef, best) if y.ndim == 2 else (coef[:, 0], best[0])
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """Responses predicted from (TRs, features): (TRs, voxels) or (TRs,) as in `fit`, float32 or float64 as X is."""
        check_is_fitted(self)
        return validate_data(self, X, dtype=[np.float64, np.float32], reset=False) @ self.coef_

    def score(self, X: np.ndarray, y: np.ndarray) -> float:
        """Mean over voxels of Pearson r between predicted and measured responses, without voxels that are constant."""
        predicted, measured = (np.reshape(trs, (len(trs), -1)) for trs in (self.predict(X), y))
        return float(np.nanmean(correlation(predicted, measured)))


def predict(
    train_x: np.ndarray,
    train_y: np.ndarray | torch.Tensor,
    test_x: np.ndarray,
    settings: Encoding,
    rng: np.random.Generator,
    device: str = "cpu",
) -> np.ndarray:
    """Responses predicted by an encoding model with a study's penalties and splits; shapes as in `ridge_predict`."""
    alphas = np.logspace(settings.log10_alpha_min, settings.log10_alpha_max, settings.n_alphas)
    return ridge_predict(train_x, train_y, test_x, alphas, study_splits(len(train_x), settings, rng), device)[0]


def design_matrix(features: np.ndarray, delays: tuple[int, ...]) -> np.ndarray:
    """Z-scored and delayed features of one story; (TRs, len(delays) * dim) float32.

    `features`, (lead + TRs, dim), have as many leading TRs as the longest delay.
    """
    lead = max(delays)
    return timing.delay(zscore(features, lead), delays)[lead:]


def predict_layers(
    features: Mapping[str, np.ndarray],
    responses: Mapping[str, np.ndarray],
    train: Sequence[str],
    test: Sequence[str],
    settings: Encoding,
    device: str = "cpu",
) -> Iterator[np.ndarray]:
    """Responses to the test stories that encoding models of every layer predict, with the same splits for all.

    Parameters
    ----------
    features : mapping of story to (layers + 1, lead + TRs, dim) float32
        As `design_matrix` takes them, layer by layer.
    responses : mapping of story to (TRs, voxels) float32
        At least of the training stories.

    Yields
    ------
    predicted : (TRs of the test stories after the skipped ones, voxels) float32
    """
    train_y = on_device_if_it_fits(standard_responses(responses, train), device)
    for layer in range(len(features[train[0]])):
        design = {story: design_matrix(features[story][layer], settings.delays) for story in (*train, *test)}
        train_x = np.concatenate([design[story] for story in train])
        splits = generator(settings.seed, "splits")
        yield predict(train_x, train_y, scored_trs(design, test, settings), settings, splits, device)


def predict_folds(
    features: np.ndarray, responses: np.ndarray, settings: Encoding, gap: int, device: str = "cpu"
) -> Iterator[np.ndarray]:
    """Responses to one story that encoding models of every layer predict, each fold from the others.

    Folds are `settings.folds` contiguous blocks of TRs, of which each is predicted once. Predictions are z-scored fold
    by fold: penalties, and with them the size of predictions, differ between folds, and the mean of the other folds is
    anticorrelated with that of the predicted one. See `correlation_in_folds`.

    Parameters
    ----------
    features : (layers + 1, lead + TRs, dim) float32
        As `design_matrix` takes them, layer by layer.
    responses : (TRs, voxels) float32
    gap : int
        TRs that are left out of fitting on either side of a fold, so that neither delays nor filters reach across.

    Yields
    ------
    predicted : (TRs, voxels) float32
    """
    trs, y = np.arange(len(responses)), zscore(responses)
    for layer in features:
        x, predicted = design_matrix(layer, settings.delays), np.empty_like(y)
        for fold in np.array_split(trs, settings.folds):
            fitted = trs[(trs < fold[0] - gap) | (trs > fold[-1] + gap)]
            rng = generator(settings.seed, "splits")
            predicted[fold] = zscore(predict(x[fitted], y[fitted], x[fold], settings, rng, device))
        yield predicted


def correlation_in_folds(a: np.ndarray, b: np.ndarray, n_folds: int) -> np.ndarray:
    """Mean over contiguous blocks of TRs of the `correlation` within each; shapes as there."""
    return np.mean([correlation(a[fold], b[fold]) for fold in np.array_split(np.arange(len(a)), n_folds)], axis=0)


def standard_responses(responses: Mapping[str, np.ndarray], train: Sequence[str]) -> np.ndarray:
    """Responses to the training stories, each z-scored on its own, one after the other; (TRs, voxels) float32."""
    ends = np.cumsum([len(responses[story]) for story in train])
    standard = np.empty((ends[-1], responses[train[0]].shape[1]), np.float32)
    for story, end in zip(train, ends, strict=True):
        standard[end - len(responses[story]) : end] = zscore(responses[story])
    return standard


def on_device_if_it_fits(responses: np.ndarray, device: str) -> np.ndarray | torch.Tensor:
    """The responses on a GPU where they take less than `SHARE_OF_GPU` of its free memory, else as they are."""
    if device == "cpu" or responses.nbytes > SHARE_OF_GPU * torch.cuda.mem_get_info()[0]:
        return responses
    return torch.from_numpy(responses).to(device)


def scored_trs(data: Mapping[str, np.ndarray], test: Sequence[str], settings: Encoding) -> np.ndarray:
    """Responses to the test stories, or their design, without the skipped TRs; (TRs, columns)."""
    return np.concatenate([data[story][settings.test_skip_rows :] for story in test])
