"""Sound: files in and out (everything inside the library is mono at 16 kHz), and moving the pitch of a voice."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import soundfile
import soxr

from braintuning.errors import InputError
from braintuning.results import atomic_path, require_file

RATE = 16_000
_CONSTANT = 1e-6
_UNVOICED_HZ = 200.0


def read_audio(path: Path) -> np.ndarray:
    """Audio of a file as one channel at 16 kHz.

    Parameters
    ----------
    path
        Any format of libsndfile (wav, flac, ogg, mp3), any rate and number of channels.

    Returns
    -------
    numpy.ndarray
        `(samples,)` float32, full scale 1: the mean over channels, resampled with soxr's best quality. The number of
        samples is the file's duration x 16000 rounded to the nearest.

    Raises
    ------
    InputError
        The file is missing, is not an audio file, has no samples, or has samples that are not finite.
    """
    path = require_file(path)
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, TypeError) as error:
        raise InputError(f"{path}: not an audio file that can be read (expected wav, flac or ogg): {error}") from error
    if len(samples) == 0:
        raise InputError(f"{path}: the audio file has no samples")
    mono = samples.mean(axis=1)
    invalid = np.flatnonzero(~np.isfinite(mono))
    if len(invalid):
        raise InputError(f"{path}: {len(invalid)} samples are not finite, the first at {invalid[0] / rate:.3f} s")
    return soxr.resample(mono, rate, RATE, quality="VHQ")


def write_wav(path: Path, audio: np.ndarray, rate: int) -> None:
    """Write (samples,) within -1 and 1 as a 16-bit wav file of `rate` Hz, whole or not at all.

    Raises
    ------
    InputError
        The audio is not one channel, is empty, is not finite or exceeds full scale.
    """
    audio = np.asarray(audio)
    if audio.ndim != 1 or len(audio) == 0:
        raise InputError(f"{path}: audio of shape {audio.shape} found, expected one channel with at least one sample")
    peak = np.abs(audio).max()
    if not peak <= 1:
        raise InputError(f"{path}: audio reaches {peak}, expected every sample within -1 and 1")
    with atomic_path(path) as temporary:
        soundfile.write(temporary, audio, rate, format="WAV", subtype="PCM_16")


def require_signal(
    audio: np.ndarray, path: Path, longest_silence: float = 10.0, within: tuple[float, float] = (0.0, np.inf)
) -> None:
    """Raise unless a recording goes on throughout.

    Parameters
    ----------
    audio
        `(samples,)` at 16 kHz.
    path
        Where it came from, for the message.
    longest_silence
        Seconds of digital silence (samples of one value) that are too many. Recordings have noise in their pauses, so
        that a constant stretch is a hole in the file.
    within
        Start and end in seconds of the part to look at: that in which someone speaks.

    Raises
    ------
    InputError
        It names the first constant stretch of at least `longest_silence` s.
    """
    changes = np.flatnonzero(np.abs(np.diff(audio)) > _CONSTANT) + 1
    edges = np.clip(np.concatenate([[0], changes, [len(audio)]]) / RATE, *within)
    holes = np.flatnonzero(np.diff(edges) >= longest_silence)
    if len(holes):
        start, end = edges[holes[0]], edges[holes[0] + 1]
        raise InputError(f"{path}: digital silence from {start:.2f} s to {end:.2f} s, expected sound throughout")


@lru_cache(maxsize=1024)
def _window(half: int) -> np.ndarray:
    return np.hanning(2 * half + 1).astype(np.float32)


def _whole_cycles(phase: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.diff(np.floor(phase))) + 1


def _loudest_phase(audio: np.ndarray, phase: np.ndarray, voiced: np.ndarray, n_bins: int = 24) -> float:
    bins = (phase[voiced] % 1 * n_bins).astype(int)
    energy = np.bincount(bins, weights=audio[voiced].astype(np.float64) ** 2, minlength=n_bins)
    return (energy.argmax() + 0.5) / n_bins


def scale_pitch(audio: np.ndarray, f0: np.ndarray, rate: int, factor: float) -> np.ndarray:
    """Raise or lower a voice and leave its resonances and its timing as they are.

    Time-domain pitch-synchronous overlap-add (Moulines & Charpentier 1990, Speech Communication 9:453-467): the sound
    is cut into grains of two periods around the loudest part of each, and these are laid down at the new periods.

    Parameters
    ----------
    audio
        `(samples,)` float32.
    f0
        `(samples,)` fundamental frequency in Hz, 0 where the voice is silent or whispers.
    rate
        Samples per second.
    factor
        New fundamental frequency over the old, within about 0.5 to 2.

    Returns
    -------
    numpy.ndarray
        `(samples,)` float32.
    """
    voiced = f0 > 0
    phase = np.cumsum(np.where(voiced, f0, _UNVOICED_HZ)) / rate
    centres = _whole_cycles(phase - _loudest_phase(audio, phase, voiced))
    targets = _whole_cycles(np.cumsum(np.where(voiced, f0 * factor, _UNVOICED_HZ)) / rate)
    nearest = np.searchsorted((centres[:-1] + centres[1:]) / 2, targets)
    halves = np.round(rate / np.where(voiced, f0, _UNVOICED_HZ)[centres]).astype(int)
    reach = int(halves.max())
    padded, moved = np.pad(audio, reach), np.zeros(len(audio) + 2 * reach, np.float32)
    for target, centre, half in zip(targets.tolist(), centres[nearest].tolist(), halves[nearest].tolist(), strict=True):
        grain = padded[centre + reach - half : centre + reach + half + 1] * _window(half)
        moved[target + reach - half : target + reach + half + 1] += grain
    return moved[reach:-reach]
