"""Reader and writer of audio files; everything inside the library is mono at 16 kHz."""

from pathlib import Path

import numpy as np
import soundfile
import soxr

from braintuning.errors import InputError
from braintuning.results import atomic_path, require_file

RATE = 16_000
LONGEST_SILENCE = 10.0
_CONSTANT = 1e-6


def read_audio(path: Path) -> np.ndarray:
    """Audio of a file in any format of libsndfile (wav, flac, ogg, mp3), of any rate and number of channels.

    Returns
    -------
    (samples,) float32
        Full scale 1, 16 kHz: the mean over channels, resampled with soxr's best quality.

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
    """Write (samples,) as a 16-bit wav file of `rate` Hz; `InputError` unless it is one channel within -1 and 1."""
    audio = np.asarray(audio)
    if audio.ndim != 1 or len(audio) == 0:
        raise InputError(f"{path}: audio of shape {audio.shape} found, expected one channel with at least one sample")
    peak = np.abs(audio).max()
    if not peak <= 1:
        raise InputError(f"{path}: audio reaches {peak}, expected every sample within -1 and 1")
    with atomic_path(path) as temporary:
        soundfile.write(temporary, audio, rate, format="WAV", subtype="PCM_16")


def require_signal(audio: np.ndarray, path: Path, within: tuple[float, float] = (0.0, np.inf)) -> None:
    """Raise `InputError` where (samples,) audio from `path` is constant for 10 s between two times in seconds.

    Recordings have noise in their pauses, so that a constant stretch is a hole in the file.
    """
    changes = np.flatnonzero(np.abs(np.diff(audio)) > _CONSTANT) + 1
    edges = np.clip(np.concatenate([[0], changes, [len(audio)]]) / RATE, *within)
    holes = np.flatnonzero(np.diff(edges) >= LONGEST_SILENCE)
    if len(holes):
        start, end = edges[holes[0]], edges[holes[0] + 1]
        raise InputError(f"{path}: digital silence from {start:.2f} s to {end:.2f} s, expected sound throughout")
