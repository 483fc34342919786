"""Pixels of a flat map or an inflated view: which vertices each of them shows."""

from dataclasses import dataclass
from functools import lru_cache

import contourpy
import numpy as np
from scipy import ndimage, sparse
from scipy.spatial import cKDTree

from braintuning.cortex.surface import Surface, vertex_normals
from braintuning.errors import InputError

CAMERA_X = {("left", "lateral"): -1, ("left", "medial"): 1, ("right", "medial"): -1, ("right", "lateral"): 1}
FLAT = "flat"
FLAT_COLUMNS = 1500
INFLATED_COLUMNS = 560
MARGIN = 4.0
SHEET_SMOOTHING = 2.0
SHEET_MARGIN = 1.0
SILHOUETTE_SMOOTHING = 0.4
SMALLEST_ISLAND = 15.0
LIGHT = (0.85, 0.2, 0.5)

View = str | tuple[str, str]


@dataclass(frozen=True, eq=False)
class Raster:
    """Pixels over one view of the cortex.

    Attributes
    ----------
    x, y : ndarray of float64, (columns,) and (rows,)
        Centres of the pixels, in the view's mm, rising.
    vertex : ndarray of int32, (rows, columns)
        The vertex with the largest share in the pixel, counted over both hemispheres; -1 where there is no cortex.
    sheet : tuple of ndarray
        Smooth closed curves around what is shown, just inside the ragged edge of the mesh, each (points, 2).
    blend : csr_array of float32, (pixels with cortex, n_vertices)
        Share of each vertex in each pixel with cortex, in the order of `vertex[vertex >= 0]`; rows sum to 1.
    """

    x: np.ndarray
    y: np.ndarray
    vertex: np.ndarray
    sheet: tuple[np.ndarray, ...]
    blend: sparse.csr_array

    @property
    def aspect(self) -> float:
        """Height over width."""
        return float(np.ptp(self.y) / np.ptp(self.x))

    def paint(self, colours: np.ndarray) -> np.ndarray:
        """Opaque image, (rows, columns, 4) uint8, of vertices of the given colours; the first row is the lowest.

        `colours` (n_vertices, 3 or more) are red, green and blue from 0 to 1, interpolated linearly within each
        triangle. White where there is no cortex.
        """
        opaque = np.full((len(colours), 4), 255, np.float32)
        opaque[:, :3] *= colours[:, :3]
        shown = np.clip(self.blend @ opaque + np.float32(0.5), 0, 255).astype(np.uint8)
        image = np.full(self.vertex.shape, 0xFFFFFFFF, np.uint32)
        image[self.vertex >= 0] = shown.view(np.uint32)[:, 0]
        return image.view(np.uint8).reshape(*self.vertex.shape, 4)


@lru_cache(maxsize=64)
def view_image(surface: Surface, view: View = FLAT) -> Raster:
    """Pixels of one view of a surface; kept in memory.

    `view` is 'flat', or hemisphere and side such as ('left', 'lateral'), seen from far away (orthographic). An unknown
    one, or 'flat' for a surface without a flat mesh, is an `InputError`.
    """
    if view == FLAT:
        if surface.flat_coordinates is None or surface.flat_faces is None:
            raise InputError(f"surface {surface.name}: has no flat mesh, expected one to draw a flat map")
        return _raster(surface.flat_coordinates, surface.flat_faces, surface.n_vertices, FLAT_COLUMNS)
    if view not in CAMERA_X:
        raise InputError(f"view {view!r}: expected {FLAT!r} or one of {', '.join(map(str, CAMERA_X))}")
    coordinates, faces = surface.inflated[view[0]]
    towards = CAMERA_X[view] * coordinates[:, 0]
    seen = np.stack([CAMERA_X[view] * coordinates[:, 1], coordinates[:, 2]], axis=1)
    a, b, c = (seen[faces[:, k]] for k in range(3))
    front = faces[_cross(b - a, c - a) > 0]
    near_last = front[np.argsort(towards[front].mean(axis=1), kind="stable")]
    points = np.full((surface.n_vertices, 2), np.nan)
    points[surface.vertices(view[0])] = seen
    first = surface.vertices(view[0]).start
    return _raster(points, near_last + first, surface.n_vertices, INFLATED_COLUMNS, flat=False)


@lru_cache(maxsize=64)
def facing_light(surface: Surface, view: View) -> np.ndarray:
    """Light that each vertex of an inflated view catches, (n_vertices,) from 0 to 1, by Lambert's cosine law.

    It shines from the camera, a little from above and in front.
    """
    light = np.array(LIGHT) * [CAMERA_X[view], 1, 1] / np.linalg.norm(LIGHT)
    caught = np.ones(surface.n_vertices)
    caught[surface.vertices(view[0])] = np.clip(vertex_normals(*surface.inflated[view[0]]) @ light, 0, 1)
    return caught


