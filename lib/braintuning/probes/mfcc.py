"""MFCC regression: how well the layers' single frames predict mel-frequency cepstral coefficients.

A task of the Interspeech 2025 follow-up.
"""

import numpy as np
import torch
from scipy.fft import dct
from torch.nn import functional
from transformers.audio_utils import mel_filter_bank

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.families import standardised
from braintuning.probes.base import Result, Task, layer_results
from braintuning.probes.features import EVERY, Store, states
from braintuning.probes.linear import fit_regression
from braintuning.probes.scores import R2
from braintuning.probes.utterance import PARTS, Parts
from braintuning.timing import SAMPLE_RATE

COEFFICIENTS = 13


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
    cosines = dct(np.eye(40, dtype=np.float32), axis=1, norm="ortho")[:, :COEFFICIENTS]
    log_mel = (power @ torch.from_numpy(filters).to(audio.device)).clamp(min=1e-5).log()
    parts = [log_mel @ torch.from_numpy(cosines).to(audio.device)]
    for _ in range(2):
        padded = functional.pad(parts[-1].transpose(1, 2), (2, 2), mode="replicate").transpose(1, 2)
        parts.append((padded[:, 4:] - padded[:, :-4]) / 4)
    return torch.cat(parts, dim=-1)[:, ::2]


def measure(parts: Parts, encoder: SpeechEncoder, device: str, seed: int, store: Store | None = None) -> list[Result]:
    """R2 of ridge regression from frames to coefficients, layer by layer."""
    features, answers, n_frames = [], [], {}
    activations = states(encoder, parts, "every tenth frame", device, store)
    for part in PARTS:
        found = list(activations[part])
        wanted = [mfcc(torch.from_numpy(u.audio())[None])[0, ::EVERY, :COEFFICIENTS].numpy() for u in parts[part]]
        n_frames[part] = [min(f.shape[1], len(w)) for f, w in zip(found, wanted, strict=True)]
        features.append(np.concatenate([f[:, :n] for f, n in zip(found, n_frames[part], strict=True)], axis=1))
        answers.append(np.concatenate([w[:n] for w, n in zip(wanted, n_frames[part], strict=True)]).astype(np.float64))
    speakers = np.repeat([utterance.speaker for utterance in parts["test"]], n_frames["test"])
    constant = np.broadcast_to(answers[0].mean(axis=0), answers[2].shape)
    return layer_results(features, answers, constant, speakers, fit_regression, R2, seed)


TASK = Task(
    "MFCC regression",
    corpora=("TIMIT", "LibriSpeech", "aligned speech"),
    stand_in="sentences",
    measure=measure,
    metric="R2",
    kind="every tenth frame",
    keep=lambda utterance: utterance.label != "SA",
)
