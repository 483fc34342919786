"""Outlines of regions on a view of the cortex, and where their names stand on a flat map."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import ndimage

from braintuning.cortex.colours import per_vertex
from braintuning.cortex.raster import FLAT, Raster, View, smooth_curves, view_image
from braintuning.cortex.regions import GROUPS
from braintuning.cortex.surface import FS_LR, HEMISPHERES, Surface

SMOOTHING = 1.1
NAME_PLACES = Path(__file__).with_name("name_places.csv")
SMALL_NAME_POINTS = 4.116
"""Size of the names for which the places of `NAME_PLACES` were found."""
INSIDE = 0.9

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Outline:
    """Where a region of one hemisphere lies on a view of the cortex: closed curves (points, 2) in mm, and its pixels.

    `window`: rows and columns of the view, of `shape` (see `raster.Raster`), that hold the region; `inside`: which
    pixels of the window are in it, bool.
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
    """Outlines on one view (see `raster.view_image`), in the order of `regions`, left hemisphere first; kept in memory.

    A key of `regions.GROUPS` among the regions has one outline a hemisphere, around all of the group. What the view
    does not show is left out. `labels` of another length than the surface are an `InputError`.
    """
    number_of = {one: number for number, name in enumerate(regions, start=1) for one in GROUPS.get(name, (name,))}
    labels = per_vertex(surface, labels, "labels", str).tolist()
    numbers = np.array([number_of.get(label, 0) for label in labels], np.int16)
    return _outlines(surface, numbers.tobytes(), regions, view)


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


@dataclass(frozen=True)
class Name:
    """A region's name on the flat map, centred on (`x`, `y`) in the map's mm.

    `anchor` is None for a name inside its region, else the point in the region at which its leader line starts.
    """

    text: str
    x: float
    y: float
    anchor: tuple[float, float] | None = None


@cache
def _name_places() -> dict[float, dict[tuple[str, str], Name]]:
    """Places of names on the flat map of fs_LR by points per mm, then by hemisphere and region; the coarsest first.

    They were found once by a search for short leader lines that do not cross, at a map of 3.5 and one of 6 inches, and
    at insets of 0.95 and 1.44 inches.
    """
    layouts: dict[float, dict[tuple[str, str], Name]] = {}
    for row in pd.read_csv(NAME_PLACES, dtype={"region": str}).itertuples(index=False):
        anchor = None if np.isnan(row.anchor_x) else (row.anchor_x, row.anchor_y)
        layouts.setdefault(row.points_per_mm, {})[row.hemisphere, row.region] = Name(row.region, row.x, row.y, anchor)
    return dict(sorted(layouts.items()))


def place_names(
    surface: Surface,
    named: Sequence[Outline],
    points_per_mm: float,
    points: float,
    bounds: Box,
    keep_off: Sequence[Box] = (),
) -> tuple[list[Name], float]:
    """Where the names of regions stand on a flat map, and their size: `points`, or less where they would overlap.

    On fs_LR they stand where `NAME_PLACES` says, in the finest layout that suits the scale. On other surfaces a name
    stands on the deepest point of its region if it fits there, else at the nearest free place off all named regions,
    within `bounds` and off the boxes `keep_off`: left, right, bottom and top in mm.
    """
    keys = [(outline.hemisphere, outline.region) for outline in named]
    layouts = {scale: places for scale, places in _name_places().items() if places.keys() >= set(keys)}
    if surface.name == FS_LR and layouts:
        scale = max((scale for scale in layouts if scale <= points_per_mm), default=min(layouts))
        names, small = [layouts[scale][key] for key in keys], SMALL_NAME_POINTS * points_per_mm / scale
        gaps = ((abs(a.x - b.x) / len(a.text + b.text) / 0.36, abs(a.y - b.y) / 1.1) for a, b in combinations(names, 2))
        return names, min(points, max(small, points_per_mm * min(map(max, gaps), default=np.inf)))
    return _searched(named, view_image(surface), points / points_per_mm, bounds, keep_off), points


def _searched(
    named: Sequence[Outline], image: Raster, height: float, bounds: Box, keep_off: Sequence[Box]
) -> list[Name]:
    """Places of names `height` mm high, large regions first; one for which there is no room is left out."""
    taken, pixel, found = list(keep_off), image.x[1] - image.x[0], []
    regions = np.any([outline.mask for outline in named], axis=0) if named else None
    radius, angle = np.meshgrid(np.arange(1, 25) * height, np.linspace(0, 2 * np.pi, 24, endpoint=False), indexing="ij")
    steps = np.stack([1.5 * radius * np.cos(angle), radius * np.sin(angle)], axis=-1).reshape(-1, 2)
    for outline in sorted(named, key=lambda one: -one.inside.sum()):
        depth = ndimage.distance_transform_edt(np.pad(outline.inside, 1))[1:-1, 1:-1]
        row, column = np.unravel_index(depth.argmax(), depth.shape)
        middle = np.array([image.x[outline.window[1]][column], image.y[outline.window[0]][row]])
        half = np.array([0.36 * height * len(outline.region), 0.6 * height])
        for step in (np.zeros(2), *steps):
            (left, bottom), (right, top) = middle + step - half, middle + step + half
            if left < bounds[0] or right > bounds[1] or bottom < bounds[2] or top > bounds[3]:
                continue
            if any(left < b and a < right and bottom < d and c < top for a, b, c, d in taken):
                continue
            columns, rows = (
                slice(int((low - axis[0]) / pixel), int((high - axis[0]) / pixel) + 1)
                for axis, low, high in ((image.x, left, right), (image.y, bottom, top))
            )
            beside = step.any()
            if not regions[rows, columns].any() if beside else outline.mask[rows, columns].mean() >= INSIDE:
                taken.append((left, right, bottom, top))
                anchor = tuple(middle.tolist()) if beside else None
                found.append(Name(outline.region, *(middle + step).tolist(), anchor))
                break
    return found
