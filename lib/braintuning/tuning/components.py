"""Components of responses: what a head predicts instead of every voxel's own noise."""

import dataclasses
import logging
from collections.abc import Mapping, Sequence
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
    """Principal components of a participant's training responses, or components that several participants share.

    Scores keep their variances, and are scaled so that the mean square of an error over components is the mean over
    voxels of what it does to them: losses of few and many components, and of voxels, have one unit.

    Attributes
    ----------
    onto : tuple of (voxels, components) float32
        From each participant's responses to scores, by least squares.
    maps : (components, voxels) float32
        From scores to responses, averaged over participants; of one participant orthonormal. Most variance first.
    share : float
        Of the training responses' variance.
    """

    onto: tuple[np.ndarray, ...]
    maps: np.ndarray
    share: float

    @property
    def _scale(self) -> float:
        return float(np.sqrt(len(self.maps) / self.maps.shape[1]))

    def scores(self, responses: np.ndarray, participant: int = 0) -> np.ndarray:
        """Scores, (..., components) float32, of a participant's responses, (..., voxels)."""
        return (responses @ self.onto[participant] * self._scale).astype(np.float32)

    def scores_of(self, stories: Mapping[str, StoryTargets]) -> dict[str, StoryTargets]:
        """Stories whose targets are these components' scores, for each participant."""

        def of_all(responses: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
            return tuple(self.scores(of_one, participant) for participant, of_one in enumerate(responses))

        return {
            name: dataclasses.replace(story, targets=of_all(story.of_each), repeats=of_all(story.repeats))
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
        [np.concatenate(parts) for parts in zip(*(story.of_each for story in stories.values()), strict=True)]
        for stories in (train, validation)
    )
    n_components = settings.n_components or number_by_validation(
        np.concatenate(of_train), np.concatenate(of_validation), generator(settings.seed, "components")
    )
    find, given = (shared_components, of_train) if len(of_train) > 1 else (principal_components, of_train[0])
    found = find(given, n_components, settings.seed)
    n_found, n_targets = found.maps.shape
    log.info(f"{n_found} components of {n_targets} targets, {100 * found.share:.0f} % of their variance")
    return found


def principal_components(responses: np.ndarray, n_components: int, seed: int = 0) -> Components:
    """The first principal components of (TRs, voxels) responses that are z-scored by story.

    By randomised singular value decomposition (Halko, Martinsson & Tropp 2011); signs make each map's largest value
    positive.
    """
    n_components = min(n_components, *responses.shape)
    _, _, maps = randomized_svd(responses, n_components, random_state=seed, flip_sign=False)
    maps = (maps * _signs(maps)).astype(np.float32)
    share = np.square(responses @ maps.T).sum() / np.square(responses).sum()
    return Components((maps.T,), maps, float(share))


def shared_components(responses: Sequence[np.ndarray], n_components: int, seed: int = 0) -> Components:
    """Components of several participants' (TRs, voxels) responses to the same stories, a map for each participant.

    Generalised canonical analysis (MAXVAR, Kettenring 1971) finds the time courses that participants' first principal
    components, `MOST_COMPONENTS` or a third of the TRs, agree on best. Maps are regressions of each participant's
    responses on them, rotated and scaled to be orthonormal over all; see `benchmarks/joint_components.py`.
    """
    n_components = min(n_components, *responses[0].shape)
    n_kept = max(n_components, min(MOST_COMPONENTS, len(responses[0]) // 3, responses[0].shape[1]))
    kept = [randomized_svd(of_one, n_kept, random_state=seed)[0] for of_one in responses]
    shared = np.linalg.svd(np.hstack(kept), full_matrices=False)[0][:, :n_components]
    maps = [shared.T @ of_one for of_one in responses]
    variances, rotation = np.linalg.eigh(sum(of_one @ of_one.T for of_one in maps) / len(maps))
    rotation = rotation[:, ::-1] / np.sqrt(variances[::-1])
    maps = [rotation.T @ of_one for of_one in maps]
    signs = _signs(np.mean(maps, axis=0))
    maps = [(of_one * signs).astype(np.float32) for of_one in maps]
    share = len(maps) * variances.sum() / sum(np.square(of_one).sum() for of_one in responses)
    return Components(tuple(np.linalg.pinv(of_one) for of_one in maps), np.mean(maps, axis=0), float(share))


def _signs(maps: np.ndarray) -> np.ndarray:
    """Signs, (components, 1), that make each map's largest value positive."""
    return np.sign(maps[np.arange(len(maps)), np.abs(maps).argmax(axis=1)])[:, None]


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
