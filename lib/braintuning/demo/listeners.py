"""Simulated listeners with known ground truth.

Each cortical vertex responds, through a haemodynamic response, to a mixture of power spectrum, articulation and word
meaning in shares that depend on its region: primary auditory cortex mostly to spectrum, the belt mostly to
articulation, late language regions mostly to meaning, and the rest of the cortex not at all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from nilearn.glm.first_level import spm_hrf
from scipy.signal import lfilter
from scipy.sparse import csr_matrix
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from braintuning.alignment.encoding import zscore
from braintuning.cortex.regions import GROUPS, hcp_mmp_labels
from braintuning.cortex.surface import fs_lr
from braintuning.datasets.textgrid import Interval
from braintuning.demo.stories import word_vectors
from braintuning.lowlevel import acoustic
from braintuning.results import generator
from braintuning.timing import SAMPLE_RATE

STEP = 0.1
SPACES = ("spectrum", "articulation", "meaning")
SHARES = {
    "primary_auditory": (0.80, 0.15, 0.05),
    "early_auditory": (0.35, 0.50, 0.15),
    "late_language": (0.10, 0.20, 0.70),
}
SIGNAL_SHARE = {"primary_auditory": 0.30, "early_auditory": 0.30, "late_language": 0.20}
NOISE_AUTOCORRELATION = 0.35
BORDER_SHIFT_DEGREES = 3.0
SMOOTHING_STEPS = 12


@dataclass(frozen=True)
class Listener:
    """Ground truth of one simulated participant.

    Attributes
    ----------
    labels : (vertices,) str
        Region of each cortical vertex, borders shifted from the atlas.
    shares, signal_share : (vertices, 3) and (vertices,) float32
        Share of the signal's variance from each of `SPACES`, and of a single presentation's that the story explains.
    weights : dict of (features, vertices) float32
        Tuning to each feature space.
    """

    labels: np.ndarray
    shares: np.ndarray
    signal_share: np.ndarray
    weights: dict[str, np.ndarray]


def feature_spaces(
    audio: np.ndarray,
    words: Sequence[Interval],
    phones: Sequence[Interval],
    n_components: int,
    vocabulary: tuple[str, ...] = (),
) -> dict[str, np.ndarray]:
    """Feature spaces that listeners respond to, every 0.1 s; a dict of `SPACES` to (steps, features) float32.

    `n_components` and `vocabulary`, which holds the words' labels, as in `stories.word_vectors`.
    """
    n_steps = int(len(audio) / SAMPLE_RATE / STEP)
    bands, _ = acoustic.power_spectrum(audio)
    per_step = round(STEP / 0.01)
    usable = len(bands) // per_step * per_step
    spectrum = bands[:usable].reshape(-1, per_step, bands.shape[1]).mean(axis=1)[:n_steps]
    vectors = word_vectors(n_components, vocabulary)
    spans = [(word.start, word.end) for word in words]
    return {
        "spectrum": np.pad(spectrum, ((0, n_steps - len(spectrum)), (0, 0)), mode="edge"),
        "articulation": acoustic.articulation_track(phones, STEP, n_steps),
        "meaning": acoustic.occupancy(spans, STEP, n_steps) @ np.stack([vectors[word.label] for word in words]),
    }


def haemodynamic(track: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Track (steps, features) convolved with the canonical response (Friston et al. 1998), interpolated at `times`."""
    response = spm_hrf(STEP, oversampling=1)
    slow = lfilter(response, 1.0, track - track.mean(axis=0), axis=0)
    grid = (np.arange(len(slow)) + 1) * STEP
    return np.stack([np.interp(times, grid, column) for column in slow.T], axis=1).astype(np.float32)


@cache
def _neighbour_average() -> csr_matrix:
    surface = fs_lr()
    right = surface.inflated["right"][1] + surface.vertices("right").start
    faces = np.concatenate([surface.inflated["left"][1], right])
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).T
    adjacency = csr_matrix((np.ones(edges.shape[1]), edges), shape=(surface.n_vertices,) * 2)
    adjacency = ((adjacency + adjacency.T) > 0).astype(np.float64)[surface.cortex][:, surface.cortex].tocsr()
    adjacency.setdiag(1)
    return csr_matrix(adjacency.multiply(1 / np.asarray(adjacency.sum(axis=1))))


def _smooth_map(values: np.ndarray) -> np.ndarray:
    """Average the vertices of (vertices, columns) repeatedly with their neighbours, then z-score each column."""
    for _ in range(SMOOTHING_STEPS):
        values = _neighbour_average() @ values
    return zscore(values)


