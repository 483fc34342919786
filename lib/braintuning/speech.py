"""Text to speech in which the time of every word and phone is known.

hibari-tts (Apache-2.0) speaks; the times are the durations that its network itself used, one per symbol in units of
25 ms, which its ONNX graph computes but does not give out. The network's sound comes 40 ms before those durations say,
and they cover silence at both sides of a pause; both are put right here.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import soxr
from hibari import Hibari, dsp
from hibari.g2p import G2P
from hibari.tts import ASSETS, MAX_PHONEMES
from hibari.voices import voice_path

from braintuning.errors import InputError
from braintuning.textgrid import Interval

RATE = dsp.SR
_DURATIONS = "/Clip_output_0"
_FRAME_SECONDS = 0.025
_LAG_SECONDS = 0.040
_LEVEL_HOP = RATE // 100
_SILENCE_DB = -35.0
_MARGIN_SECONDS = (0.05, 0.10)
_FADE_SECONDS = 0.01
_LOUDNESS = 0.08

_WORD = re.compile(r"[^\W\d_]+(?:['.-][^\W\d_]+)*")
_EDGE_PUNCTUATION = "\"'.,;:!?()[]“”‘’…"
_DASH = re.compile(r"\s*(?:—|–|--+)\s*|\s-\s")
_ELLIPSIS = re.compile(r"(?:…|\.{2,})(?=\w)")
_CLAUSE = re.compile(r"(?<=[,;:—])\s+")
_STRESS = {"ˈ": "1", "ˌ": "2"}
_VOWELS = {
    **{"A": "EY", "I": "AY", "O": "OW", "W": "AW", "Y": "OY", "a": "AE", "æ": "AE", "ɑ": "AA", "ɔ": "AO"},
    **{"ə": "AH", "ɐ": "AH", "ʌ": "AH", "ᵊ": "AH", "ɜ": "ER", "ɛ": "EH", "ɪ": "IH", "ᵻ": "IH", "i": "IY", "u": "UW"},
    **{"ʊ": "UH", "o": "OW", "e": "EH", "ɒ": "AA", "y": "UW"},
}
_CONSONANTS = {
    **{"b": "B", "d": "D", "f": "F", "h": "HH", "j": "Y", "k": "K", "l": "L", "m": "M", "n": "N", "p": "P", "s": "S"},
    **{"t": "T", "v": "V", "w": "W", "z": "Z", "ð": "DH", "ŋ": "NG", "ɡ": "G", "ɹ": "R", "ɾ": "T", "T": "T", "ʔ": "T"},
    **{"ʃ": "SH", "ʒ": "ZH", "ʤ": "JH", "ʧ": "CH", "θ": "TH", "x": "K"},
}
_PHONES = _VOWELS | _CONSONANTS


@dataclass(frozen=True)
class Voice:
    """A speaker, made from the one voice that hibari-tts carries.

    Attributes
    ----------
    name
        What the speaker is called.
    speed
        Words per second relative to the original voice.
    pitch
        Fundamental frequency relative to the original voice, a woman's of about 190 Hz.
    warp
        Resonances of the vocal tract relative to the original voice: a tract longer by a tenth has them lower by a tenth.
    """

    name: str
    speed: float = 1.0
    pitch: float = 1.0
    warp: float = 1.0


VOICES = {
    voice.name: voice
    for voice in (
        Voice("clara"),
        Voice("edmund", speed=0.95, pitch=0.56, warp=0.84),
        Voice("rosa", speed=1.08, pitch=1.22, warp=1.08),
        Voice("tobias", speed=1.05, pitch=0.70, warp=0.91),
        Voice("winnie", speed=0.92, pitch=1.45, warp=1.18),
        Voice("judith", speed=0.90, pitch=0.84, warp=0.97),
    )
}


@dataclass(frozen=True)
class Speech:
    """A spoken text.

    Attributes
    ----------
    audio
        `(samples,)` float32 within -1 and 1.
    rate
        Samples per second.
    words
        Every word of the text in order, lower case, without the punctuation around it; seconds from the first sample.
    phones
        ARPAbet phones with stress digits on the vowels, each within its word.
    """

    audio: np.ndarray
    rate: int
    words: list[Interval]
    phones: list[Interval]


@dataclass
class _Timeline:
    """Phones of a sentence: `opens` marks those after a pause, `word` is the index of the word each belongs to."""

    labels: list[str]
    start: np.ndarray
    end: np.ndarray
    opens: np.ndarray
    word: np.ndarray


@cache
def _network() -> tuple[onnxruntime.InferenceSession, dict[str, int]]:
    graph = onnx.load(voice_path("heart"))
    graph.graph.output.append(onnx.helper.make_tensor_value_info(_DURATIONS, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session, json.loads((Path(ASSETS) / "vocab.json").read_text(encoding="utf-8"))


@cache
def _pronunciation() -> G2P:
    return G2P()


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFC", text).replace("’", "'").replace("‘", "'")
    return _ELLIPSIS.sub("… ", _DASH.sub(" — ", text))


def words_of(text: str) -> list[str]:
    """Words of a text as `speak` labels them.

    Whatever stands between spaces or dashes is a word: lower case, without the punctuation around it, so that `can't` and
    `well-known` are one word each.

    Raises
    ------
    InputError
        If a word holds anything but letters, apostrophes, hyphens and full stops, naming it: numbers and signs are
        spoken as several words and have to be spelled out.
    """
    words = []
    for token in _plain(text).split():
        word = token.strip(_EDGE_PUNCTUATION)
        if word in ("", "—"):
            continue
        if not _WORD.fullmatch(word):
            raise InputError(f"text: {token!r} found, expected words of letters only (spell out numbers and signs)")
        words.append(word.lower())
    return words


def _pronounce(sentence: str) -> tuple[list[tuple[str, int | None]], list[str]]:
    """Symbols that the network reads, each with the index of its word (None for spaces and punctuation), and the words."""
    words = words_of(sentence)
    _, vocabulary = _network()
    symbols: list[tuple[str, int | None]] = []
    word, letters = -1, False
    for token in _pronunciation().phonemize_tokens(_pronunciation().tokenize(sentence)):
        if not letters and any(character.isalpha() for character in token.text):
            word, letters = word + 1, True
        for symbol in token.phonemes or "":
            if symbol in vocabulary:
                symbols.append((symbol, word if unicodedata.category(symbol)[0] in "LM" else None))
        if token.whitespace:
            symbols.append((" ", None))
            letters = False
    if word + 1 != len(words):
        raise InputError(f"text: {sentence!r} is spoken as {word + 1} words, expected {len(words)}")
    unspoken = set(range(len(words))) - {index for symbol, index in symbols if symbol in _PHONES}
    if unspoken:
        raise InputError(f"text: {words[min(unspoken)]!r} has no pronunciation, expected an English word")
    return symbols, words


def _pieces(text: str) -> Iterator[tuple[bool, str]]:
    """Sentences of a text, each with whether a paragraph starts with it; very long ones are divided at their commas."""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        for number, sentence in enumerate(Hibari.split_sentences(_plain(" ".join(paragraph.split())))):
            clauses = [sentence]
            while len(clauses[-1]) > MAX_PHONEMES and (cuts := list(_CLAUSE.finditer(clauses[-1]))):
                cut = max((c for c in cuts if c.start() <= MAX_PHONEMES), key=lambda c: c.start(), default=cuts[0])
                clauses[-1:] = [clauses[-1][: cut.start()], clauses[-1][cut.end() :]]
            for clause in clauses:
                if words_of(clause):
                    yield number == 0 and clause is clauses[0], clause


def _synthesise(symbols: str, voice: Voice, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sound before the vocal tract is scaled, and the second of it at which each symbol ends, the pad before them first."""
    session, vocabulary = _network()
    ids = np.array([[0, *(vocabulary[symbol] for symbol in symbols), 0]], np.int64)
    *spectra, frames = session.run(None, {"ids": ids, "speed": np.array([voice.speed / voice.warp], np.float32)})
    *parts, f0 = (part[0] for part in spectra)
    audio = dsp.synth(*parts, (f0 * (voice.pitch / voice.warp)).astype(np.float32), rng)
    return audio, np.cumsum(frames.ravel()[:-1]) * _FRAME_SECONDS


