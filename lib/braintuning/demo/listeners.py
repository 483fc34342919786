"""Simulated listeners with known ground truth.

Each cortical vertex responds, through a haemodynamic response, to a mixture of power spectrum, articulation and word
meaning in shares that depend on its region: primary auditory cortex mostly to spectrum, the belt mostly to
articulation, late language regions mostly to meaning, and the rest of the cortex not at all. Meaning is that of content
words; function words have none.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.signal import oaconvolve
from scipy.sparse import block_diag, csr_matrix, identity
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation
from scipy.stats import gamma

from braintuning.alignment.correlation import zscore
from braintuning.cortex.regions import GROUPS, hcp_mmp_labels
from braintuning.cortex.surface import fs_lr, mesh_adjacency
from braintuning.datasets.textgrid import Interval
from braintuning.demo.stories import has_content, word_vectors
from braintuning.lowlevel import acoustic
from braintuning.lowlevel.phones import articulation
from braintuning.results import generator
from braintuning.study.simulation import Simulation
from braintuning.timing import SAMPLE_RATE

STEP = 0.1
SPACES = ("spectrum", "articulation", "meaning")
SHARES = {
    "primary_auditory": (0.80, 0.15, 0.05),
    "early_auditory": (0.35, 0.50, 0.15),
    "late_language": (0.10, 0.20, 0.70),
}
SIGNAL_SHARE = {"primary_auditory": 0.30, "early_auditory": 0.30, "late_language": 0.20}
BORDER_SHIFT_DEGREES = 3.0
SMOOTHING_STEPS = 12


AREAS = ("primary_auditory", "early_auditory", "angular_gyrus", "lateral_temporal", "inferior_middle_frontal")
AREAS += ("late_language", "elsewhere")
"""Areas with one haemodynamic response each; a vertex is in the first one that includes its region, else elsewhere."""


class Response(NamedTuple):
    """Haemodynamic response: seconds to its peak, and its width relative to the canonical one."""

    peak: float = 5.0
    width: float = 1.0


CANONICAL = Response()


@dataclass(frozen=True)
class Listener:
    """Ground truth of one simulated participant.

    Attributes
    ----------
    labels : (vertices,) str
        Region of each cortical vertex, borders shifted from the atlas.
    area : (vertices,) int64
        Which of `AREAS` each vertex is in, whose haemodynamic response it has.
    shares, signal_share : (vertices, 3) and (vertices,) float32
        Share of the signal's variance from each of `SPACES`, and of a single presentation's that the story explains.
    weights : dict of (features, vertices) float32
        Tuning to each feature space.
    """

    labels: np.ndarray
    area: np.ndarray
    shares: np.ndarray
    signal_share: np.ndarray
    weights: dict[str, np.ndarray]


def feature_spaces(
    audio: np.ndarray,
    words: Sequence[Interval],
    phones: Sequence[Interval],
    n_components: int,
    vocabulary: tuple[str, ...] = (),
    meaningless: np.random.Generator | None = None,
) -> dict[str, np.ndarray]:
    """Feature spaces that listeners respond to, every 0.1 s; a dict of `SPACES` to (steps, features) float32.

    `n_components` and `vocabulary`, which holds the words' labels, as in `stories.word_vectors`. `meaningless` draws a
    standard normal vector for each content word that is said, whichever word it is, in place of its meaning.
    """
    n_steps = int(len(audio) / SAMPLE_RATE / STEP)
    bands, _ = acoustic.power_spectrum(audio)
    per_step = round(STEP / 0.01)
    usable = len(bands) // per_step * per_step
    spectrum = bands[:usable].reshape(-1, per_step, bands.shape[1]).mean(axis=1)[:n_steps]
    said = [word for word in words if has_content(word.label)]
    if meaningless is None:
        vectors = word_vectors(n_components, vocabulary)
        meaning = np.array([vectors[word.label] for word in said], np.float32).reshape(-1, n_components)
    else:
        meaning = meaningless.standard_normal((len(said), n_components), dtype=np.float32)
    return {
        "spectrum": np.pad(spectrum, ((0, n_steps - len(spectrum)), (0, 0)), mode="edge"),
        "articulation": acoustic.occupancy(phones, STEP, n_steps) @ np.stack([articulation(p.label) for p in phones]),
        "meaning": acoustic.occupancy(said, STEP, n_steps) @ meaning,
    }


def draw_responses(simulation: Simulation, participant: str) -> dict[str, Response]:
    """A participant's haemodynamic response in each of `AREAS`.

    Half of its deviation is shared by all areas of the person, half is the area's own. Peaks between 4 and 7 s
    over people and regions: Handwerker, Ollinger & D'Esposito 2004, NeuroImage 21:1639.
    """
    rng = generator(simulation.seed, participant, "responses")
    low, high = np.transpose([simulation.response_peaks, simulation.response_widths])
    of_person = rng.uniform(size=2)
    drawn = low + (high - low) * (of_person + rng.uniform(size=(len(AREAS), 2))) / 2
    return {area: Response(*map(float, values)) for area, values in zip(AREAS, drawn, strict=True)}


def response_curve(response: Response) -> np.ndarray:
    """A haemodynamic response every 0.1 s for 32 s, summing to 1; (320,) float64.

    The canonical one (Friston et al. 1998) as in nilearn, two gamma densities, the second 10 s later and a sixth as
    large; with another peak or width their modes move and their scale is multiplied.
    """
    peak, width = response
    seconds = np.linspace(0, 32, round(32 / STEP))
    main, undershoot = (gamma.pdf(seconds, mode / width + 1, loc=STEP, scale=width) for mode in (peak, peak + 10))
    curve = main - 0.167 * undershoot
    return curve / curve.sum()


def haemodynamic(track: np.ndarray, times: np.ndarray, response: Response = CANONICAL) -> np.ndarray:
    """Track (steps, features) convolved with a haemodynamic response, interpolated at `times`; (times, features)."""
    slow = oaconvolve(track - track.mean(axis=0), response_curve(response)[:, None], axes=0)
    grid = (np.arange(len(slow)) + 1) * STEP
    return np.stack([np.interp(times, grid, column) for column in slow.T], axis=1).astype(np.float32)


@cache
def _neighbour_average() -> csr_matrix:
    surface = fs_lr()
    adjacency = [mesh_adjacency(faces, len(points)) for points, faces in surface.inflated.values()]
    near = block_diag(adjacency, "csr") + identity(surface.n_vertices, format="csr")
    near = near[surface.cortex][:, surface.cortex]
    return csr_matrix(near.multiply(1 / near.sum(axis=1)[:, None]))


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


def make_listener(simulation: Simulation, participant: str, features: dict[str, np.ndarray]) -> Listener:
    """Draw a listener: region borders, and how strongly each vertex responds to which features.

    `features`, a dict of (TRs, areas, features) float32, has the haemodynamic responses of the feature spaces to all
    stories in each of `AREAS`; each vertex's tuning gives them unit variance.
    """
    rng = generator(simulation.seed, participant, "truth")
    labels = shifted_labels(rng)
    inside = [np.isin(labels, GROUPS[group]) for group in AREAS[:-1]]
    area = np.argmax([*inside, np.ones(len(labels), bool)], axis=0)
    shares = np.zeros((len(labels), len(SPACES)), np.float32)
    signal_share = np.zeros(len(labels), np.float32)
    clarity = rng.uniform(0.6, 1.2)
    variation = np.exp(0.35 * _smooth_map(rng.standard_normal((len(labels), 1)))[:, 0])
    for group in ("late_language", "early_auditory", "primary_auditory"):
        inside = np.isin(labels, GROUPS[group])
        shares[inside] = {**SHARES, **simulation.shares}[group]
        signal_share[inside] = np.clip(SIGNAL_SHARE[group] * clarity * variation[inside], 0.02, 0.7)
    weights = {}
    for space in SPACES:
        weights[space] = _smooth_map(rng.standard_normal((len(labels), features[space].shape[2]))).T.astype(np.float32)
        for k in np.unique(area):
            here = area == k
            weights[space][:, here] = scaled_to_unit_variance(weights[space][:, here], features[space][:, k])
    return Listener(labels, area, shares, signal_share, weights)


def at_vertices(listener: Listener, kept: np.ndarray) -> Listener:
    """A listener who responds only at some vertices, (kept,) int."""
    weights = {space: values[:, kept] for space, values in listener.weights.items()}
    of_vertices = {name: getattr(listener, name)[kept] for name in ("labels", "area", "shares", "signal_share")}
    return replace(listener, weights=weights, **of_vertices)


def noisier(listener: Listener, times: float) -> Listener:
    """A listener the standard deviation of whose noise is so many `times` as large, all responses scaled alike."""
    share = listener.signal_share
    return replace(listener, signal_share=(share / (share + times**2 * (1 - share))).astype(np.float32))


def scaled_to_unit_variance(weights: np.ndarray, features: np.ndarray) -> np.ndarray:
    """Scale weights (features, vertices) so that `features @ weights` (TRs, vertices) has unit variance."""
    covariance = np.cov(features, rowvar=False)
    return (weights / np.sqrt(np.einsum("fv,fg,gv->v", weights, covariance, weights, optimize=True))).astype(np.float32)


def signal(listener: Listener, features: dict[str, np.ndarray]) -> np.ndarray:
    """Noise-free response to the haemodynamic responses (TRs, areas, features) of a story; (TRs, vertices) float32.

    Its variance is about 1 where a vertex responds at all, else 0.
    """
    made = np.zeros((len(features["meaning"]), len(listener.labels)), np.float32)
    responding = listener.shares.any(axis=1)
    for k in np.unique(listener.area[responding]):
        here = responding & (listener.area == k)
        share = dict(zip(SPACES, np.sqrt(listener.shares[here].T), strict=True))
        made[:, here] = sum(share[s] * (features[s][:, k] @ listener.weights[s][:, here]) for s in SPACES)
    return made


def responses(
    story_signal: np.ndarray, signal_share: np.ndarray, gain: np.ndarray, noises: Iterable[np.ndarray]
) -> np.ndarray:
    """Z-scored responses to each presentation of a story; (repeats, TRs, vertices) float32.

    `signal_share`, (vertices,), is that of a listener; `gain`, (repeats, TRs), how much of the signal (TRs, vertices)
    is followed, 1 on average; `noises` of unit variance, (TRs, vertices), are drawn one after the other.
    """
    scaled, spread = np.sqrt(signal_share) * story_signal, np.sqrt(1 - signal_share)
    return np.stack([zscore(own[:, None] * scaled + spread * noise) for own, noise in zip(gain, noises, strict=True)])