def shifted_labels(rng: np.random.Generator) -> np.ndarray:
    """Atlas regions after a small rotation of each hemisphere's sphere; (cortical vertices,) str."""
    surface, labels = fs_lr(), hcp_mmp_labels()
    moved = np.empty_like(labels)
    for hemisphere in ("left", "right"):
        part = surface.vertices(hemisphere)
        sphere = surface.sphere[hemisphere]
        axis = rng.standard_normal(3)
        turn = Rotation.from_rotvec(np.radians(BORDER_SHIFT_DEGREES) * axis / np.linalg.norm(axis))
        moved[part] = labels[part][cKDTree(sphere).query(turn.apply(sphere))[1]]
    return moved[surface.cortex]


def make_listener(seed: int, participant: str, features: dict[str, np.ndarray]) -> Listener:
    """Draw a listener: region borders, and how strongly each vertex responds to which features.

    `features`, a dict of (TRs, features) float32, has the haemodynamic responses of the feature spaces to all stories;
    each vertex's tuning gives them unit variance.
    """
    rng = generator(seed, participant, "truth")
    labels = shifted_labels(rng)
    shares = np.zeros((len(labels), len(SPACES)), np.float32)
    signal_share = np.zeros(len(labels), np.float32)
    clarity = rng.uniform(0.6, 1.2)
    variation = np.exp(0.35 * _smooth_map(rng.standard_normal((len(labels), 1)))[:, 0])
    for group in ("late_language", "early_auditory", "primary_auditory"):
        inside = np.isin(labels, GROUPS[group])
        shares[inside] = SHARES[group]
        signal_share[inside] = np.clip(SIGNAL_SHARE[group] * clarity * variation[inside], 0.02, 0.7)
    weights = {}
    for space in SPACES:
        drawn = _smooth_map(rng.standard_normal((len(labels), features[space].shape[1]))).T
        weights[space] = scaled_to_unit_variance(drawn, features[space])
    return Listener(labels, shares, signal_share, weights)


def at_vertices(listener: Listener, kept: np.ndarray) -> Listener:
    """A listener who responds only at some vertices, (kept,) int."""
    weights = {space: values[:, kept] for space, values in listener.weights.items()}
    return Listener(listener.labels[kept], listener.shares[kept], listener.signal_share[kept], weights)


def noisier(listener: Listener, times: float) -> Listener:
    """A listener the standard deviation of whose noise is so many `times` as large, all responses scaled alike."""
    share = listener.signal_share
    return replace(listener, signal_share=(share / (share + times**2 * (1 - share))).astype(np.float32))


def scaled_to_unit_variance(weights: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Scale weights (features, vertices) so that `features @ weights` (TRs, vertices) has unit variance."""
    covariance = np.cov(features, rowvar=False)
    return (weights / np.sqrt(np.einsum("fv,fg,gv->v", weights, covariance, weights, optimize=True))).astype(np.float32)


def signal(listener: Listener, features: dict[str, np.ndarray]) -> np.ndarray:
    """Noise-free response to the haemodynamic responses (TRs, features) of a story; (TRs, vertices) float32.

    Its variance is about 1 where a vertex responds at all.
    """
    share = dict(zip(SPACES, np.sqrt(listener.shares.T), strict=True))
    return np.sum([share[space] * (features[space] @ listener.weights[space]) for space in SPACES], axis=0)


def autoregressive_noise(n_trs: int, n_columns: int, rng: np.random.Generator) -> np.ndarray:
    """First-order autoregressive noise of unit variance; (n_trs, n_columns) float32."""
    burn_in = 20
    white = rng.standard_normal((n_trs + burn_in, n_columns), dtype=np.float32)
    gain = np.sqrt(1 - NOISE_AUTOCORRELATION**2)
    return lfilter([gain], [1, -NOISE_AUTOCORRELATION], white, axis=0)[burn_in:].astype(np.float32)


def responses(story_signal: np.ndarray, listener: Listener, n_repeats: int, rng: np.random.Generator) -> np.ndarray:
    """Z-scored responses to each presentation of a story; (repeats, TRs, vertices) float32."""
    scaled = np.sqrt(listener.signal_share) * story_signal
    spread = np.sqrt(1 - listener.signal_share)
    return np.stack([zscore(scaled + spread * autoregressive_noise(*scaled.shape, rng)) for _ in range(n_repeats)])
