"""K-means units of speech: of MFCCs, HuBERT's first, or of a layer of a model."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from scipy.fft import dct
from sklearn.cluster import MiniBatchKMeans
from torch.nn import functional
from transformers.audio_utils import mel_filter_bank

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.families import standardised
from braintuning.errors import InputError
from braintuning.timing import SAMPLE_RATE

N_UNITS = 200
FIT_FRAMES = 40_000
FIT_SECONDS = 10.0


def mfcc(audio: torch.Tensor) -> torch.Tensor:
    """Mel-frequency cepstral coefficients with deltas, (batch, frames, 39), of (batch, samples) float32 16 kHz audio.

    Thirteen coefficients of 40 mel bands over 25 ms of a standardised clip every 10 ms, their first and second
    differences, each over four steps. Every second one is kept: frame k starts at sample 320 k, as in a model with
    seven convolutions of stride 320.
    """
    window = torch.hann_window(400, device=audio.device)
    power = standardised(audio.float()).unfold(1, 400, 160)
    power = torch.fft.rfft(power * window, n=512).abs() ** 2
    filters = mel_filter_bank(257, 40, 20.0, SAMPLE_RATE / 2, SAMPLE_RATE).astype(np.float32)
    cosines = dct(np.eye(40, dtype=np.float32), axis=1, norm="ortho")[:, :13]
    log_mel = (power @ torch.from_numpy(filters).to(audio.device)).clamp(min=1e-5).log()
    parts = [log_mel @ torch.from_numpy(cosines).to(audio.device)]
    for _ in range(2):
        padded = functional.pad(parts[-1].transpose(1, 2), (2, 2), mode="replicate").transpose(1, 2)
        parts.append((padded[:, 4:] - padded[:, :-4]) / 4)
    return torch.cat(parts, dim=-1)[:, ::2]


class MfccUnits(torch.nn.Module):
    """K-means units of MFCCs, standardised by `mean` and `scale`, (39,); `centres` are (units, 39) float32."""

    def __init__(self, mean: torch.Tensor, scale: torch.Tensor, centres: torch.Tensor) -> None:
        super().__init__()
        for name, value in (("mean", mean), ("scale", scale), ("centres", centres)):
            self.register_buffer(name, value)

    @classmethod
    def fit(cls, clips: torch.Tensor, n_units: int, seed: int) -> "MfccUnits":
        """Cluster the frames of (batch, samples) clips."""
        frames = mfcc(clips).flatten(0, 1)
        mean, scale = frames.mean(dim=0), frames.std(dim=0)
        return cls(mean, scale, fit_centres(((frames - mean) / scale).numpy(), n_units, seed))

    @torch.no_grad()
    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Units `(batch, frames)` int64 of `(batch, samples)` audio."""
        return nearest_centre((mfcc(audio) - self.mean) / self.scale, self.centres)


class EncoderUnits(torch.nn.Module):
    """K-means units of a layer of an encoder as it was when they were fitted; `centres` are (units, dim) float32."""

    def __init__(self, encoder: SpeechEncoder, layer: int, centres: torch.Tensor) -> None:
        super().__init__()
        self._teacher = (copy.deepcopy(encoder).requires_grad_(False),)  # in a tuple: no part of the state
        self.layer = layer
        self.register_buffer("centres", centres)

    @torch.no_grad()
    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Units `(batch, frames)` int64 of `(batch, samples)` audio."""
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
    states = [
        encoder(torch.from_numpy(np.array(piece, np.float32))[None].to(device), layers=[layer])[0, 0].float().cpu()
        for piece in pieces
        if len(piece) >= SAMPLE_RATE // 10
    ]
    if not states:
        raise InputError("audio: found none of 0.1 s or more, expected some to cluster")
    centres = fit_centres(torch.cat(states).numpy(), n_units, seed)
    return EncoderUnits(encoder, layer, centres.to(device))
