"""Colours of vertices: values over the grey of the folds, faded where they are unreliable."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from scipy import sparse

from braintuning.cortex.surface import HEMISPHERES, Surface, mesh_adjacency
from braintuning.errors import InputError

GROUP_COLOURS = {
    "primary_auditory": "#22d3ff",
    "early_auditory": "#ffffff",
    "late_language": "#7cfc00",
    "angular_gyrus": "#7cfc00",
    "lateral_temporal": "#ffb3e6",
    "inferior_middle_frontal": "#ffe14d",
}
CASING = "#111111"
"""Dark edge of outlines and names."""
DARKEST_FOLD, LIGHTEST_FOLD = 0.40, 0.87
MIDDLE_FOLD = 0.7
DARKEST_SHADE = 0.62
LEAST_WEIGHT = 1e-3
SEQUENTIAL = "inferno"
"""Colour map of everything but differences."""
DIFFERENCE = LinearSegmentedColormap.from_list(
    "dark to light", ["#081d58", "#225ea8", "#5b8fc7", "#a8a8a8", "#f8ac52", "#fdc64a", "#fff7b2"]
)
"""Colour map of differences: blue and dark below zero, grey at zero, orange to yellow and light above it."""


@dataclass(frozen=True, eq=False)
class Reliability:
    """How reliable each value is: the second dimension of a two-dimensional colour map.

    A value's colour begins to show over the grey folds where the measure `values` (n_vertices,), such as the noise
    ceiling, is `low`, and shows in full from `high` on; NaN counts as unreliable. `label` stands at the colour legend.
    """

    values: np.ndarray
    label: str
    low: float
    high: float

    def alpha(self, surface: Surface) -> np.ndarray:
        """Share of the value's colour at each vertex, 0 to 1; `InputError` if values or limits do not fit."""
        if not self.low < self.high:
            found = f"found low {self.low:g} and high {self.high:g}"
            raise InputError(f"reliability limits: {found}, expected low below high")
        values = per_vertex(surface, self.values, f"reliability ({self.label})")
        return np.clip((np.nan_to_num(values, nan=self.low) - self.low) / (self.high - self.low), 0, 1)


def per_vertex(surface: Surface, values: np.ndarray, what: str, dtype: type = np.float64) -> np.ndarray:
    """`values` as an array (n_vertices,); `InputError` that names both lengths when there is not one per vertex."""
    values = np.asarray(values, dtype)
    if values.shape != (surface.n_vertices,):
        raise InputError(f"{what} on {surface.name}: found shape {values.shape}, expected ({surface.n_vertices},)")
    return values


def vertex_colours(
    surface: Surface,
    values: np.ndarray,
    scale: ScalarMappable,
    alpha: np.ndarray | None = None,
    light: np.ndarray | None = None,
) -> np.ndarray:
    """Opaque colour of each vertex, (n_vertices, 4) float64: its value over the folds, light on gyri, dark in sulci.

    NaN shows the folds alone; `alpha` (n_vertices,) is the share of the value's colour, 0 to 1. `light` as from
    `raster.facing_light` shades the folds alone, so that a value has its colour in the colour bar wherever it lies.
    """
    values = per_vertex(surface, values, "values")
    share = np.ones(len(values)) if alpha is None else np.clip(np.nan_to_num(per_vertex(surface, alpha, "alpha")), 0, 1)
    share = np.where(np.isnan(values), 0, share)[:, None]
    low, high = np.percentile(surface.sulcal_depth[surface.cortex], [1, 99])
    grey = DARKEST_FOLD + (LIGHTEST_FOLD - DARKEST_FOLD) * np.clip((surface.sulcal_depth - low) / (high - low), 0, 1)
    if light is not None:
        grey = grey * (DARKEST_SHADE + (1 - DARKEST_SHADE) * light)
    folds = np.stack([grey, grey, grey, np.ones_like(grey)], axis=1)
    return folds * (1 - share) + scale.to_rgba(values) * share


def limits(
    surface: Surface, values: np.ndarray, vmin: float | None, vmax: float | None, symmetric: bool
) -> tuple[float, float]:
    """The ends of the colour map, `vmin` and `vmax`, those that are None chosen from the values.

    They are 0 (the 1st percentile if that is negative) and the 99th percentile; if `symmetric`, minus and plus the
    99th percentile of the absolute values. Where nearly all values are the same, the largest takes the place of the
    percentile, and one more than `vmin` where all are. `InputError` if all are NaN or `vmin` is not below `vmax`.
    """
    known = values[np.isfinite(values)]
    if not known.size:
        raise InputError(f"values on {surface.name}: all {len(values)} are NaN, expected at least one number")
    if symmetric:
        given = [abs(end) for end in (vmin, vmax) if end is not None]
        vmax = max(given) if given else limits(surface, np.abs(known), 0.0, None, symmetric=False)[1]
        vmin = -vmax
    vmin = min(0.0, float(np.percentile(known, 1))) if vmin is None else vmin
    if vmax is None:
        vmax = next(float(end) for end in (np.percentile(known, 99), known.max(), vmin + 1) if end > vmin)
    if not vmin < vmax:
        raise InputError(f"colour map limits: found vmin {vmin:g} and vmax {vmax:g}, expected vmin below vmax")
    return vmin, vmax


def smoothed(surface: Surface, values: np.ndarray, mm: float) -> np.ndarray:
    """Values averaged over a neighbourhood on the inflated surface, for display; (n_vertices,) float64.

    Each vertex is averaged repeatedly with its neighbours on the mesh: n times, on a mesh with edges of length d and
    six neighbours a vertex, spread a value over a standard deviation of d sqrt(3 n / 7), which comes as close to `mm`
    as a whole n allows. Unknown values (NaN) take no part: the sum is divided by the weight of those that are known
    (normalised convolution, Knutsson & Westin 1993). NaN where nothing nearby is known, and off the cortex.
    """
    known = np.isfinite(values) & surface.cortex
    total, weight = np.where(known, values, 0.0), known.astype(float)
    average, edge = neighbours(surface)
    for _ in range(round(7 / 3 * (mm / edge) ** 2)):
        total, weight = average @ total, average @ weight
    near = surface.cortex & (weight > LEAST_WEIGHT)
    return np.divide(total, weight, out=np.full(len(values), np.nan), where=near)


@lru_cache(maxsize=16)
def neighbours(surface: Surface) -> tuple[sparse.csr_array, float]:
    """Mean of each vertex and its neighbours as a matrix, and an edge's median length in mm on the inflated surface."""
    adjacent, lengths = [], []
    for points, faces in (surface.inflated[hemisphere] for hemisphere in HEMISPHERES):
        adjacent.append(mesh_adjacency(faces, len(points)))
        first, second = sparse.triu(adjacent[-1]).nonzero()
        lengths.append(np.linalg.norm(points[first] - points[second], axis=1))
    joined = sparse.block_diag(adjacent, format="csr") + sparse.eye_array(surface.n_vertices, format="csr")
    return sparse.csr_array(joined / joined.sum(axis=1)[:, None]), float(np.median(np.concatenate(lengths)))


def group_average(maps: np.ndarray) -> np.ndarray:
    """Mean (n_vertices,) float64 over the participants in whom a vertex has a value, NaN where none has.

    `maps` (participants, n_vertices) lie on the same surface.
    """
    return np.ma.masked_invalid(np.asarray(maps, np.float64)).mean(axis=0).filled(np.nan)