def _timeline(symbols: list[tuple[str, int | None]], ends: np.ndarray) -> _Timeline:
    """Phones and their times as the network has them.

    A space without a pause and a stress mark belong to the phone that follows; a vowel and the r that colours it are one
    phone; a length mark and signs that are no phone of English belong to the phone before.
    """
    labels, starts, stops, opens, words = [], [], [], [], []
    previous, stress, waiting, paused = "", "0", None, True
    for (symbol, word), begin, end in zip(symbols, ends[:-1], ends[1:], strict=True):
        if symbol in _STRESS or (symbol == " " and not paused):
            stress, waiting = _STRESS.get(symbol, stress), begin if waiting is None else waiting
        elif symbol == "ɹ" and previous in ("ə", "ɜ"):
            labels[-1], stops[-1] = f"ER{labels[-1][-1]}", end
        elif symbol in _PHONES:
            labels.append(_PHONES[symbol] + (stress if symbol in _VOWELS else ""))
            starts.append(begin if waiting is None else waiting)
            stops.append(end)
            opens.append(paused)
            words.append(word)
            stress, waiting, paused = "0" if symbol in _VOWELS else stress, None, False
        elif word is not None and labels:
            stops[-1] = end
        else:
            waiting, paused = None, True
        previous = symbol
    times = np.array([starts, stops]) - _LAG_SECONDS
    return _Timeline(labels, *np.maximum(times, 0), np.array(opens), np.array(words))


