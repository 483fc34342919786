"""K-means units of speech, clustered from the hidden states of one layer."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.errors import InputError
from braintuning.timing import SAMPLE_RATE

N_UNITS = 200
FIT_FRAMES = 40_000
FIT_SECONDS = 10.0


class EncoderUnits(torch.nn.Module):
    """K-means units of a layer of an encoder as it is now; `centres` are (units, dim) float32."""

    def __init__(self, encoder: SpeechEncoder, layer: int, centres: torch.Tensor) -> None:
        super().__init__()
        self._teacher = (copy.deepcopy(encoder).requires_grad_(False),)  # in a tuple: no part of the state
        self.layer = layer
        self.register_buffer("centres", centres)

    @torch.no_grad()
    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Units, (batch, frames) int64, of (batch, samples) audio."""
        return nearest_centre(self.teacher.to(self.centres.device)(audio, layers=[self.layer])[0], self.centres)

    @property
    def teacher(self) -> SpeechEncoder:
        """The encoder as it was."""
        return self._teacher[0]


def nearest_centre(states: torch.Tensor, centres: torch.Tensor) -> torch.Tensor:
    """Index of the nearest centre, by Euclidean distance: (..., channels), (units, channels) to (...) int64."""
    return torch.cdist(states.float(), centres.expand(*states.shape[:-2], *centres.shape)).argmin(dim=-1)


def fit_centres(states: np.ndarray, n_units: int, seed: int) -> torch.Tensor:
    """K-means centres of `(frames, channels)` states: (units, channels) float32; raises InputError with too few."""
    if len(states) < n_units:
        raise InputError(f"audio: {len(states)} frames, expected at least {n_units}, one for each unit")
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.permutation(len(states))[:FIT_FRAMES])
    means = MiniBatchKMeans(n_units, batch_size=4096, n_init=3, random_state=int(rng.integers(2**31)))
    return torch.from_numpy(means.fit(states[chosen]).cluster_centers_.astype(np.float32))


@torch.no_grad()
def fit_units(
    encoder: SpeechEncoder,
    recordings: Sequence[np.ndarray],
    seed: int,
    n_units: int = N_UNITS,
    layer: int | None = None,
) -> EncoderUnits:
    """Cluster the states of a layer, two thirds up by default, over (samples,) float32 recordings in pieces of 10 s."""
    layer = max(1, round(encoder.n_layers * 2 / 3)) if layer is None else layer
    device, length = next(encoder.model.parameters()).device, round(FIT_SECONDS * SAMPLE_RATE)
    pieces = [one[start : start + length] for one in recordings for start in range(0, len(one), length)]
    clips = [torch.from_numpy(np.array(p, np.float32))[None].to(device) for p in pieces if len(p) >= SAMPLE_RATE // 10]
    states = [encoder(clip, layers=[layer])[0, 0].float().cpu() for clip in clips]
    if not states:
        raise InputError("audio: found none of 0.1 s or more, expected some to cluster")
    centres = fit_centres(torch.cat(states).numpy(), n_units, seed)
    return EncoderUnits(encoder, layer, centres.to(device))
