"""Parcels of a volume atlas, or spheres around centroids, on the cortex; and the groups of regions they belong to."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
from scipy import ndimage
from scipy.sparse import csr_matrix

from braintuning.cortex.regions import DEFAULT_GROUPS, GROUPS, hcp_mmp_labels
from braintuning.cortex.subject import Cortex
from braintuning.cortex.surface import HEMISPHERES, fs_lr, hcp_mesh
from braintuning.errors import InputError
from braintuning.results import require_file

GRID, GRID_SHAPE = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]]), (91, 109, 91)
"""Voxels of 2 mm in MNI space, as FSL and fMRIPrep lay them."""
RADIUS = 10.0
HALF = 0.5
OUTSIDE_SLACK, LEAST_INSIDE = 6.0, 0.9
"""Distance in mm from MNI152's brain up to which a labelled voxel counts as in it, and least share of those that do."""
FURTHEST_CENTROID = 8.0
DEPTHS = np.linspace(0, 1, 10)
"""Of the points between white (0) and pial surface (1) at which a vertex reads the atlas."""


def read_atlas(path: Path) -> nibabel.Nifti1Image:
    """An atlas in MNI space: one volume with the number of its parcel at each voxel, 0 outside all; int32.

    `InputError` for no such image, several volumes, numbers that are not whole or below 0, no labelled voxel, or an
    atlas in another space, of whose labelled voxels less than 90 % lie in MNI152's brain or within 6 mm of it.
    """
    path = require_file(path)
    try:
        image = nibabel.load(path)
        values = np.asanyarray(image.dataobj)
    except Exception as error:
        raise InputError(f"{path}: found something unreadable ({type(error).__name__}), expected NIfTI") from None
    expected = "expected one volume with the number of a parcel at each voxel"
    values = values[..., 0] if values.ndim == 4 and values.shape[3] == 1 else values
    if values.ndim != 3:
        raise InputError(f"{path}: found shape {values.shape}, {expected}")
    usable = np.isfinite(values) & (values >= 0) & (values == np.rint(values))
    if not usable.all():
        raise InputError(f"{path}: found {values[~usable][0]:g} at a voxel, {expected}")
    if not values.any():
        raise InputError(f"{path}: found no labelled voxel, {expected}")
    atlas = nibabel.Nifti1Image(values.astype(np.int32), image.affine)
    share = _share_in_brain(atlas)
    if share < LEAST_INSIDE:
        found = f"found {share:.0%} of its labelled voxels in MNI152's brain, shape {values.shape}"
        raise InputError(f"{path}: {found}, expected at least {LEAST_INSIDE:.0%}, as of an atlas in MNI space")
    return atlas


def _share_in_brain(atlas: nibabel.Nifti1Image) -> float:
    """Share of labelled voxels that lie in MNI152's brain or near it."""
    near, to_voxel = _near_brain()
    millimetres = nibabel.affines.apply_affine(atlas.affine, np.argwhere(np.asarray(atlas.dataobj) > 0))
    places = np.rint(nibabel.affines.apply_affine(to_voxel, millimetres)).astype(int)
    there = ((places >= 0) & (places < near.shape)).all(axis=1)
    return float(near[tuple(places[there].T)].sum() / len(places))


@cache
def _near_brain() -> tuple[np.ndarray, np.ndarray]:
    """Voxels in or near MNI152's brain as nilearn has it, bool, and the way from mm to them."""
    from nilearn.datasets import load_mni152_brain_mask

    brain = load_mni152_brain_mask(resolution=2)
    distance = ndimage.distance_transform_edt(~np.asarray(brain.dataobj, bool), sampling=2.0)
    return distance <= OUTSIDE_SLACK, np.linalg.inv(brain.affine)


