"""Stories of audio that is hoarse or clear, responses that follow it, and models that hear the difference."""

import numpy as np
import tiny
import torch
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.tuning.model import Model, StoryTargets

RATE = 16_000


def story(seed: int, n_rows: int = 9) -> StoryTargets:
    """Noise that is hoarse or clear by row, and responses that follow how hoarse it is."""
    rng = np.random.default_rng(seed)
    times = 1.0 + 0.6 * np.arange(n_rows)
    hoarse = rng.random(n_rows)
    audio = 0.01 * rng.standard_normal(int(RATE * (times[-1] + 1)))
    for time, level in zip(times, hoarse, strict=True):
        end = round(time * RATE)
        inside = slice(end - RATE // 2, end)
        tone = np.sin(2 * np.pi * 300 * np.arange(RATE // 2) / RATE)
        audio[inside] += level * 0.3 * rng.standard_normal(RATE // 2) + (1 - level) * 0.3 * tone
    targets = np.outer(hoarse - 0.5, np.array([3.0, -2.0, 1.0, 0.0, 4.0]))
    return StoryTargets(audio.astype(np.float32), times, targets.astype(np.float32))


TRAIN = {"first": story(1), "second": story(2)}
VALIDATION = {"third": story(3, n_rows=7)}


def hearing(family: str) -> SpeechEncoder:
    """A random model whose front end passes on what it hears: that of a random Whisper nearly mutes it."""
    encoder = tiny.encoder(family)
    if family == "whisper":
        with torch.no_grad():
            encoder.model.encoder.conv1.weight.mul_(20)
            encoder.model.encoder.conv2.weight.mul_(20)
    return encoder


def weights(model: Model) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
