"""Common cortex: the points of several participants that one head predicts in joint tuning."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from braintuning.alignment.correlation import zscore
from braintuning.cortex.fsaverage import fsaverage5_sphere, transfer_labels
from braintuning.cortex.subject import Cortex
from braintuning.cortex.surface import HEMISPHERES
from braintuning.datasets.base import Dataset
from braintuning.errors import InputError


@dataclass(frozen=True, eq=False)
class CommonCortex:
    """Points that several participants have in common: voxels, where they have the same, or vertices of fsaverage5.

    Attributes
    ----------
    points : (points,) int64
    from_voxels : mapping of participant to csr_matrix, (points, n_voxels), or None
        Share of each voxel in each point's value, none of an invalid voxel; None where points are voxels.
    """

    points: np.ndarray
    from_voxels: Mapping[str, csr_matrix] | None = None

    def responses(self, dataset: Dataset, participant: str, story: str) -> np.ndarray:
        """A participant's responses to a story at the common points, z-scored; (TRs, points) float32."""
        if self.from_voxels is None:
            voxels = np.zeros(dataset.n_voxels(participant), bool)
            voxels[self.points] = True
            return dataset.responses(participant, story, voxels)
        return self._mixed(participant, dataset.responses(participant, story))

    def repeats(self, dataset: Dataset, participant: str, story: str) -> np.ndarray:
        """The same of each presentation of a story; (repeats, TRs, points) float32."""
        repeats = dataset.repeats(participant, story)
        if self.from_voxels is None:
            return repeats[..., self.points]
        return np.stack([self._mixed(participant, responses) for responses in repeats])

    def _mixed(self, participant: str, responses: np.ndarray) -> np.ndarray:
        return zscore(np.asarray((self.from_voxels[participant] @ responses.T).T, np.float32))


def common_cortex(
    cortices: Mapping[str, Cortex],
    ceilings: Mapping[str, np.ndarray],
    threshold: float,
    invalid: Mapping[str, np.ndarray] | None = None,
) -> CommonCortex:
    """Common points where some participant's noise ceiling is above a threshold and every participant has a voxel.

    Participants on one surface with the same voxels keep these. Others meet on fsaverage5, each of its vertices taking
    the value of the participant's vertex that is nearest on the registration sphere.

    By participant, `ceilings` are (n_voxels,) float, NaN where nothing could be measured, and `invalid` is (n_voxels,)
    bool: voxels that have no share in any point. Raises InputError where there is no such point.
    """
    invalid = invalid or {participant: np.zeros(cortex.n_voxels, bool) for participant, cortex in cortices.items()}
    first = next(iter(cortices.values()))
    shared = all(c.surface is first.surface and c.n_voxels == first.n_voxels for c in cortices.values())
    matrices = None if shared else {p: _on_fsaverage5(cortex, invalid[p]) for p, cortex in cortices.items()}
    if shared:
        usable = np.any([np.nan_to_num(ceiling) > threshold for ceiling in ceilings.values()], axis=0)
        usable &= ~np.any(list(invalid.values()), axis=0)
    else:
        usable = np.any([_mean_known(matrices[p], ceilings[p]) > threshold for p in cortices], axis=0)
        usable &= np.all([matrix.getnnz(axis=1) > 0 for matrix in matrices.values()], axis=0)
    points = np.flatnonzero(usable)
    if not len(points):
        names = ", ".join(cortices)
        raise InputError(f"common cortex of {names}: no point is in use (above {threshold}), expected some")
    return CommonCortex(points, matrices and {participant: matrix[points] for participant, matrix in matrices.items()})


def _mean_known(matrix: csr_matrix, values: np.ndarray) -> np.ndarray:
    known = np.isfinite(values)
    weight = matrix @ known.astype(float)
    return np.divide(matrix @ np.where(known, values, 0), weight, out=np.zeros(len(weight)), where=weight > 0)


def _on_fsaverage5(cortex: Cortex, invalid: np.ndarray) -> csr_matrix:
    """Shares of valid voxels in the vertices of fsaverage5, left hemisphere first; (20484, n_voxels)."""
    surface, closest = cortex.surface, []
    for hemisphere in HEMISPHERES:
        if hemisphere not in surface.sphere:
            raise InputError(f"{surface.name}: has no registration sphere, expected one to meet others on")
        part = surface.vertices(hemisphere)
        numbers = np.arange(part.start, part.stop)
        closest.append(transfer_labels(surface.sphere[hemisphere], numbers, fsaverage5_sphere(hemisphere)))
    shares = csr_matrix(cortex.vertices_from_voxels[np.concatenate(closest)].multiply(~invalid))
    shares.eliminate_zeros()
    weight = np.asarray(shares.sum(axis=1)).ravel()
    scale = np.divide(1.0, weight, out=np.zeros(len(weight)), where=weight > 0)
    return csr_matrix(shares.multiply(scale[:, None]))
