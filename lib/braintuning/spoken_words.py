"""Words as they are heard: spoken by the project's voices, or found in recordings of people."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from braintuning.audio import read_audio
from braintuning.errors import InputError
from braintuning.files import require_file
from braintuning.seeding import generator
from braintuning.timing import SAMPLE_RATE

SENTENCE = "They said {} again."
PLACE_IN_SENTENCE = 2
WINDOW_SECONDS = 1.6


@dataclass(frozen=True)
class SpokenWord:
    """A word said once.

    Attributes
    ----------
    word, speaker : str
    audio : (samples,) float32
        16 kHz, `WINDOW_SECONDS` long, the word in the middle of what was said around it; silence where nothing was.
    seconds : float
        How long the word is.
    """

    word: str
    speaker: str
    audio: np.ndarray
    seconds: float


def _window(audio: np.ndarray, start: float, end: float) -> np.ndarray:
    """Sound with the middle of a word in its middle, (samples,) float32."""
    n_samples = round(WINDOW_SECONDS * SAMPLE_RATE)
    first = round((start + end) / 2 * SAMPLE_RATE) - n_samples // 2
    heard = audio[max(first, 0) : max(first + n_samples, 0)]
    before = max(-first, 0)
    return np.pad(heard, (before, n_samples - before - len(heard))).astype(np.float32)


def synthesised(words: Sequence[str], voices: Sequence[str], seed: int) -> list[SpokenWord]:
    """Every word said by every voice, in the same short sentence.

    Parameters
    ----------
    words : sequence of str
    voices : sequence of str
        Names in `speech.VOICES`.
    seed : int
        Of pauses and of the noise in the voices.

    Raises
    ------
    InputError
        An unknown voice, or a word that is not spoken as one word.
    """
    from braintuning.speech import RATE, VOICES, speak

    said = []
    for voice in voices:
        if voice not in VOICES:
            raise InputError(f"voices: found {voice!r}, expected some of {', '.join(VOICES)}")
        for word in words:
            speech = speak(SENTENCE.format(word), VOICES[voice], seed=int(generator(seed, voice, word).integers(2**31)))
            _, start, end = speech.words[PLACE_IN_SENTENCE]
            audio = soxr.resample(speech.audio, RATE, SAMPLE_RATE)
            said.append(SpokenWord(word, voice, _window(audio, start, end), end - start))
    return said


def recorded(folder: Path, wanted: Sequence[str], per_word: int, seed: int) -> list[SpokenWord]:
    """Words found in recordings whose words are aligned, each at most `per_word` times and by different speakers.

    Parameters
    ----------
    folder : Path
        With `alignments.jsonl`: a JSON object a recording with `file`, `speaker` and `words` as [word, start, end].
    wanted : sequence of str
    per_word : int
    seed : int
        Of which recordings are taken.
    """
    places: dict[str, dict[str, tuple[str, float, float]]] = {word: {} for word in wanted}
    lines = require_file(Path(folder) / "alignments.jsonl").read_text(encoding="utf-8").splitlines()
    for number in generator(seed, "recordings").permutation(len(lines)):
        entry = json.loads(lines[number])
        for label, start, end in entry.get("words", ()):
            heard = places.get(label.split("(")[0].lower())
            if heard is not None and len(heard) < per_word:
                heard.setdefault(entry["speaker"], (entry["file"], start, end))
    files = {file for heard in places.values() for file, _, _ in heard.values()}
    audio = {file: read_audio(Path(folder) / file) for file in sorted(files)}
    return [
        SpokenWord(word, speaker, _window(audio[file], start, end), end - start)
        for word, heard in places.items()
        for speaker, (file, start, end) in heard.items()
    ]
