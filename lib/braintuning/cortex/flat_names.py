"""Where the names of regions go on a flat map, so that none overlaps another."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from braintuning.cortex.raster import Raster
from braintuning.cortex.regions import Outline
from braintuning.cortex.surface import HEMISPHERES

INSIDE = 0.9
LARGEST_SHARE = 0.4
CLEARANCE = 1.0
FORBIDDEN = 50.0
OVER_REGIONS = 1.0
GOOD_ENOUGH = 4.0
N_NEAREST = 300


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

    def lines_of(self, frames: Iterable[tuple[float, float, float, float]]) -> np.ndarray:
        """Pixels of the lines of frames (left, right, bottom, top), with some air around them."""
        filled = np.zeros((len(self.y), len(self.x)), bool)
        for left, right, bottom, top in frames:
            (first, last), (low, high) = self.column_row(np.array([[left, bottom], [right, top]]))
            filled[[low, high], first : last + 1] = True
            filled[low : high + 1, [first, last]] = True
        return ndimage.binary_dilation(filled, iterations=max(1, round(self.clearance / self.step)))

    def name_inside(self, text: str, free: np.ndarray, framed: np.ndarray, size: tuple[float, float]) -> Name | None:
        """The name where its box has most of its area in free pixels and none that is framed.

        None if the share of free pixels is less than `INSIDE`.
        """
        if not free.any():
            return None
        box = [max(1, round(length / self.step)) for length in size[::-1]]
        rows, columns = ndimage.find_objects(free.astype(np.int8))[0]
        crop = np.pad(free[rows, columns], 1)
        covered = ndimage.uniform_filter(crop.astype(float), box, mode="constant")
        covered[ndimage.maximum_filter(np.pad(framed[rows, columns], 1, mode="edge"), box)] = 0
        row, column = np.unravel_index((covered + 1e-4 * ndimage.distance_transform_edt(crop)).argmax(), crop.shape)
        if covered[row, column] < INSIDE:
            return None
        x, y = (
            axis[0] + self.step * (part.start + k - 1)
            for axis, part, k in ((self.x, columns, column), (self.y, rows, row))
        )
        return Name(text, float(x), float(y), *size)

    def anchors(self, mask: np.ndarray) -> np.ndarray:
        """Points (n, 2) well inside a mask, its very middle first, at most six."""
        rows, columns = ndimage.find_objects(mask.astype(np.int8))[0]
        depth = ndimage.distance_transform_edt(np.pad(mask[rows, columns], 1))[1:-1, 1:-1]
        deep = np.argwhere(depth >= 0.6 * depth.max())
        deep = deep[np.argsort(-depth[tuple(deep.T)], kind="stable")]
        chosen = deep[:: max(1, len(deep) // 6)][:6]
        return np.stack([self.x[columns][chosen[:, 1]], self.y[rows][chosen[:, 0]]], axis=1)

    def name_beside(
        self, text: str, anchors: np.ndarray, regions: np.ndarray, others: list[Name], size: tuple[float, float]
    ) -> tuple[Name, float] | None:
        """The name off the regions and other names, where its leader line is short and crosses none of them; its cost.

        The cost is the leader's length in heights of the name, more where it lies over regions, and `FORBIDDEN` for
        each name or leader that it crosses. None if there is no room.
        """
        boxes, half = self.paint(others), np.array(size) / 2
        centres = self._free_centres(anchors[0], self.paint(others, leaders=True) | regions, half)
        if not len(centres):
            return None
        ends = np.clip(anchors[:, None], centres - half, centres + half)
        starts = np.broadcast_to(anchors[:, None], ends.shape)
        columns, rows = self.column_row(np.linspace(starts, ends, 24, axis=-2))
        length = np.linalg.norm(ends - starts, axis=-1) * (1 + OVER_REGIONS * regions[rows, columns].mean(axis=-1))
        cost = (length + 0.15 * np.abs(ends - centres)[..., 1]) / size[1]
        cost += FORBIDDEN * boxes[rows, columns].any(axis=-1)
        leaders = np.array([(name.anchor, name.leader_end) for name in others if name.anchor]).reshape(-1, 2, 2)
        cost += FORBIDDEN * _crossings(starts, ends, leaders)
        anchor, best = np.unravel_index(cost.argmin(), cost.shape)
        leader = tuple(anchors[anchor].tolist()), tuple(ends[anchor, best].tolist())
        return Name(text, *centres[best].tolist(), *size, *leader), float(cost[anchor, best])

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


@lru_cache(maxsize=64)
def place_names(
    placed: tuple[Outline, ...],
    image: Raster,
    widths: tuple[float, ...],
    height: float,
    points_per_mm: float,
    unnamed: tuple[Outline, ...] = (),
    frames: tuple[tuple[float, float, float, float], ...] = (),
) -> tuple[Name, ...]:
    """Where names go so that none overlaps another: inside the region if it fits, else beside the outlined regions.

    A name that would hide more than `LARGEST_SHARE` of its region goes beside it.

    Those beside are placed one after the other where a straight leader line is short and crosses no other, and then
    again given all the others, until none moves.

    Parameters
    ----------
    placed : tuple of Outline
        The regions, as `outlines` gives them.
    image : Raster
        The map they lie on.
    widths : tuple of float
        Width of each name in points.
    height : float
        Height of every name in points.
    points_per_mm : float
        Scale of the drawing; the layout holds for this scale alone.
    unnamed : tuple of Outline
        Regions without a name of their own, which names keep off where there is room beside them.
    frames : tuple of tuple of float
        Left, right, bottom and top of frames drawn on the map, in its mm: no name lies on their lines.

    Returns
    -------
    tuple of Name
        One per outline, in its order, without those that nothing has room for; the same input gives the same layout.
    """
    stride = max(1, round(0.6 / (points_per_mm * (image.x[1] - image.x[0]))))
    canvas = _Canvas(image.x[::stride], image.y[::stride], CLEARANCE / points_per_mm)
    masks = [outline.mask[::stride, ::stride] for outline in placed]
    sizes = [(width / points_per_mm, height / points_per_mm) for width in widths]
    framed, names = canvas.lines_of(frames), {}
    for k, outline in enumerate(placed):
        if np.prod(sizes[k]) > LARGEST_SHARE * masks[k].sum() * canvas.step**2:
            continue
        if name := canvas.name_inside(outline.region, masks[k] & ~canvas.paint(names.values()), framed, sizes[k]):
            names[k] = name
    margin = max(1, round(1.5 * canvas.clearance / canvas.step))
    regions = ndimage.binary_dilation(np.any(masks, axis=0), iterations=margin)
    outlined = regions | np.any([outline.mask[::stride, ::stride] for outline in (*unnamed, *placed)], axis=0)
    for hemisphere in HEMISPHERES:
        outside = [
            _Outside(k, outline.region, canvas.anchors(masks[k]), sizes[k])
            for k, outline in enumerate(placed)
            if k not in names and outline.hemisphere == hemisphere
        ]
        names |= _around(canvas, outside, names, (outlined | framed, regions | framed))
    return tuple(names[k] for k in sorted(names))


class _Outside(NamedTuple):
    """A name that does not fit into its region."""

    place: int
    text: str
    anchors: np.ndarray
    size: tuple[float, float]


def _around(
    canvas: _Canvas, outside: list[_Outside], inside: dict[int, Name], keep_off: tuple[np.ndarray, np.ndarray]
) -> dict[int, Name]:
    """The best of the layouts to which several orders of placing lead, or the first in which every leader is short."""
    along = [np.argsort([one.anchors[0, axis] for one in outside]).tolist() for axis in (1, 0)]
    orders = [list(range(len(outside))), *(order[::step] for order in along for step in (1, -1))]
    best, lowest = {}, np.inf
    for order in orders:
        found, costs = _settle(canvas, [outside[k] for k in order], inside, keep_off)
        cost = sum(one**2 for one in costs) + 10 * FORBIDDEN**2 * (len(outside) - len(found))
        if cost < lowest:
            best, lowest = found, cost
        if len(found) == len(outside) and max(costs, default=0) < GOOD_ENOUGH:
            break
    return best


def _settle(
    canvas: _Canvas, outside: list[_Outside], inside: dict[int, Name], keep_off: tuple[np.ndarray, np.ndarray]
) -> tuple[dict[int, Name], list[float]]:
    """Place one name after the other, and again given all the others until none moves; the layout and its costs."""
    found: dict[int, Name] = {}
    costs: dict[int, float] = {}
    for _ in range(5):
        before = dict(found)
        for place, text, anchors, size in outside:
            others = [*inside.values(), *(name for k, name in found.items() if k != place)]
            for taken in keep_off:
                if choice := canvas.name_beside(text, anchors, taken, others, size):
                    found[place], costs[place] = choice
                    break
        if found == before:
            break
    return found, list(costs.values())
