"""Features of a story: what every layer of a speech model holds as the story is heard."""

from itertools import groupby

import numpy as np
import torch

from braintuning import timing
from braintuning.backbones import SpeechEncoder
from braintuning.settings import Features


def _tokens_of_window(window: float, hop: float, step: float, frame_seconds: float) -> np.ndarray:
    n_tokens = round(min(hop, window) / step)
    return np.rint(np.arange(n_tokens)[::-1] * step / frame_seconds).astype(np.int64)


def tokens(
    encoder: SpeechEncoder, audio: np.ndarray, settings: Features, device: str = "cpu"
) -> tuple[np.ndarray, np.ndarray]:
    """Tokens of all layers every `step_seconds`, each from a window that ends at most `hop_seconds` later.

    A window holds the last `window_seconds` of sound, or all of it before that much has been heard. With
    `hop_seconds == step_seconds` every token is the last of its own window, as in the paper.

    Parameters
    ----------
    encoder : SpeechEncoder
    audio : (samples,) float32
        Mono, 16 kHz.
    settings : Features
    device : str

    Returns
    -------
    tokens : (layers + 1, n_tokens, dim) float32
    times : (n_tokens,) float64
        Seconds after the sound's start.
    """
    duration = len(audio) / timing.SAMPLE_RATE
    ends = timing.window_ends(duration, settings.hop_seconds)
    lengths = np.minimum(ends, settings.window_seconds)
    pieces, times = [], []
    with torch.no_grad(), torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
        for length, group in groupby(range(len(ends)), key=lambda i: lengths[i]):
            same_length = list(group)
            back = _tokens_of_window(length, settings.hop_seconds, settings.step_seconds, encoder.frame_seconds)
            back = back[back < encoder.n_frames(int(timing.to_samples(length)))]
            for start in range(0, len(same_length), settings.batch_size):
                batch = ends[same_length[start : start + settings.batch_size]]
                windows = torch.from_numpy(timing.windows(audio, batch, length)).to(device)
                hidden = encoder(windows)
                read = hidden[:, :, hidden.shape[2] - 1 - torch.from_numpy(back).to(device)]
                pieces.append(read.flatten(1, 2).float().cpu().numpy())
                times.append((batch[:, None] - back * encoder.frame_seconds).ravel())
    return np.concatenate(pieces, axis=1), np.concatenate(times)


def story_features(
    encoder: SpeechEncoder, audio: np.ndarray, times: np.ndarray, tr: float, settings: Features, device: str = "cpu"
) -> np.ndarray:
    """Features of all layers on the TR grid.

    Parameters
    ----------
    encoder : SpeechEncoder
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
    features : (layers + 1, rows, dim) float32
    """
    fine, fine_times = tokens(encoder, audio, settings, device)
    return np.stack([timing.lanczos_resample(layer, fine_times, times, tr) for layer in fine])
