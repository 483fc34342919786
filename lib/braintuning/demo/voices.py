"""Text-to-speech voices with exact word and phone times.

hibari-tts (Apache-2.0) speaks; the times are the durations that its network uses, one per symbol in units of 25 ms,
which its ONNX graph computes but does not return. Two corrections are made. The audio precedes those durations by
33 ms + 22.5 ms / speed, and a third of the time of a space belongs to the word before it: with these values, found on
one story at four speeds, phone labels explain most of the variance of the log mel spectrum (on another story, in every
voice, to within 3 ms). And the durations beside a pause include part of it: there, times are moved to where the audio
begins and ends.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import soxr
from hibari import dsp
from hibari.voices import voice_path

from braintuning.datasets.textgrid import Interval
from braintuning.errors import InputError
from braintuning.lowlevel import phones as english

RATE = dsp.SR
_DURATIONS = "/Clip_output_0"
_DURATION_SECONDS = 0.025
FRAME_SECONDS = dsp.HOP / RATE
_LAG_SECONDS = (0.033, 0.0225)
_SPACE_BEFORE = 1 / 3
_LEVEL_HOP = RATE // 100
_SILENCE_DB = -35.0
_MARGIN_SECONDS = (0.05, 0.10)
_PAUSE_SECONDS = (0.25, 0.425, 0.6)
"""Shortest and longest silence: the first two between sentences, the last two between paragraphs and at both ends."""
_FADE_SECONDS = 0.01
_LOWEST_F0 = 60.0
_UNVOICED_HZ = 200.0
_PHASE_BINS = 24
_LOUDNESS = 0.06
_PEAK = 0.9
_STRESS = {"ˈ": "1", "ˌ": "2"}


@dataclass(frozen=True)
class Voice:
    """A speaker, made from the one voice in the hibari-tts package (it downloads its others).

    All is relative to the original, a woman's voice of about 190 Hz: `speed` in words per second (since the network
    rounds durations to 25 ms, 1.05 can come out as 0.95), `pitch` as fundamental frequency, and `warp` as resonances of
    the vocal tract, which are lower the longer it is.
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
    """Audio (samples,) float32 within -1 and 1 of a text, with times in seconds from the first sample.

    `words` are lower case and without the punctuation around them; `phones` are ARPAbet with stress digits on the
    vowels, each within its word.
    """

    audio: np.ndarray
    rate: int
    words: list[Interval]
    phones: list[Interval]


@dataclass
class Timeline:
    """Phones of a sentence; `opens` marks those after a pause, `word` is the index of each phone's word."""

    labels: list[str]
    start: np.ndarray
    end: np.ndarray
    opens: np.ndarray
    word: np.ndarray


