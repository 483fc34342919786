"""A participant of ds003020 in little: pycortex database and FreeSurfer folder, with regions that are known.

    facts = write_subject(root / "derivative", "UTS03", seed=3)
    folder = write_fsaverage(root / "fsaverage")
    cortex = participant_cortex(root / "derivative", "UTS03", folder, cache)

`facts.n_voxels` is the number of columns that responses of the participant must have, `facts.labels` the region at
each vertex by construction, and `facts.inside` the vertices far enough from a border that no nearest neighbour can
miss. The brain is two hollow balls; its sphere.reg is rotated and warped against its own mesh, whose vertices are in
random order. The regions are those of `rois.GROUPS` and a few more. Each hemisphere has 642 vertices; its medial wall
faces the other, and the flat mesh lacks it.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
from braintuning.cortex.regions import GROUPS
from nibabel.freesurfer import write_annot, write_geometry
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

HEMISPHERES = {"lh": -1, "rh": 1}
WHITE, PIAL, CENTRE, VOXEL = 12.0, 15.0, 20.0, 4.0
FLAT_SCALE = 60.0
MEDIAL_WALL = 0.75
OTHERS = ("V1", "4", "MT", "FEF", "TE1a", "TF", "10d", "a24")
REGIONS = tuple(dict.fromkeys([*(region for group in GROUPS.values() for region in group), *OTHERS]))
DESTRIEUX = {"A1": "G_temp_sup-G_T_transv", "44": "G_front_inf-Opercular", "PGp": "G_pariet_inf-Angular"}


@dataclass(frozen=True)
class Facts:
    """What was planted; vertices of both hemispheres, left first. `middle` is the surface between wm and pia, in mm."""

    labels: np.ndarray
    inside: np.ndarray
    on_cortex: np.ndarray
    middle: np.ndarray
    mask: np.ndarray
    mm_to_voxel: np.ndarray
    n_voxels: int


@cache
def icosphere(subdivisions: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit coordinates (10 x 4^k + 2, 3) and outward faces; each mesh begins with the vertices of the coarser one."""
    g = (1 + 5**0.5) / 2
    points = [(a, b * g, 0) for a in (-1, 1) for b in (-1, 1)]
    points = np.array([p[k:] + p[:k] for p in points for k in range(3)], dtype=float)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    near = np.linalg.norm(points[:, None] - points, axis=2) < 1.1
    faces = [
        (i, j, k) for i in range(12) for j in range(i) for k in range(j) if near[i, j] and near[j, k] and near[i, k]
    ]
    faces = np.array(faces)
    for _ in range(subdivisions):
        edges = np.sort(np.stack([faces, np.roll(faces, -1, axis=1)], axis=2), axis=2)
        unique, number = np.unique(edges.reshape(-1, 2), axis=0, return_inverse=True)
        middle = points[unique].sum(axis=1)
        number = number.reshape(-1, 3) + len(points)
        points = np.concatenate([points, middle / np.linalg.norm(middle, axis=1, keepdims=True)])
        corners = [np.stack([faces[:, k], number[:, k], number[:, k - 1]], axis=1) for k in range(3)]
        faces = np.concatenate([*corners, number])
    outward = (np.cross(*np.diff(points[faces], axis=1).transpose(1, 0, 2)) * points[faces[:, 0]]).sum(axis=1) > 0
    return points, np.where(outward[:, None], faces, faces[:, ::-1])


def seeds(side: int) -> np.ndarray:
    """One point per region, evenly over the sphere off the medial wall; `side` is -1 on the left, 1 on the right."""
    k = np.arange(len(REGIONS)) + 0.5
    x = 1 - (1 + MEDIAL_WALL) * k / len(REGIONS)
    angle = k * np.pi * (1 + 5**0.5)
    return np.stack([side * x, np.sqrt(1 - x**2) * np.cos(angle), np.sqrt(1 - x**2) * np.sin(angle)], axis=1)


