"""Words as they are heard: spoken by the project's voices, or found in recordings of people."""

import json
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from braintuning.datasets.audio import read_audio
from braintuning.errors import InputError
from braintuning.results import generator, require_file
from braintuning.timing import SAMPLE_RATE

SENTENCE = "They said {} again."
PLACE_IN_SENTENCE = 2
WINDOW_SECONDS = 1.2
FEWEST_WORDS = 5


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
    from braintuning.demo.voices import RATE, VOICES, speak

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


def recorded(folder: Path, wanted: Collection[str]) -> list[SpokenWord]:
    """Every wanted word in recordings whose words are aligned.

    A speaker with fewer than five of them is left out, since his mean, which `preference.pair_similarities` takes off,
    would be little but these words. So is a word longer than `WINDOW_SECONDS`.

    Parameters
    ----------
    folder : Path
        With `alignments.jsonl`: a JSON object a recording with `file`, `speaker` and `words` as [word, start, end].
    wanted : collection of str
    """
    folder, wanted, of_speaker = Path(folder), set(wanted), defaultdict(list)
    for line in require_file(folder / "alignments.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        for label, start, end in entry.get("words", ()):
            word = label.split("(")[0].lower()
            if word in wanted and end - start <= WINDOW_SECONDS:
                of_speaker[entry["speaker"]].append((entry["file"], word, start, end))
    said = []
    for speaker, places in of_speaker.items():
        if len(places) >= FEWEST_WORDS:
            audio = {file: read_audio(folder / file) for file in {file for file, *_ in places}}
            said += [SpokenWord(w, speaker, _window(audio[file], s, e), e - s) for file, w, s, e in places]
    return said