def sphere_atlas(centroids: np.ndarray, radius: float = RADIUS) -> nibabel.Nifti1Image:
    """Spheres around centroids as an atlas, numbered from 1 on; a voxel in several belongs to the nearest centroid.

    `centroids` (parcels, 3) and `radius` are in MNI space, mm. `InputError` for another shape, or a centroid more
    than 6 mm outside MNI152's brain.
    """
    centroids = np.asarray(centroids, np.float64)
    if centroids.ndim != 2 or centroids.shape[1] != 3 or not np.isfinite(centroids).all():
        raise InputError(f"centroids: found shape {centroids.shape}, expected finite x, y and z of each parcel in mm")
    near, to_voxel = _near_brain()
    voxels = np.argwhere(np.ones(GRID_SHAPE, bool))
    millimetres = nibabel.affines.apply_affine(GRID, voxels)
    nearest, parcels = np.full(len(voxels), radius + 1e-9), np.zeros(len(voxels), np.int32)
    for number, centroid in enumerate(centroids, start=1):
        place = tuple(np.rint(nibabel.affines.apply_affine(to_voxel, centroid)).astype(int))
        if not all(0 <= k < n for k, n in zip(place, near.shape, strict=True)) or not near[place]:
            at = ", ".join(f"{one:g}" for one in centroid)
            raise InputError(f"centroid {number}: found ({at}) mm, expected a place in MNI152's brain")
        distance = np.linalg.norm(millimetres - centroid, axis=1)
        closer = distance < nearest
        nearest[closer], parcels[closer] = distance[closer], number
    return nibabel.Nifti1Image(parcels.reshape(GRID_SHAPE), GRID)


def require_parcels(
    atlas: nibabel.Nifti1Image, numbers: Sequence[int], centroids: np.ndarray | None, source: object
) -> None:
    """Raise `InputError`, which begins with `source`, where a table of regions does not fit the atlas.

    That is a parcel of `numbers` that stands there twice or that the atlas lacks, or one whose voxels have their mean
    over 8 mm from its row of `centroids` (parcels, 3), in mm, where these are known.
    """
    values, numbers = np.asarray(atlas.dataobj), np.asarray(numbers)
    known = np.unique(values[values > 0])
    if (missing := numbers[~np.isin(numbers, known)]).size:
        expected = f"expected one of its {len(known)}, from {known[0]} to {known[-1]}"
        raise InputError(f"{source}: found parcel {missing[0]}, which the atlas has not, {expected}")
    if len(set(numbers.tolist())) < len(numbers):
        raise InputError(f"{source}: found {len(numbers)} regions with a parcel twice, expected a parcel for each")
    if centroids is None:
        return
    middles = np.array(ndimage.center_of_mass(values > 0, values, numbers))
    apart = np.linalg.norm(nibabel.affines.apply_affine(atlas.affine, middles) - centroids, axis=1)
    if (apart > FURTHEST_CENTROID).any():
        found = f"parcel {numbers[apart.argmax()]} at {apart.max():.0f} mm from the middle of its voxels in the atlas"
        raise InputError(f"{source}: found {found}, expected at most {FURTHEST_CENTROID:g} mm, as in the same space")


def vertex_parcels(atlas: nibabel.Nifti1Image) -> np.ndarray:
    """Parcel at each vertex of fs_LR, 0 for none; (n_vertices,) int64.

    It is the most frequent number, of equals the lowest, at the voxels nearest to ten points from the white to the pial
    surface, as nilearn's `vol_to_surf` finds it; but where some of the ten lie in no parcel, the others decide, so that
    parcels have fewer holes. The medial wall has none.
    """
    cortex, values = fs_lr(), np.pad(np.asarray(atlas.dataobj), 1)
    to_voxel, parcels = np.linalg.inv(atlas.affine), np.zeros(cortex.n_vertices, np.int64)
    for hemisphere in HEMISPHERES:
        white, pial = (hcp_mesh(hemisphere, f"{kind}_MSMAll")[0] for kind in ("white", "pial"))
        points = white[:, None] + DEPTHS[:, None] * (pial - white)[:, None]
        places = np.rint(nibabel.affines.apply_affine(to_voxel, points)).astype(int) + 1
        found = values[tuple(np.moveaxis(places.clip(0, np.array(values.shape) - 1), -1, 0))]
        votes = (found[:, :, None] == found[:, None]).sum(axis=2) * (found > 0)
        winners = votes == votes.max(axis=1, keepdims=True)
        parcels[cortex.vertices(hemisphere)] = np.where(winners, found, found.max()).min(axis=1)
    return np.where(cortex.cortex, parcels, 0)


