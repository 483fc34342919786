"""Reader and writer of audio files; everything inside the library is mono at 16 kHz."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import soxr

from braintuning.datasets.textgrid import Interval
from braintuning.errors import InputError
from braintuning.results import atomic_path, require_file
from braintuning.timing import SAMPLE_RATE

LONGEST_SILENCE, WORD_SLACK = 10.0, 0.5
"""Seconds of silence in which no word may lie, and by which times of words may miss its edges."""
_CONSTANT = 1e-6
_SIZES = re.compile(r"^ *(?:data|SSND|riff|Riff size) : (\d+) \(should be (\d+)\)", re.MULTILINE)
"""How libsndfile says that a header's size, in bytes, is not what the file has."""
_SPHERE = re.compile(rb"sample_count -i (\d+)")
_SLACK, _OPEN_ENDED = 256, 0x7FFF0000
"""Bytes by which careless writers miss the size, and sizes from which on they mean that they did not know it."""


def require_audio(path: Path) -> Path:
    """Path of a sound file that is here, has samples and is as long as its own header says; no samples are read.

    `InputError` where it is missing, a pointer (`results.require_file`), no audio file, one without samples, or half of
    one: its header (wav, w64, AIFF, SPHERE) or last page (ogg) promises more than is here. FLAC and mp3 tell when they
    are read.
    """
    path = require_file(path)
    try:
        info = soundfile.info(path)
    except (soundfile.LibsndfileError, TypeError) as error:
        raise InputError(f"{path}: not an audio file that can be read (expected wav, flac or ogg): {error}") from error
    promised, here, slack, unit = 0, 0, 0, "bytes"
    if sizes := _SIZES.search(info.extra_info):
        promised, here, slack = int(sizes[1]), int(sizes[2]), _SLACK
    elif info.format == "NIST":
        with open(path, "rb") as file:
            header = _SPHERE.search(file.read(1024))
        promised, here, unit = int(header[1]) if header else 0, info.frames, "samples"
    elif info.format == "OGG":
        promised, here = _end_of_last_page(path), path.stat().st_size
    if here + slack < promised < _OPEN_ENDED:
        found = f"half a file, which promises {promised} {unit} of sound where about {here} are here"
        raise InputError(f"{path}: {found}, expected the whole file; copy or download it again")
    if info.frames == 0:
        raise InputError(f"{path}: the audio file has no samples, expected some")
    return path


def _end_of_last_page(path: Path) -> int:
    """Where the last page of an ogg file says that it ends, in bytes; a page starts with sizes of up to 255 pieces."""
    with open(path, "rb") as file:
        start = max(0, path.stat().st_size - 27 - 255 * 256)
        file.seek(start)
        tail = file.read()
    page = max(tail.rfind(b"OggS"), 0)
    n_pieces = tail[page + 26] if len(tail) > page + 26 else 255
    return start + page + 27 + n_pieces + sum(tail[page + 27 : page + 27 + n_pieces])


def read_audio(path: Path) -> np.ndarray:
    """Audio of a file in any format of libsndfile (wav, flac, ogg, mp3), of any rate and number of channels.

    (samples,) float32 of full scale 1, which floating-point files may exceed; 16 kHz: the mean over channels, resampled
    with soxr's best quality. `InputError` as of `require_audio`, or where the file breaks off or has samples that are
    not finite.
    """
    path = require_audio(path)
    try:
        with soundfile.SoundFile(path) as file:
            samples, rate, n_samples = file.read(dtype="float32", always_2d=True), file.samplerate, file.frames
    except soundfile.LibsndfileError as error:
        raise InputError(f"{path}: half a file or a damaged one ({error}), expected the whole file") from None
    if len(samples) < 0.99 * n_samples:
        raise InputError(f"{path}: half a file, {len(samples)} of {n_samples} samples, expected the whole file")
    mono = samples.mean(axis=1)
    invalid = np.flatnonzero(~np.isfinite(mono))
    if len(invalid):
        raise InputError(f"{path}: {len(invalid)} samples are not finite, the first at {invalid[0] / rate:.3f} s")
    return soxr.resample(mono, rate, SAMPLE_RATE, quality="VHQ")


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


def check_speech(audio: np.ndarray, path: Path, words: Sequence[Interval], words_file: Path) -> float:
    """Seconds of (samples,) audio from `path`; `InputError` without words, or for 10 s of silence in which some lie.

    Such a constant stretch is a hole in the file, or the words are another's; between words it is a pause.
    """
    if not words:
        raise InputError(f"{words_file}: found no word, expected at least one")
    changes = np.flatnonzero(np.abs(np.diff(audio)) > _CONSTANT) + 1
    edges = np.concatenate([[0], changes, [len(audio)]]) / SAMPLE_RATE
    for hole in np.flatnonzero(np.diff(edges) >= LONGEST_SILENCE):
        start, end = edges[hole : hole + 2]
        inside = (word for word in words if start + WORD_SLACK < (word.start + word.end) / 2 < end - WORD_SLACK)
        if said := [word.label for word in inside]:
            found = f"digital silence from {start:.2f} s to {end:.2f} s and {len(said)} words in it ({said[0]!r})"
            raise InputError(f"{path}: {found}, expected sound where something is said")
    return len(audio) / SAMPLE_RATE