@cache
def _network() -> object:
    import onnx
    import onnxruntime  # which starts a thread: not where a process may still fork

    graph = onnx.load(voice_path("heart"))
    graph.graph.output.append(onnx.helper.make_tensor_value_info(_DURATIONS, onnx.TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def utter(
    sentence: str, voice: Voice, rng: np.random.Generator
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray, Timeline, list[str]]:
    """A sentence as a voice says it, and what the network makes of it, in frames of `FRAME_SECONDS`.

    Returns
    -------
    parts : list of (601, frames) float32
        Level and phase of the harmonics, level of the noise, level and phase of the rest, of the unscaled vocal tract.
    f0 : (frames,) float32
        Fundamental frequency in Hz.
    audio : (samples,) float32
        What `render` makes of them.
    timeline, words
        When its phones are said, and its words.
    """
    symbols, words = english.pronounce(sentence)
    ids = np.array([[0, *(english.symbol_numbers()[symbol] for symbol, _ in symbols), 0]], np.int64)
    *spectra, frames = _network().run(None, {"ids": ids, "speed": np.array([voice.speed / voice.warp], np.float32)})
    *parts, f0 = (part[0] for part in spectra)
    constant, slowed = _LAG_SECONDS
    ends = np.cumsum(frames.ravel()[:-1]) * _DURATION_SECONDS - (constant + slowed * voice.warp / voice.speed)
    audio, timeline = render(parts, f0, voice, rng), timeline_of(symbols, np.maximum(ends, 0))
    fit_to_audio(timeline, audio)
    return parts, f0, audio, timeline, words


def render(parts: list[np.ndarray], f0: np.ndarray, voice: Voice, rng: np.random.Generator) -> np.ndarray:
    """Audio of spectra, at the voice's pitch, before the vocal tract is scaled; (samples,) float32."""
    audio = dsp.synth(*parts, f0, rng)
    if voice.pitch != voice.warp:
        frame_centres = (np.arange(len(f0)) + 0.5) * dsp.HOP
        sample_f0 = np.interp(np.arange(len(audio)) + 0.5, frame_centres, f0)
        sample_f0[sample_f0 < _LOWEST_F0] = 0
        audio = scale_pitch(audio, sample_f0, RATE, voice.pitch / voice.warp)
    return audio


def timeline_of(symbols: list[tuple[str, int | None]], ends: np.ndarray) -> Timeline:
    """Phones and their times as the network has them.

    A space without a pause is divided between its neighbours; a stress mark belongs to the next phone, a symbol that is
    no phone of English to the previous one; a vowel and the r that colours it are one phone.
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
        elif symbol in english.PHONE_OF_SYMBOL:
            is_vowel = symbol in english.VOWEL_SYMBOLS
            labels.append(english.PHONE_OF_SYMBOL[symbol] + (stress if is_vowel else ""))
            start = begin if waiting is None else waiting
            if not paused:
                stops[-1] = start
            starts.append(start)
            stops.append(end)
            opens.append(paused)
            words.append(word)
            stress, waiting, paused = "0" if is_vowel else stress, None, False
        elif word is not None and labels:
            stops[-1] = end
        else:
            waiting, paused = None, True
        previous = symbol
    return Timeline(labels, np.array(starts), np.array(stops), np.array(opens), np.array(words))


def fit_to_audio(timeline: Timeline, audio: np.ndarray) -> None:
    """Move times beside pauses to where the audio begins and ends, in 10 ms frames."""
    frames = audio[: len(audio) // _LEVEL_HOP * _LEVEL_HOP].reshape(-1, _LEVEL_HOP)
    level = 10 * np.log10((frames**2).mean(axis=1) + 1e-12)
    loud = np.flatnonzero(level > np.percentile(level, 95) + _SILENCE_DB) * _LEVEL_HOP / RATE
    start, end = timeline.start, timeline.end
    closes = np.append(timeline.opens[1:], True)
    for phone in np.flatnonzero(closes):
        audible = loud[(loud >= start[phone]) & (loud < end[phone] + 0.1)]
        end[phone] = max(start[phone] + 0.03, audible[-1] + 0.01) if len(audible) else start[phone] + 0.05
    for phone in np.flatnonzero(timeline.opens):
        earliest = max(end[phone - 1] if phone else 0, start[phone] - 0.05)
        audible = loud[(loud >= earliest) & (loud < end[phone])]
        if len(audible):
            start[phone] = min(audible[0], end[phone] - 0.02)
    end[:-1] = np.minimum(end[:-1], start[1:])
    end[-1] = min(end[-1], len(audio) / RATE)


def _whole_cycles(phase: np.ndarray) -> np.ndarray:
    return np.flatnonzero(np.diff(np.floor(phase))) + 1


def scale_pitch(audio: np.ndarray, f0: np.ndarray, rate: int, factor: float) -> np.ndarray:
    """Raise or lower the pitch of a voice, by a factor of about 0.5 to 2, without changing its resonances or timing.

    `audio` is (samples,) float32, `f0` its fundamental frequency in Hz, 0 where the voice is silent or whispers.
    Time-domain pitch-synchronous overlap-add (Moulines & Charpentier 1990, Speech Communication 9:453-467): the audio
    is cut into grains of two periods around the loudest part of each, which are placed at the new periods.
    """
    voiced = f0 > 0
    phase = np.cumsum(np.where(voiced, f0, _UNVOICED_HZ)) / rate
    bins = (phase[voiced] % 1 * _PHASE_BINS).astype(int)
    energy = np.bincount(bins, weights=audio[voiced].astype(np.float64) ** 2, minlength=_PHASE_BINS)
    centres = _whole_cycles(phase - (energy.argmax() + 0.5) / _PHASE_BINS)
    targets = _whole_cycles(np.cumsum(np.where(voiced, f0 * factor, _UNVOICED_HZ)) / rate)
    closest = np.searchsorted((centres[:-1] + centres[1:]) / 2, targets)
    halves = np.round(rate / np.where(voiced, f0, _UNVOICED_HZ)[centres]).astype(int)
    reach = int(halves.max())
    padded, moved = np.pad(audio, reach), np.zeros(len(audio) + 2 * reach, np.float32)
    for target, centre, half in zip(targets.tolist(), centres[closest].tolist(), halves[closest].tolist(), strict=True):
        grain = padded[centre + reach - half : centre + reach + half + 1]
        moved[target + reach - half : target + reach + half + 1] += grain * np.hanning(2 * half + 1).astype(np.float32)
    return moved[reach:-reach]


def _say(sentence: str, voice: Voice, rng: np.random.Generator) -> Speech:
    """One sentence with a little silence around it."""
    _, _, audio, timeline, words = utter(sentence, voice, rng)
    before, after = _MARGIN_SECONDS
    first = max(0, round((timeline.start[0] - before) * RATE))
    audio = faded(audio[first : round((timeline.end[-1] + after) * RATE)])
    if voice.warp != 1:
        audio = soxr.resample(audio, RATE * voice.warp, RATE, quality="VHQ")
    times = ((timeline.start - first / RATE) / voice.warp, (timeline.end - first / RATE) / voice.warp)
    phones = [Interval(*row) for row in zip(timeline.labels, *(t.tolist() for t in times), strict=True)]
    of_word = [np.flatnonzero(timeline.word == index) for index in range(len(words))]
    spans = zip(words, of_word, strict=True)
    return Speech(audio, RATE, [Interval(w, phones[of[0]].start, phones[of[-1]].end) for w, of in spans], phones)


def faded(audio: np.ndarray) -> np.ndarray:
    """Audio whose first and last 10 ms rise from and fall to silence; (samples,) float32."""
    fade = np.ones(len(audio), np.float32)
    ramp = np.linspace(0, 1, round(_FADE_SECONDS * RATE), dtype=np.float32)[: len(audio)]
    fade[: len(ramp)] *= ramp
    fade[len(fade) - len(ramp) :] *= ramp[::-1]
    return audio * fade


def at_level(audio: np.ndarray, words: list[Interval]) -> np.ndarray:
    """Audio (samples,) at `RATE` with a root mean square of 0.06 over the words, less where a peak would pass 0.9."""
    spoken = np.concatenate([audio[round(start * RATE) : round(end * RATE)] for _, start, end in words])
    gain = min(_LOUDNESS / np.sqrt(np.mean(spoken**2)), _PEAK / np.abs(audio).max())
    return (audio * gain).astype(np.float32)


def speak(text: str, voice: Voice, seed: int) -> Speech:
    """Synthesise a text, with the time of every word and phone.

    The audio has `RATE` (24 kHz) and the level of `at_level`. A paragraph of the English text ends at an empty line or
    a line that ends with a sentence. `seed` draws the lengths of the pauses and the noise in the voice; the same gives
    the same audio, to the bit. `InputError` if the text has no word, or one that is not spoken as one (`words_of`).
    """
    if not english.words_of(text):
        raise InputError(f"text: {text[:40]!r} has no words, expected at least one")
    rng = np.random.default_rng(seed)
    shortest, middle, longest = _PAUSE_SECONDS
    parts, words, phones = [], [], []
    n_samples, spoken_until = 0, 0.0
    for opens_paragraph, sentence in english.sentences_of(text):
        said = _say(sentence, voice, rng)
        pause = rng.uniform(middle, longest) if opens_paragraph else rng.uniform(shortest, middle)
        n_silent = round((spoken_until + pause - said.words[0].start) * RATE) - n_samples
        parts += [np.zeros(n_silent, np.float32), said.audio]
        shift = (n_samples + n_silent) / RATE
        words += [Interval(label, start + shift, end + shift) for label, start, end in said.words]
        phones += [Interval(label, start + shift, end + shift) for label, start, end in said.phones]
        n_samples, spoken_until = n_samples + n_silent + len(said.audio), words[-1].end
    parts.append(np.zeros(round(rng.uniform(middle, longest) * RATE), np.float32))
    audio = np.concatenate(parts)
    return Speech(at_level(audio, words), RATE, words, phones)