def parcel_table(parcels: np.ndarray, numbers: Sequence[int]) -> pd.DataFrame:
    """Which groups of regions parcels belong to, by their overlap with HCP-MMP1.0 on fs_LR.

    The rule: a parcel belongs to a group if at least half of its vertices lie in the group's regions, or if it holds at
    least half of the group's vertices in a hemisphere, as does a parcel that is larger than primary auditory cortex and
    lies around it. `label`, the region that holds most of the parcel among those of its narrowest group, or among
    those of no group, stands for it in `regions.members`.

    Parameters
    ----------
    parcels
        From `vertex_parcels`, (64984,) int64.
    numbers
        Of the parcels that have a row.

    Returns
    -------
    DataFrame
        parcel, vertices, hemisphere ('left', 'right', 'both', or '' where no vertex shows it), region (that holds most
        of it), region_share, for each of `DEFAULT_GROUPS` `<group>` (share of the parcel's vertices that lie in it) and
        `<group>_held` (largest share of the group's vertices in a hemisphere that lie in the parcel), groups (joined
        by ' + ', '' for none) and label.
    """
    regions = hcp_mmp_labels()
    sides = {side: np.repeat(HEMISPHERES, len(parcels) // 2) == side for side in HEMISPHERES}
    members = {group: np.isin(regions, GROUPS[group]) for group in DEFAULT_GROUPS}
    in_none = sorted(set(regions.tolist()) - {""} - {region for group in DEFAULT_GROUPS for region in GROUPS[group]})
    rows = []
    for number in map(int, numbers):
        inside = parcels == number
        names, counts = np.unique(regions[inside], return_counts=True)
        most = dict(zip(names.tolist(), (counts / max(inside.sum(), 1)).tolist(), strict=True))
        shares, own = {}, []
        for group, member in members.items():
            shares[group] = (inside & member).sum() / max(inside.sum(), 1)
            held = [(inside & member & side).sum() / (member & side).sum() for side in sides.values()]
            shares[f"{group}_held"] = max(held)
            own += [group] if max(shares[group], *held) >= HALF else []
        allowed = GROUPS[own[0]] if own else in_none
        label = max((region for region in allowed if region in most), key=most.get, default="")
        found = [name for name, side in sides.items() if (inside & side).any()]
        region, hemisphere = max(most, key=most.get, default=""), "both" if len(found) == 2 else "".join(found)
        rows.append(
            {"parcel": number, "vertices": int(inside.sum()), "hemisphere": hemisphere}
            | {"region": region, "region_share": most.get(region, np.nan), **shares}
            | {"groups": " + ".join(group for group in DEFAULT_GROUPS if label in GROUPS[group]), "label": label}
        )
    return pd.DataFrame(rows)


def parcel_cortex(atlas: nibabel.Nifti1Image, numbers: Sequence[int]) -> Cortex:
    """The cortex fs_LR of parcellated responses: its voxels are parcels, in the order of `numbers`.

    `voxel_labels` are the labels of `parcel_table`, so that `regions.members` finds the parcels of a group; a vertex
    takes the value of its parcel.
    """
    parcels = vertex_parcels(atlas)
    labels = parcel_table(parcels, numbers)["label"].to_numpy(str)
    matrix = csr_matrix(parcels[:, None] == np.asarray(numbers), dtype=np.float64)
    return Cortex(fs_lr(), hcp_mmp_labels(), labels, matrix)


def cortex_of_regions(
    numbers: Sequence[int], source: Path, centroids: np.ndarray | None = None, atlas: Path | None = None
) -> Cortex:
    """The cortex fs_LR of parcellated responses, whose regions are parcels of an atlas or spheres of 10 mm.

    `numbers` are those of the parcels of an atlas, in the order of the responses' columns; `source` is the table of the
    regions, which errors name. `centroids`, (regions, 3), are in MNI space, mm; those of an atlas are checked against
    it. Without either regions lie nowhere. `InputError` as of `read_atlas`, `require_parcels` and `sphere_atlas`.
    """
    if atlas is not None:
        image = read_atlas(atlas)
        require_parcels(image, numbers, centroids, source)
        return parcel_cortex(image, numbers)
    if centroids is not None:
        return parcel_cortex(sphere_atlas(centroids), range(1, len(centroids) + 1))
    surface, labels = fs_lr(), hcp_mmp_labels()
    nowhere = csr_matrix((surface.n_vertices, len(numbers)))
    return Cortex(surface, labels, np.full(len(numbers), "", labels.dtype), nowhere)


def drawn_parcels(cortex: Cortex) -> np.ndarray:
    """Parcel at each vertex of a cortex from `parcel_cortex`, counted from 1 in its own order; (n_vertices,) int64."""
    matrix, parcels = cortex.vertices_from_voxels.tocsr(), np.zeros(cortex.surface.n_vertices, np.int64)
    parcels[np.diff(matrix.indptr) > 0] = matrix.indices + 1
    return parcels
