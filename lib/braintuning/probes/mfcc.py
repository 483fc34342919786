"""How much of the sound's mel-frequency cepstral coefficients is in single frames (Interspeech 2025 follow-up)."""

import numpy as np
import torch

from braintuning.backbones import SpeechEncoder
from braintuning.probes.linear import fit_regression
from braintuning.probes.scores import interval_over_speakers, mean_r2, r2_sums
from braintuning.probes.states import states
from braintuning.probes.task import RANDOM_DIM, Result, Task
from braintuning.probes.utterance import PARTS, Parts
from braintuning.seeding import generator
from braintuning.units import mfcc

EVERY = 10
COEFFICIENTS = 13


def every_tenth_frame(hidden: torch.Tensor) -> torch.Tensor:
    """(layers + 1, batch, frames, dim) to (layers + 1, batch, frames / 10, dim)."""
    return hidden[:, :, ::EVERY]


def measure(parts: Parts, encoder: SpeechEncoder, device: str, seed: int) -> list[Result]:
    """R2 of ridge regression from frames to coefficients, layer by layer."""
    features, targets, speakers = {}, {}, []
    for part in PARTS:
        found = states(encoder, parts[part], every_tenth_frame, device)
        wanted = [mfcc(torch.from_numpy(u.audio())[None])[0, ::EVERY, :COEFFICIENTS].numpy() for u in parts[part]]
        lengths = [min(f.shape[1], len(w)) for f, w in zip(found, wanted, strict=True)]
        features[part] = np.concatenate([f[:, :n] for f, n in zip(found, lengths, strict=True)], axis=1)
        targets[part] = np.concatenate([w[:n] for w, n in zip(wanted, lengths, strict=True)])
        speakers = np.repeat([u.speaker for u in parts[part]], lengths)
    answers, rng = [targets[part] for part in PARTS], generator(seed, "random features")
    drawn = fit_regression([rng.standard_normal((len(rows), RANDOM_DIM)) for rows in answers], answers).predicted
    random_features = float(mean_r2(r2_sums(answers[2], drawn).sum(axis=0)))
    constant = np.broadcast_to(answers[0].mean(axis=0), answers[2].shape)
    baseline, results = float(mean_r2(r2_sums(answers[2], constant).sum(axis=0))), []
    for layer in range(len(features["train"])):
        fitted = fit_regression([features[part][layer] for part in PARTS], answers)
        rng = generator(seed, "speakers", layer)
        interval = interval_over_speakers(mean_r2, r2_sums(answers[2], fitted.predicted), speakers, rng)
        chosen = (baseline, random_features, fitted.penalty, fitted.converged)
        results.append(Result(layer, fitted.validation, *interval, *chosen))
    return results


TASK = Task(
    title="MFCC regression",
    metric="R2",
    corpora=("TIMIT", "aligned speech"),
    stand_in="sentences",
    measure=measure,
    keep=lambda utterance: utterance.label != "SA",
)
