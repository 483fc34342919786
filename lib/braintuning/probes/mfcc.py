"""How much of the sound's mel-frequency cepstral coefficients is in single frames (Interspeech 2025 follow-up)."""

import numpy as np
import torch

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.probes.base import RANDOM_DIM, Result, Task, result
from braintuning.probes.features import EVERY, Store, states
from braintuning.probes.linear import fit_regression
from braintuning.probes.scores import mean_r2, r2_sums
from braintuning.probes.utterance import PARTS, Parts
from braintuning.results import generator
from braintuning.tuning.units import mfcc

COEFFICIENTS = 13


def measure(parts: Parts, encoder: SpeechEncoder, device: str, seed: int, store: Store | None = None) -> list[Result]:
    """R2 of ridge regression from frames to coefficients, layer by layer."""
    features, targets, speakers = {}, {}, []
    heard = states(encoder, {part: parts[part] for part in PARTS}, "every tenth frame", device, store)
    for part in PARTS:
        found = list(heard[part])
        wanted = [mfcc(torch.from_numpy(u.audio())[None])[0, ::EVERY, :COEFFICIENTS].numpy() for u in parts[part]]
        lengths = [min(f.shape[1], len(w)) for f, w in zip(found, wanted, strict=True)]
        features[part] = np.concatenate([f[:, :n] for f, n in zip(found, lengths, strict=True)], axis=1)
        targets[part] = np.concatenate([w[:n] for w, n in zip(wanted, lengths, strict=True)]).astype(np.float64)
        speakers = np.repeat([u.speaker for u in parts[part]], lengths)
    answers, rng = [targets[part] for part in PARTS], generator(seed, "random features")
    drawn = fit_regression([rng.standard_normal((len(rows), RANDOM_DIM)) for rows in answers], answers).predicted
    constant = np.broadcast_to(answers[0].mean(axis=0), answers[2].shape)
    baselines = (*(float(mean_r2(r2_sums(answers[2], guess).sum(axis=0))) for guess in (constant, drawn)), np.nan)
    results = []
    for layer in range(len(features["train"])):
        fitted = fit_regression([features[part][layer] for part in PARTS], answers)
        results.append(result(layer, fitted, mean_r2, r2_sums(answers[2], fitted.predicted), speakers, baselines, seed))
    return results


TASK = Task(
    title="MFCC regression",
    metric="R2",
    corpora=("TIMIT", "aligned speech"),
    stand_in="sentences",
    measure=measure,
    keep=lambda utterance: utterance.label != "SA",
)
