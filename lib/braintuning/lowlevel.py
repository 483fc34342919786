"""What a sound is before it means anything: its spectrum and the articulation of its phones."""

from collections.abc import Sequence

import numpy as np
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann
from transformers.audio_utils import mel_filter_bank

from braintuning.phones import articulation
from braintuning.textgrid import Interval
from braintuning.timing import SAMPLE_RATE

N_BANDS = 32
FRAME_SAMPLES = 400
HOP_SAMPLES = 160
FLOOR_DB = -80.0


def power_spectrum(audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Power in mel-spaced bands, in decibels, over 25 ms Hann windows every 10 ms.

    Parameters
    ----------
    audio : (samples,) float32
        Mono, 16 kHz.

    Returns
    -------
    bands : (frames, 32) float32
        Decibels, not below -80.
    times : (frames,) float64
        Centre of each window in seconds.
    """
    transform = ShortTimeFFT(hann(FRAME_SAMPLES, sym=False), hop=HOP_SAMPLES, fs=SAMPLE_RATE, mfft=512)
    first, last = transform.lower_border_end[1], transform.upper_border_begin(len(audio))[1]
    power = np.abs(transform.stft(audio, p0=first, p1=last)) ** 2
    filters = mel_filter_bank(257, N_BANDS, 0.0, SAMPLE_RATE / 2, SAMPLE_RATE)
    bands = 10 * np.log10(np.maximum(power.T @ filters, 10 ** (FLOOR_DB / 10)))
    return bands.astype(np.float32), np.arange(first, last) * HOP_SAMPLES / SAMPLE_RATE


def articulation_track(phones: Sequence[Interval], step: float, n_steps: int) -> np.ndarray:
    """Share of each time step that is filled by each articulatory feature.

    Parameters
    ----------
    phones : sequence of Interval
        ARPAbet.
    step : float
        Seconds.
    n_steps : int

    Returns
    -------
    track : (n_steps, 22) float32
        In [0, 1].
    """
    vectors = np.stack([articulation(phone.label) for phone in phones]).astype(np.float32)
    return occupancy([(p.start, p.end) for p in phones], step, n_steps) @ vectors


def occupancy(spans: Sequence[tuple[float, float]], step: float, n_steps: int) -> np.ndarray:
    """Share of each time step that each (start, end) span in seconds fills; (n_steps, spans) float32."""
    starts, ends = np.array(spans).T
    lows = np.arange(n_steps)[:, None] * step
    overlap = np.minimum(ends, lows + step) - np.maximum(starts, lows)
    return (np.clip(overlap, 0, None) / step).astype(np.float32)
