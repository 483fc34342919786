"""Features of a story: what every layer of a speech model holds as the story is heard."""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import torch

from braintuning import timing
from braintuning.backbones import SpeechEncoder
from braintuning.precision import autocast
from braintuning.settings import Features


def _tokens_of_window(window: float, hop: float, step: float, frame_seconds: float) -> np.ndarray:
    n_tokens = round(min(hop, window) / step)
    return np.rint(np.arange(n_tokens)[::-1] * step / frame_seconds).astype(np.int64)


def tokens(
    encoders: Sequence[SpeechEncoder], audio: np.ndarray, settings: Features, device: str = "cpu"
) -> tuple[list[np.ndarray], np.ndarray]:
    """Tokens of all layers every `step_seconds`, each from a window that ends at most `hop_seconds` later.

    A window holds the last `window_seconds` of sound, or all of it before that much has been heard. With
    `hop_seconds == step_seconds` every token is the last of its own window, as in the paper. The front end, which all
    encoders share, runs once for them.

    Parameters
    ----------
    encoders : sequence of SpeechEncoder
        With the same front end, see `SpeechEncoder.same_front_end`.
    audio : (samples,) float32
        Mono, 16 kHz.
    settings : Features
    device : str

    Returns
    -------
    tokens : list of (layers + 1, n_tokens, dim) float32
        Of each encoder.
    times : (n_tokens,) float64
        Seconds after the sound's start.
    """
    first, duration = encoders[0], len(audio) / timing.SAMPLE_RATE
    ends = timing.window_ends(duration, settings.hop_seconds)
    lengths = np.minimum(ends, settings.window_seconds)
    pieces, times = [[] for _ in encoders], []
    with torch.no_grad(), autocast(device):
        for length, group in groupby(range(len(ends)), key=lambda i: lengths[i]):
            same_length, n_frames = list(group), first.n_frames(int(timing.to_samples(length)))
            back = _tokens_of_window(length, settings.hop_seconds, settings.step_seconds, first.frame_seconds)
            back = back[back < n_frames]
            frames = torch.from_numpy(n_frames - 1 - back).to(device)
            for start in range(0, len(same_length), settings.batch_size):
                batch = ends[same_length[start : start + settings.batch_size]]
                front = first.front_end(torch.from_numpy(timing.windows(audio, batch, length)).to(device))
                for found, encoder in zip(pieces, encoders, strict=True):
                    found.append(encoder.trunk(front, frames=frames).flatten(1, 2).float().cpu().numpy())
                times.append((batch[:, None] - back * first.frame_seconds).ravel())
    return [np.concatenate(found, axis=1) for found in pieces], np.concatenate(times)


def story_features(
    encoders: Sequence[SpeechEncoder],
    audio: np.ndarray,
    times: np.ndarray,
    tr: float,
    settings: Features,
    device: str = "cpu",
) -> list[np.ndarray]:
    """Features of all layers on the TR grid.

    Parameters
    ----------
    encoders : sequence of SpeechEncoder
        With the same front end.
    audio : (samples,) float32
        Mono, 16 kHz.
    times : (rows,) float
        Seconds after the sound's start, `tr` apart.
    tr : float
        Seconds.
    settings : Features
    device : str

    Returns
    -------
    features : list of (layers + 1, rows, dim) float32
        Of each encoder.
    """
    fine, fine_times = tokens(encoders, audio, settings, device)
    return [np.stack([timing.lanczos_resample(layer, fine_times, times, tr) for layer in layers]) for layers in fine]
