"""What comes between a story and the responses to it: noise, smooth over the cortex and slow in time, and attention."""

from functools import cache

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter
from scipy.sparse import csr_matrix, identity
from scipy.special import ndtr

from braintuning.cortex.surface import HEMISPHERES, Mesh, fs_lr, hcp_mesh, mesh_adjacency

AUTOCORRELATION = 0.35
DRIFT_PERIOD = 120.0
ATTENTION_SECONDS = 60.0
FWHM = np.sqrt(8 * np.log(2))
"""Full width at half maximum of a Gaussian, in standard deviations."""


def middle_surface(hemisphere: str) -> Mesh:
    """The cortical sheet half way between white matter and pia, on which millimetres are measured: HCP's group mean."""
    return hcp_mesh(hemisphere, "midthickness_MSMAll")


@cache
def smoothing(fwhm: float) -> csr_matrix:
    """Gaussian weights of nearby vertices; (cortical vertices, cortical vertices) float32, each row of unit length.

    White noise of unit variance gets a smoothness of `fwhm` mm and keeps its variance. Vertices count that the mesh
    joins by edges of about three standard deviations together, by their straight distance. 0: every vertex alone.
    """
    cortex = fs_lr().cortex
    if not fwhm:
        return identity(int(cortex.sum()), dtype=np.float32, format="csr")
    rows, columns, weights = [], [], []
    for hemisphere in HEMISPHERES:
        points, faces = middle_surface(hemisphere)
        adjacency = mesh_adjacency(faces, len(points))
        edges = adjacency.tocoo()
        length = np.linalg.norm(points[edges.row] - points[edges.col], axis=1).mean()
        near = step = (adjacency + identity(len(points), format="csr")).astype(bool)
        for _ in range(round(3 * fwhm / FWHM / length) - 1):
            near = near @ step
        pairs = near.tocoo()
        apart = np.linalg.norm(points[pairs.row] - points[pairs.col], axis=1) * FWHM / fwhm
        close, start = apart < 3, fs_lr().vertices(hemisphere).start
        rows.append(pairs.row[close] + start)
        columns.append(pairs.col[close] + start)
        weights.append(np.exp(-(apart[close] ** 2) / 2))
    rows, columns, weights = (np.concatenate(parts) for parts in (rows, columns, weights))
    kernel = csr_matrix((weights, (rows, columns)), shape=(len(cortex),) * 2)[cortex][:, cortex]
    length = np.sqrt(np.asarray(kernel.multiply(kernel).sum(axis=1)))
    return csr_matrix(kernel.multiply(1 / length), dtype=np.float32)


def autoregressive_noise(n_trs: int, n_columns: int, rng: np.random.Generator) -> np.ndarray:
    """First-order autoregressive noise of unit variance; (n_trs, n_columns) float32."""
    burn_in = 20
    white = rng.standard_normal((n_trs + burn_in, n_columns), dtype=np.float32)
    gain, lag = np.sqrt(1 - AUTOCORRELATION**2), -AUTOCORRELATION
    return lfilter(np.array([gain], np.float32), np.array([1, lag], np.float32), white, axis=0)[burn_in:]


def drift(n_trs: int, tr: float, n_columns: int, rng: np.random.Generator) -> np.ndarray:
    """Sums of cosines of periods above two minutes; (n_trs, n_columns) float32.

    They have 1, 2, ... half periods in the story and are equally strong. Unit variance on average; zeros where twice
    the story is shorter than such a period.
    """
    order = np.arange(1, int(np.ceil(2 * n_trs * tr / DRIFT_PERIOD)))
    cosines = np.sqrt(2 / max(len(order), 1)) * np.cos(np.pi * np.outer(np.arange(n_trs) + 0.5, order) / n_trs)
    return cosines.astype(np.float32) @ rng.standard_normal((len(order), n_columns), dtype=np.float32)


def cortical_noise(
    n_trs: int, tr: float, drift_share: float, kernel: csr_matrix, rng: np.random.Generator
) -> np.ndarray:
    """Autoregressive noise and drift of together unit variance, smoothed by rows of `smoothing`; (n_trs, rows) float32.

    `drift_share` of the variance is drift, but in a story too short for any.
    """
    used = np.unique(kernel.indices)
    slow = drift(n_trs, tr, len(used), rng) if drift_share else np.zeros((1, 1), np.float32)
    share = np.float32(drift_share if slow.any() else 0)
    mixed = np.sqrt(1 - share) * autoregressive_noise(n_trs, len(used), rng) + np.sqrt(share) * slow
    return np.ascontiguousarray((kernel[:, used] @ np.ascontiguousarray(mixed.T)).T)


def attention(n_trs: int, tr: float, least: float, rng: np.random.Generator) -> np.ndarray:
    """Share of a story that a listener follows, between `least` and 1, all equally often; (n_trs,) float32.

    It comes and goes within minutes: the percentile of noise smoothed by a Gaussian of 60 s at half its maximum.
    """
    deviation = ATTENTION_SECONDS / FWHM / tr
    margin = int(np.ceil(4 * deviation))
    white = rng.standard_normal(n_trs + 2 * margin)
    slow = gaussian_filter1d(white, deviation)[margin : margin + n_trs]
    kernel = gaussian_filter1d(np.eye(1, 2 * margin + 1, margin)[0], deviation)
    return (least + (1 - least) * ndtr(slow / np.linalg.norm(kernel))).astype(np.float32)
