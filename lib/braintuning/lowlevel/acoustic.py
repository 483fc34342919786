"""Acoustic and articulatory features."""

from collections.abc import Sequence

import numpy as np
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from braintuning.datasets.textgrid import Interval
from braintuning.errors import InputError
from braintuning.lowlevel.phones import articulation, without_stress
from braintuning.timing import SAMPLE_RATE, lanczos_resample

N_BANDS = 32
FRAME_SAMPLES = 400
HOP_SAMPLES = 160
FLOOR_DB = -80.0


def power_spectrum(audio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Power in mel-spaced bands over 25 ms Hann windows every 10 ms of (samples,) float32 audio, mono, 16 kHz.

    Returns
    -------
    bands : (frames, 32) float32
        Decibels, not below -80.
    times : (frames,) float64
        Centre of each window in seconds.
    """
    from transformers.audio_utils import mel_filter_bank

    transform = ShortTimeFFT(hann(FRAME_SAMPLES, sym=False), hop=HOP_SAMPLES, fs=SAMPLE_RATE, mfft=512)
    first, last = transform.lower_border_end[1], transform.upper_border_begin(len(audio))[1]
    power = np.abs(transform.stft(audio, p0=first, p1=last)) ** 2
    filters = mel_filter_bank(257, N_BANDS, 0.0, SAMPLE_RATE / 2, SAMPLE_RATE)
    bands = 10 * np.log10(np.maximum(power.T @ filters, 10 ** (FLOOR_DB / 10)))
    return bands.astype(np.float32), np.arange(first, last) * HOP_SAMPLES / SAMPLE_RATE


def power_spectrum_by_tr(audio: np.ndarray, times: np.ndarray, tr: float) -> np.ndarray:
    """`power_spectrum` of 16 kHz audio resampled to TRs by a Lanczos filter, with silence before and after the audio.

    In decibels above silence, times a constant, (TRs, 32) float32; times, (TRs,), are seconds, `tr` apart.
    """
    bands, centres = power_spectrum(audio)
    return lanczos_resample(bands - np.float32(FLOOR_DB), centres, times, tr)


def events_by_tr(events: Sequence[Interval], vectors: np.ndarray, times: np.ndarray, tr: float) -> np.ndarray:
    """Vectors, (events, features), at the middle of each event, brought to TRs by a Lanczos filter; (TRs, features).

    The middle is where the field's usual code has a phone, too (HuthLab's deep-fMRI-dataset), and the filter is that
    of a model's features, so that both describe the same moments; an event adds about 1 in all to the TRs around it.
    `times`, (TRs,), are seconds after the start of the audio, `tr` apart.
    """
    middles = np.array([(event.start + event.end) / 2 for event in events], float)
    return lanczos_resample(np.asarray(vectors, np.float32), middles, times, tr)


def articulation_by_tr(phones: Sequence[Interval], times: np.ndarray, tr: float) -> np.ndarray:
    """ARPAbet phones with each of `phones.FEATURES` around each TR (de Heer et al. 2017); (TRs, 22) float32.

    Resampling and times as in `events_by_tr`, errors as in `checked_phones`.
    """
    return events_by_tr(phones, np.stack([articulation(label) for label in checked_phones(phones)]), times, tr)


def checked_phones(phones: Sequence[Interval]) -> list[str]:
    """Phones without stress; `InputError` where there are none, or with the time of one that is unknown."""
    if not phones:
        raise InputError("low-level features: found a story with no phones, expected at least one")
    labels = []
    for phone in phones:
        try:
            labels.append(without_stress(phone.label))
        except InputError as error:
            raise InputError(f"at {phone.start:.2f} s: {error}") from None
    return labels


def occupancy(intervals: Sequence[Interval], step: float, n_steps: int) -> np.ndarray:
    """Share of each time step, `step` seconds long, that each interval fills; (n_steps, intervals) float32."""
    starts, ends = np.reshape([(interval.start, interval.end) for interval in intervals], (-1, 2)).T
    lows = np.arange(n_steps)[:, None] * step
    overlap = np.minimum(ends, lows + step) - np.maximum(starts, lows)
    return (np.clip(overlap, 0, None) / step).astype(np.float32)