def _fit_to_sound(timeline: _Timeline, audio: np.ndarray) -> None:
    """Move the times beside pauses to where the sound begins and ends, in 10 ms frames."""
    frames = audio[: len(audio) // _LEVEL_HOP * _LEVEL_HOP].reshape(-1, _LEVEL_HOP)
    level = 10 * np.log10((frames**2).mean(axis=1) + 1e-12)
    loud = np.flatnonzero(level > np.percentile(level, 95) + _SILENCE_DB) * _LEVEL_HOP / RATE
    start, end = timeline.start, timeline.end
    closes = np.append(timeline.opens[1:], True)
    for phone in np.flatnonzero(closes):
        heard = loud[(loud >= start[phone]) & (loud < end[phone] + 0.1)]
        end[phone] = max(start[phone] + 0.03, heard[-1] + 0.01) if len(heard) else start[phone] + 0.05
    for phone in np.flatnonzero(timeline.opens):
        earliest = max(end[phone - 1] if phone else 0, start[phone] - 0.05)
        heard = loud[(loud >= earliest) & (loud < end[phone])]
        if len(heard):
            start[phone] = min(heard[0], end[phone] - 0.02)
    end[:-1] = np.minimum(end[:-1], start[1:])
    end[-1] = min(end[-1], len(audio) / RATE)


def _say(sentence: str, voice: Voice, rng: np.random.Generator) -> tuple[np.ndarray, list[Interval], list[Interval]]:
    """Sound of a sentence with a little silence around it, its words and its phones."""
    symbols, words = _pronounce(sentence)
    audio, ends = _synthesise("".join(symbol for symbol, _ in symbols), voice, rng)
    timeline = _timeline(symbols, ends)
    _fit_to_sound(timeline, audio)
    before, after = _MARGIN_SECONDS
    first = max(0, round((timeline.start[0] - before) * RATE))
    audio = audio[first : round((timeline.end[-1] + after) * RATE)]
    fade = np.linspace(0, 1, round(_FADE_SECONDS * RATE), dtype=np.float32)
    audio[: len(fade)] *= fade
    audio[-len(fade) :] *= fade[::-1]
    if voice.warp != 1:
        audio = soxr.resample(audio, RATE * voice.warp, RATE, quality="VHQ")
    start, end = (timeline.start - first / RATE) / voice.warp, (timeline.end - first / RATE) / voice.warp
    phones = [Interval(*row) for row in zip(timeline.labels, start.tolist(), end.tolist(), strict=True)]
    spans = ([i for i, word in enumerate(timeline.word) if word == index] for index in range(len(words)))
    return (
        audio,
        [Interval(w, phones[s[0]].start, phones[s[-1]].end) for w, s in zip(words, spans, strict=True)],
        phones,
    )


def speak(text: str, voice: Voice, seed: int, pause_seconds: tuple[float, float] = (0.25, 0.6)) -> Speech:
    """Speak a text and say when each word and phone was spoken.

    Parameters
    ----------
    text
        English text; an empty line divides paragraphs, other line ends are spaces.
    voice
        The speaker, for instance one of `VOICES`.
    seed
        Of the lengths of the pauses and the noise in the voice: one seed gives one sound, to the bit.
    pause_seconds
        Shortest and longest silence between the last phone of a sentence and the first of the next; the lower half of
        the range falls between sentences, the upper half between paragraphs and at both ends of the text.

    Returns
    -------
    Speech
        At `RATE` (24 kHz), its root mean square 0.08 over the words unless a peak would pass 1.

    Raises
    ------
    InputError
        If the text has no word, or one that is not spoken as one word (see `words_of`).
    """
    shortest, longest = pause_seconds
    if not sum(_MARGIN_SECONDS) / voice.warp < shortest <= longest:
        raise InputError(f"pause_seconds: {pause_seconds} found, expected two rising values above 0.2 s")
    rng = np.random.default_rng(seed)
    parts, words, phones = [], [], []
    n_samples, spoken_until = 0, 0.0
    for paragraph, sentence in _pieces(text):
        audio, sentence_words, sentence_phones = _say(sentence, voice, rng)
        middle = (shortest + longest) / 2
        pause = rng.uniform(middle, longest) if paragraph else rng.uniform(shortest, middle)
        n_silent = round((spoken_until + pause - sentence_phones[0].start) * RATE) - n_samples
        parts += [np.zeros(n_silent, np.float32), audio]
        offset = (n_samples + n_silent) / RATE
        words += [Interval(label, start + offset, end + offset) for label, start, end in sentence_words]
        phones += [Interval(label, start + offset, end + offset) for label, start, end in sentence_phones]
        n_samples, spoken_until = n_samples + n_silent + len(audio), words[-1].end
    if not words:
        raise InputError("text: no words found, expected at least one")
    parts.append(np.zeros(round(rng.uniform(middle, longest) * RATE), np.float32))
    return Speech(_level(np.concatenate(parts), words), RATE, words, phones)


def _level(audio: np.ndarray, words: list[Interval]) -> np.ndarray:
    spoken = np.concatenate([audio[round(start * RATE) : round(end * RATE)] for _, start, end in words])
    gain = min(_LOUDNESS / np.sqrt(np.mean(spoken**2)), 0.99 / np.abs(audio).max())
    return (audio * gain).astype(np.float32)
