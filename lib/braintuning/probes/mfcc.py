"""MFCC regression: how well the layers' single frames predict mel-frequency cepstral coefficients.

A task of the Interspeech 2025 follow-up.
"""

import numpy as np
import torch

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.probes.base import Result, Task, layer_results
from braintuning.probes.features import EVERY, Store, states
from braintuning.probes.linear import fit_regression
from braintuning.probes.scores import R2
from braintuning.probes.utterance import PARTS, Parts
from braintuning.tuning.units import mfcc

COEFFICIENTS = 13


def measure(parts: Parts, encoder: SpeechEncoder, device: str, seed: int, store: Store | None = None) -> list[Result]:
    """R2 of ridge regression from frames to coefficients, layer by layer."""
    features, answers = [], []
    activations = states(encoder, parts, "every tenth frame", device, store)
    for part in PARTS:
        found = list(activations[part])
        wanted = [mfcc(torch.from_numpy(u.audio())[None])[0, ::EVERY, :COEFFICIENTS].numpy() for u in parts[part]]
        lengths = [min(f.shape[1], len(w)) for f, w in zip(found, wanted, strict=True)]
        features.append(np.concatenate([f[:, :n] for f, n in zip(found, lengths, strict=True)], axis=1))
        answers.append(np.concatenate([w[:n] for w, n in zip(wanted, lengths, strict=True)]).astype(np.float64))
    speakers = np.repeat([utterance.speaker for utterance in parts["test"]], lengths)
    constant = np.broadcast_to(answers[0].mean(axis=0), answers[2].shape)
    return layer_results(features, answers, constant, speakers, fit_regression, R2, seed)


TASK = Task(
    "MFCC regression",
    corpora=("TIMIT", "aligned speech"),
    stand_in="sentences",
    measure=measure,
    metric="R2",
    keep=lambda utterance: utterance.label != "SA",
)