def region_at(points: np.ndarray, side: int, margin: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Region at points of the registration sphere, '' on the medial wall, and which are `margin` away from a border."""
    distance, nearest = cKDTree(seeds(side)).query(points, k=2)
    medial = side * points[:, 0] < -MEDIAL_WALL
    inside = (distance[:, 1] - distance[:, 0] > 2 * margin) & (np.abs(side * points[:, 0] + MEDIAL_WALL) > margin)
    return np.where(medial, "", np.array(REGIONS)[nearest[:, 0]]), inside


def write_fsaverage(folder: Path, subdivisions: int = 4) -> Path:
    """Write `label/*.HCPMMP1.annot` and `surf/*.sphere.reg` of 2,562 vertices a hemisphere; gives back the folder."""
    for part in ("label", "surf"):
        (folder / part).mkdir(parents=True)
    points, faces = icosphere(subdivisions)
    for prefix, side in HEMISPHERES.items():
        write_geometry(folder / "surf" / f"{prefix}.sphere.reg", 100 * points, faces)
        names = [f"{prefix[0].upper()}_{region}_ROI" if region else "???" for region in region_at(points, side)[0]]
        write_annotation(folder / "label" / f"{prefix}.HCPMMP1.annot", names)
    return folder


def write_annotation(path: Path, names: list[str]) -> None:
    """Write a FreeSurfer annotation with a colour per name."""
    unique, numbers = np.unique(names, return_inverse=True)
    table = np.zeros((len(unique), 5), int)
    table[:, 0], table[:, 1], table[:, 2] = np.arange(1, len(unique) + 1), 100, 50
    write_annot(path, numbers, table, unique.tolist(), fill_ctab=True)


def write_subject(derivative: Path, participant: str, seed: int = 0, suffix: str = "gii") -> Facts:
    """Write `pycortex-db/<participant>` and `freesurfer_subjdir/<participant>`; `suffix` "npz" as UTS02 has it."""
    rng = np.random.default_rng(seed)
    database = derivative / "pycortex-db" / participant
    freesurfer = derivative / "freesurfer_subjdir" / participant
    for folder in (database / "surfaces", database / "surface-info", freesurfer / "surf", freesurfer / "label"):
        folder.mkdir(parents=True)
    halves = [_write_hemisphere(database, freesurfer, prefix, rng, suffix) for prefix in HEMISPHERES]
    labels, inside, on_cortex, middle = (np.concatenate(part) for part in zip(*halves, strict=True))
    depths = np.split(rng.normal(size=len(labels)), 2)
    np.savez(database / "surface-info" / "sulcaldepth.npz", left=depths[0], right=depths[1])
    mask, mm_to_voxel = _write_transform(database / "transforms" / f"{participant}_auto", middle)
    return Facts(labels, inside, on_cortex, middle, mask, mm_to_voxel, int(mask.sum()))


def _write_hemisphere(
    database: Path, freesurfer: Path, prefix: str, rng: np.random.Generator, suffix: str
) -> tuple[np.ndarray, ...]:
    side, (points, faces) = HEMISPHERES[prefix], icosphere(3)
    order = rng.permutation(len(points))
    points, faces = points[order], np.argsort(order)[faces]
    turn = Rotation.from_rotvec(rng.normal(scale=0.15, size=3))
    registered = turn.apply(points) + 0.05 * np.sin(3 * points[:, [1, 2, 0]])
    registered /= np.linalg.norm(registered, axis=1, keepdims=True)
    labels, inside = region_at(registered, side, margin=0.05)
    medial = labels == ""
    centre = np.array([side * CENTRE, 0, 0])
    surfaces = {"wm": WHITE * points + centre, "pia": PIAL * points + centre, "inflated": FLAT_SCALE * points}
    for kind, coordinates in surfaces.items():
        _write_mesh(database / "surfaces" / f"{kind}_{prefix}.{suffix}", coordinates, faces)
    flat_faces = faces[~medial[faces].any(axis=1)]
    _write_mesh(database / "surfaces" / f"flat_{prefix}.{suffix}", _flattened(points, side), flat_faces)
    for name, coordinates in (("white", surfaces["wm"]), ("pial", surfaces["pia"]), ("sphere.reg", 100 * registered)):
        write_geometry(freesurfer / "surf" / f"{prefix}.{name}", coordinates, faces)
    names = [DESTRIEUX.get(region, "G_temp_sup-Lateral") if region else "Medial_wall" for region in labels.tolist()]
    write_annotation(freesurfer / "label" / f"{prefix}.aparc.a2009s.annot", names)
    rows = [f"{k} {x:.3f} {y:.3f} {z:.3f} 0.0" for k, (x, y, z) in enumerate(surfaces["wm"]) if not medial[k]]
    text = "\n".join([f"#!ascii label, from subject {database.name} vox2ras=TkReg", str(len(rows)), *rows])
    (freesurfer / "label" / f"{prefix}.cortex.label").write_text(text + "\n")
    return labels, inside, ~medial, (surfaces["wm"] + surfaces["pia"]) / 2


def _flattened(points: np.ndarray, side: int) -> np.ndarray:
    """Lambert's azimuthal equal-area map around the lateral pole, (n, 3) with z = 0, front to the middle."""
    scale = FLAT_SCALE * np.sqrt(2 / np.maximum(1 + side * points[:, 0], 1e-6))
    return np.stack([-side * points[:, 1] * scale, points[:, 2] * scale, np.zeros(len(points))], axis=1)


def _write_mesh(path: Path, coordinates: np.ndarray, faces: np.ndarray) -> None:
    coordinates, faces = coordinates.astype(np.float32), faces.astype(np.int32)
    if path.suffix == ".npz":
        np.savez(path, pts=coordinates, polys=faces)
        return
    array = nibabel.gifti.GiftiDataArray
    arrays = [array(coordinates, "NIFTI_INTENT_POINTSET"), array(faces, "NIFTI_INTENT_TRIANGLE")]
    nibabel.save(nibabel.gifti.GiftiImage(darrays=arrays), path)


def _write_transform(folder: Path, middle: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Write the volume's files; gives back the (z, y, x) mask and the (4, 4) way from mm to (x, y, z) voxels."""
    folder.mkdir(parents=True)
    shape, origin = np.array((22, 11, 10)), np.array((-41.3, -19.6, -17.7))
    mm_to_voxel = np.diag([1 / VOXEL] * 3 + [1.0])
    mm_to_voxel[:3, 3] = -origin / VOXEL
    centres = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1) * VOXEL + origin
    mask = cKDTree(middle).query(centres)[0] < 0.95 * VOXEL
    affine = np.linalg.inv(mm_to_voxel)
    nibabel.save(nibabel.Nifti1Image(np.zeros(shape, np.int16), affine), folder / "reference.nii.gz")
    nibabel.save(nibabel.Nifti1Image(mask.astype(np.uint8), affine), folder / "mask_thick.nii.gz")
    matrices = {"coord": mm_to_voxel.tolist(), "magnet": np.eye(4).tolist()}
    (folder / "matrices.xfm").write_text(json.dumps(matrices))
    return mask.T, mm_to_voxel
