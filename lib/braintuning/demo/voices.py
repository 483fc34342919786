"""Text to speech in which the time of every word and phone is known.

hibari-tts (Apache-2.0) speaks; the times are the durations that its network itself used, one per symbol in units of
25 ms, which its ONNX graph computes but does not give out. Two things are put right here. The sound comes before those
durations say, by 33 ms + 22.5 ms / speed, and a third of the time of a space belongs to the word before it: with these
values, found on one story at four speeds, phone labels explain most of the variance of the log mel spectrum (on another
story, in every voice, they do so best within 3 ms of where they are). And the durations beside a pause cover a part of
it: there the times are moved to where the sound begins and ends.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
import onnxruntime
import soxr
from hibari import dsp
from hibari.voices import voice_path

from braintuning.datasets.audio import scale_pitch
from braintuning.datasets.textgrid import Interval
from braintuning.errors import InputError
from braintuning.lowlevel.phones import (
    PHONE_OF_SYMBOL,
    VOWEL_SYMBOLS,
    pronounce,
    sentences_of,
    symbol_numbers,
    words_of,
)

RATE = dsp.SR
_DURATIONS = "/Clip_output_0"
_FRAME_SECONDS = 0.025
_LAG_SECONDS = (0.033, 0.0225)
_SPACE_BEFORE = 1 / 3
_LEVEL_HOP = RATE // 100
_SILENCE_DB = -35.0
_MARGIN_SECONDS = (0.05, 0.10)
_FADE_SECONDS = 0.01
_LOWEST_F0 = 60.0
_LOUDNESS = 0.06
_PEAK = 0.9
_STRESS = {"ˈ": "1", "ˌ": "2"}


@dataclass(frozen=True)
class Voice:
    """A speaker, made from the one voice that the hibari-tts package carries (it downloads its others).

    Attributes
    ----------
    name
        What the speaker is called.
    speed
        Words per second relative to the original voice; the network rounds durations to 25 ms, so that 1.05 can come
        out as 0.95.
    pitch
        Fundamental frequency relative to the original voice, a woman's of about 190 Hz.
    warp
        Resonances of the vocal tract relative to the original voice; the longer the tract, the lower they are.
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
def _network() -> onnxruntime.InferenceSession:
    graph = onnx.load(voice_path("heart"))
    graph.graph.output.append(onnx.helper.make_tensor_value_info(_DURATIONS, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _synthesise(symbols: str, voice: Voice, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Sound before the vocal tract is scaled, and the second at which each symbol ends, the pad before them first."""
    ids = np.array([[0, *(symbol_numbers()[symbol] for symbol in symbols), 0]], np.int64)
    *spectra, frames = _network().run(None, {"ids": ids, "speed": np.array([voice.speed / voice.warp], np.float32)})
    *parts, f0 = (part[0] for part in spectra)
    audio = dsp.synth(*parts, f0, rng)
    if voice.pitch != voice.warp:
        frame_centres = (np.arange(len(f0)) + 0.5) * dsp.HOP
        sample_f0 = np.interp(np.arange(len(audio)) + 0.5, frame_centres, f0)
        sample_f0[sample_f0 < _LOWEST_F0] = 0
        audio = scale_pitch(audio, sample_f0, RATE, voice.pitch / voice.warp)
    constant, slowed = _LAG_SECONDS
    ends = np.cumsum(frames.ravel()[:-1]) * _FRAME_SECONDS - (constant + slowed * voice.warp / voice.speed)
    return audio, np.maximum(ends, 0)


def _timeline(symbols: list[tuple[str, int | None]], ends: np.ndarray) -> _Timeline:
    """Phones and their times as the network has them.

    A space without a pause is divided between its neighbours; a stress mark belongs to the phone that follows, a sign
    that is no phone of English to the phone before; a vowel and the r that colours it are one phone.
    """
    labels, starts, stops, opens, words = [], [], [], [], []
    previous, stress, waiting, paused = "", "0", None, True
    for (symbol, word), begin, end in zip(symbols, ends[:-1], ends[1:], strict=True):
        if symbol == " " and not paused:
            waiting = begin + _SPACE_BEFORE * (end - begin)
        elif symbol in _STRESS:
            stress, waiting = _STRESS[symbol], begin if waiting is None else waiting
        elif symbol == "ɹ" and previous in ("ə", "ɜ"):
            labels[-1], stops[-1] = f"ER{labels[-1][-1]}", end
        elif symbol in PHONE_OF_SYMBOL:
            labels.append(PHONE_OF_SYMBOL[symbol] + (stress if symbol in VOWEL_SYMBOLS else ""))
            start = begin if waiting is None else waiting
            if not paused:
                stops[-1] = start
            starts.append(start)
            stops.append(end)
            opens.append(paused)
            words.append(word)
            stress, waiting, paused = "0" if symbol in VOWEL_SYMBOLS else stress, None, False
        elif word is not None and labels:
            stops[-1] = end
        else:
            waiting, paused = None, True
        previous = symbol
    return _Timeline(labels, np.array(starts), np.array(stops), np.array(opens), np.array(words))


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


def _say(sentence: str, voice: Voice, rng: np.random.Generator) -> Speech:
    """One sentence with a little silence around it."""
    symbols, words = pronounce(sentence)
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
    times = ((timeline.start - first / RATE) / voice.warp, (timeline.end - first / RATE) / voice.warp)
    phones = [Interval(*row) for row in zip(timeline.labels, *(t.tolist() for t in times), strict=True)]
    of_word = [np.flatnonzero(timeline.word == index) for index in range(len(words))]
    spans = zip(words, of_word, strict=True)
    return Speech(audio, RATE, [Interval(w, phones[of[0]].start, phones[of[-1]].end) for w, of in spans], phones)


def _level(audio: np.ndarray, words: list[Interval]) -> np.ndarray:
    spoken = np.concatenate([audio[round(start * RATE) : round(end * RATE)] for _, start, end in words])
    gain = min(_LOUDNESS / np.sqrt(np.mean(spoken**2)), _PEAK / np.abs(audio).max())
    return (audio * gain).astype(np.float32)


def _later(intervals: list[Interval], seconds: float) -> list[Interval]:
    return [Interval(label, start + seconds, end + seconds) for label, start, end in intervals]


def speak(text: str, voice: Voice, seed: int, pause_seconds: tuple[float, float] = (0.25, 0.6)) -> Speech:
    """Speak a text and say when each word and phone was spoken.

    Parameters
    ----------
    text
        English text; paragraphs end with an empty line or with a line that ends with a sentence.
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
        At `RATE` (24 kHz), its root mean square 0.06 over the words, less where a peak would pass 0.9.

    Raises
    ------
    InputError
        If the text has no word, or one that is not spoken as one word (see `words_of`).
    """
    shortest, longest = pause_seconds
    middle = (shortest + longest) / 2
    if not sum(_MARGIN_SECONDS) / voice.warp < shortest <= longest:
        raise InputError(f"pause_seconds: {pause_seconds} found, expected two rising values above 0.2 s")
    if not words_of(text):
        raise InputError(f"text: {text[:40]!r} has no words, expected at least one")
    rng = np.random.default_rng(seed)
    parts, words, phones = [], [], []
    n_samples, spoken_until = 0, 0.0
    for opens_paragraph, sentence in sentences_of(text):
        said = _say(sentence, voice, rng)
        pause = rng.uniform(middle, longest) if opens_paragraph else rng.uniform(shortest, middle)
        n_silent = round((spoken_until + pause - said.words[0].start) * RATE) - n_samples
        parts += [np.zeros(n_silent, np.float32), said.audio]
        words += _later(said.words, (n_samples + n_silent) / RATE)
        phones += _later(said.phones, (n_samples + n_silent) / RATE)
        n_samples, spoken_until = n_samples + n_silent + len(said.audio), words[-1].end
    parts.append(np.zeros(round(rng.uniform(middle, longest) * RATE), np.float32))
    return Speech(_level(np.concatenate(parts), words), RATE, words, phones)
