"""Spoken words: synthesised by the demo's voices, or cut out of recordings of people."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soxr

from braintuning.datasets.audio import read_audio
from braintuning.datasets.labels import intervals_of, text_of, word_of
from braintuning.datasets.textgrid import Interval, check_within
from braintuning.errors import InputError
from braintuning.results import generator, json_lines
from braintuning.timing import SAMPLE_RATE, cut, to_samples

SENTENCE = "They said {} again."
PLACE_IN_SENTENCE = 2
SHORTEST_SECONDS, WINDOW_SECONDS = 0.02, 1.2
FEWEST_WORDS = 5


@dataclass(frozen=True)
class SpokenWord:
    """One token of a word, `seconds` long.

    `audio`, (samples,) float32, is `WINDOW_SECONDS` at 16 kHz with the word in the middle of its context, padded with
    silence.
    """

    word: str
    speaker: str
    audio: np.ndarray
    seconds: float


def _window(audio: np.ndarray, start: float, end: float) -> np.ndarray:
    """Window of `WINDOW_SECONDS` around a word's middle."""
    n_samples = int(to_samples(WINDOW_SECONDS))
    return cut(audio, int(to_samples((start + end) / 2)) + n_samples // 2, n_samples)


def synthesised(words: Sequence[str], voices: Sequence[str], seed: int) -> list[SpokenWord]:
    """Every word said in `SENTENCE` by every voice, names in `demo.voices.VOICES`; `seed` draws pauses and voice noise.

    Raises InputError for an unknown voice, or a word that is not spoken as one word.
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
    """Every token of the wanted words, in lower case, in a folder of recordings with word alignments.

    Each line of `alignments.jsonl` is a JSON object of `file`, `speaker` and `words` as [label, start, end]; a label's
    word is that of `labels.word_of`. Tokens shorter than `SHORTEST_SECONDS`, a frame, or longer than `WINDOW_SECONDS`
    are left out, and so are speakers with fewer than `FEWEST_WORDS`: their mean, which `similarity.pair_similarities`
    subtracts, would be little but these words. `InputError` for a token that ends after its recording.
    """
    wanted, of_speaker = set(wanted), defaultdict(list)
    for where, entry in json_lines(folder / "alignments.jsonl"):
        spoken = intervals_of(entry, "words", where)
        if not spoken:
            continue
        file, speaker = (text_of(entry, key, where) for key in ("file", "speaker"))
        for label, start, end in spoken:
            word = word_of(label)
            if word in wanted and SHORTEST_SECONDS <= end - start <= WINDOW_SECONDS:
                of_speaker[speaker].append((file, word, start, end))
    said = []
    for speaker, places in of_speaker.items():
        if len(places) >= FEWEST_WORDS:
            audio = {file: read_audio(folder / file) for file in {file for file, *_ in places}}
            for file, *place in places:
                check_within([Interval(*place)], len(audio[file]) / SAMPLE_RATE, folder / file)
            said += [SpokenWord(w, speaker, _window(audio[file], s, e), e - s) for file, w, s, e in places]
    return said