def _raster(points: np.ndarray, faces: np.ndarray, n_vertices: int, columns: int, flat: bool = True) -> Raster:
    """Raster of a planar mesh; a face covers those before it. `points` (n_vertices, 2) may be NaN where unused."""
    used = np.unique(faces)
    low, high = points[used].min(axis=0) - MARGIN, points[used].max(axis=0) + MARGIN
    pixel = (high[0] - low[0]) / columns
    x, y = (low[k] + pixel * (np.arange(np.ceil((high[k] - low[k]) / pixel)) + 0.5) for k in range(2))
    shape = len(y), len(x)
    cell, face, weights = _covered((points[faces] - low) / pixel - 0.5, shape)
    filled = np.zeros(shape, bool)
    filled.flat[cell] = True
    filled = ndimage.binary_fill_holes(filled)
    missing = np.setdiff1d(np.flatnonzero(filled), cell, assume_unique=True)
    centres = np.stack([x[missing % len(x)], y[missing // len(x)]], axis=1)
    nearest = used[cKDTree(points[used]).query(centres)[1]] if len(missing) else np.empty(0, int)
    corners = np.concatenate([faces[face], np.repeat(nearest[:, None], 3, axis=1)]).astype(np.int32)
    weights = np.concatenate([weights, np.tile([1.0, 0.0, 0.0], (len(missing), 1))]).astype(np.float32)
    order = np.argsort(np.concatenate([cell, missing]), kind="stable")
    corners, weights = corners[order], weights[order]
    vertex = np.full(shape, -1, np.int32)
    vertex[filled] = np.take_along_axis(corners, weights.argmax(axis=1)[:, None], axis=1)[:, 0]
    pointers = np.arange(0, 3 * len(order) + 1, 3)
    blend = sparse.csr_array((weights.ravel(), corners.ravel(), pointers), shape=(len(order), n_vertices))
    within = ndimage.binary_erosion(filled, iterations=max(1, round(SHEET_MARGIN / pixel)) if flat else 1)
    sheet = smooth_curves(within, x, y, SHEET_SMOOTHING if flat else SILHOUETTE_SMOOTHING)
    return Raster(x, y, vertex, sheet, blend)


def _covered(triangles: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels whose centre a triangle covers: flat index, last triangle that does, and its barycentric weights.

    `triangles` (faces, 3, 2) are in pixels, the centre of the first pixel being (0, 0).
    """
    a, b, c = (triangles[:, k] for k in range(3))
    area = _cross(b - a, c - a)
    low = np.maximum(np.ceil(triangles.min(axis=1) - 1e-9).astype(int), 0)
    high = np.minimum(np.floor(triangles.max(axis=1) + 1e-9).astype(int), np.array(shape)[::-1] - 1)
    size = np.where((area != 0)[:, None], np.maximum(high - low + 1, 0), 0)
    n_tried = size.prod(axis=1)
    face = np.repeat(np.arange(len(triangles)), n_tried)
    within = np.arange(len(face)) - np.repeat(np.cumsum(n_tried) - n_tried, n_tried)
    row, column = np.divmod(within, size[face, 0])
    row, column = row + low[face, 1], column + low[face, 0]
    offset = np.stack([column, row], axis=1) - a[face]
    second = _cross(offset, (c - a)[face]) / area[face]
    third = _cross((b - a)[face], offset) / area[face]
    inside = (second >= -1e-9) & (third >= -1e-9) & (second + third <= 1 + 1e-9)
    owner = np.full(shape[0] * shape[1], -1)
    owner[row[inside] * shape[1] + column[inside]] = np.flatnonzero(inside)
    cell = np.flatnonzero(owner >= 0)
    last = owner[cell]
    return cell, face[last], np.stack([1 - second[last] - third[last], second[last], third[last]], axis=1)


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return u[..., 0] * v[..., 1] - u[..., 1] * v[..., 0]


def smooth_curves(mask: np.ndarray, x: np.ndarray, y: np.ndarray, smoothing: float) -> tuple[np.ndarray, ...]:
    """Closed curves (points, 2) around a mask smoothed by a Gaussian of `smoothing` mm, without its small islands."""
    if max(len(x), len(y)) < 2:
        return ()
    pixel = float(x[1] - x[0] if len(x) > 1 else y[1] - y[0])
    margin = int(4 * smoothing / pixel) + 2
    rows, columns = ndimage.find_objects(mask.astype(np.int8))[0]
    smooth = ndimage.gaussian_filter(np.pad(mask[rows, columns], margin).astype(np.float32), smoothing / pixel)
    x = x[0] + pixel * np.arange(columns.start - margin, columns.stop + margin)
    y = y[0] + pixel * np.arange(rows.start - margin, rows.stop + margin)
    lines = contourpy.contour_generator(x, y, smooth).lines(0.5)
    areas = [abs(line[:-1, 0] @ line[1:, 1] - line[1:, 0] @ line[:-1, 1]) / 2 for line in lines]  # shoelace formula
    return tuple(line for line, area in zip(lines, areas, strict=True) if area > SMALLEST_ISLAND)
