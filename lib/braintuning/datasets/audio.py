"""Audio files in and out; everything inside the library is mono at 16 kHz."""

from pathlib import Path

import numpy as np
import soundfile
import soxr

from braintuning.errors import InputError
from braintuning.results import atomic_path, require_file

RATE = 16_000
_CONSTANT = 1e-6


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
