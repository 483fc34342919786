"""Principal components of responses: what a head predicts instead of every voxel's own noise."""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.utils.extmath import randomized_svd

from braintuning.results import generator
from braintuning.study.settings import Tuning
from braintuning.tuning.model import StoryTargets

log = logging.getLogger(__name__)

MOST_COMPONENTS = 50


@dataclass(frozen=True, eq=False)
class Components:
    """Principal components of a participant's training responses, or of several participants' on a common cortex.

    Scores keep their variances, and are scaled so that the mean square of an error over components is the mean over
    voxels of what it does to them: losses of few and many components, and of voxels, have one unit.

    Attributes
    ----------
    maps : (components, voxels) float32
        Orthonormal, the one of most variance first.
    """

    maps: np.ndarray

    @property
    def _scale(self) -> float:
        return float(np.sqrt(len(self.maps) / self.maps.shape[1]))

    def scores(self, responses: np.ndarray) -> np.ndarray:
        """Scores, (..., components) float32, of responses, (..., voxels)."""
        return (responses @ self.maps.T * self._scale).astype(np.float32)

    def scores_of(self, stories: Mapping[str, StoryTargets]) -> dict[str, StoryTargets]:
        """Stories whose targets are these components' scores, for each participant."""
        return {
            name: dataclasses.replace(
                story, targets=tuple(map(self.scores, story.of_each)), repeats=tuple(map(self.scores, story.repeats))
            )
            for name, story in stories.items()
        }

    def head_of_voxels(self, head: torch.nn.Linear) -> torch.nn.Linear:
        """A head that predicts voxels, from one that predicts scores."""
        whole = torch.nn.Linear(head.in_features, self.maps.shape[1])
        with torch.no_grad():
            for of_voxels, of_scores in ((whole.weight, head.weight), (whole.bias, head.bias)):
                of_voxels.copy_(torch.from_numpy(self.to_voxels(of_scores.float().cpu().numpy())))
        return whole.to(head.weight.device)

    def to_voxels(self, of_components: np.ndarray) -> np.ndarray:
        """Scores, weights or a bias, (components, ...), as the responses that they stand for; (voxels, ...)."""
        return (np.tensordot(self.maps.T, of_components, 1) / self._scale).astype(np.float32)


def find_components(
    train: Mapping[str, StoryTargets], validation: Mapping[str, StoryTargets], settings: Tuning
) -> Components:
    """Components of the training responses of all participants, as many as the settings say or validation finds."""
    of_train, of_validation = (
        np.concatenate([responses for story in stories.values() for responses in story.of_each])
        for stories in (train, validation)
    )
    n_components = settings.n_components or number_by_validation(
        of_train, of_validation, generator(settings.seed, "components")
    )
    found = principal_components(of_train, n_components, settings.seed)
    share = np.square(of_train @ found.maps.T).sum() / np.square(of_train).sum()
    log.info(f"{n_components} components of {of_train.shape[1]} targets, {100 * share:.0f} % of their variance")
    return found


def principal_components(responses: np.ndarray, n_components: int, seed: int = 0) -> Components:
    """The first principal components of (TRs, voxels) responses that are z-scored by story.

    By randomised singular value decomposition (Halko, Martinsson & Tropp 2011); signs make each map's largest value
    positive.
    """
    n_components = min(n_components, *responses.shape)
    _, _, maps = randomized_svd(responses, n_components, random_state=seed, flip_sign=False)
    signs = np.sign(maps[np.arange(n_components), np.abs(maps).argmax(axis=1)])
    return Components((maps * signs[:, None]).astype(np.float32))


def number_by_validation(
    train: np.ndarray, validation: np.ndarray, rng: np.random.Generator, most: int = MOST_COMPONENTS
) -> int:
    """Number of components that voxels share beyond the stories they were found in, 1 to `most`.

    Bi-cross-validation (Owen & Perry 2009): one half of the voxels, drawn at random, predicts the other half in the
    validation stories through so many components of the training stories; the number with the smallest error is taken.
    Noise that neighbouring voxels share counts as shared.

    Parameters
    ----------
    train, validation : (TRs, voxels) float32
    """
    order = rng.permutation(train.shape[1])
    given, hidden = np.array_split(order, 2)
    most = min(most, len(train), len(given))
    left, singular, maps = randomized_svd(train[:, given], most, random_state=int(rng.integers(2**31)))
    scores, loadings = validation[:, given] @ maps.T / singular, left.T @ train[:, hidden]
    predicted, errors = np.zeros((len(validation), len(hidden))), []
    for component in range(most):
        predicted += np.outer(scores[:, component], loadings[component])
        errors.append(float(np.mean((validation[:, hidden] - predicted) ** 2)))
    return int(np.argmin(errors)) + 1
