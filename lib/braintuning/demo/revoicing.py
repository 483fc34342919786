"""Stories of which only the times of words and phones are known, spoken by the text-to-speech at those times.

Spectra of a phrase are stretched in time, frame by frame, so that every word falls on its interval; and every phone on
its own where the text-to-speech says a word with as many phones as the TextGrid has.
"""

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import h5py
import joblib
import numpy as np
import soxr

from braintuning.datasets import labels
from braintuning.datasets.layout import FOLDERS
from braintuning.datasets.textgrid import Interval
from braintuning.demo.voices import FRAME_SECONDS, RATE, Timeline, Voice, at_level, faded, render, utter
from braintuning.errors import InputError
from braintuning.lowlevel.phones import pronounce
from braintuning.results import CACHE, atomic_path, fingerprint, generator, require_file
from braintuning.timing import SAMPLE_RATE

log = logging.getLogger(__name__)

VERSION = 1
LONGEST_GAP = 0.12
"""Seconds between words of one phrase; a longer pause divides it."""
WORDS_A_PHRASE = 25
MARGIN = 0.05
"""Seconds of sound kept before and after a phrase."""
ROOM = 3e-4
"""Root mean square of the noise throughout, since recordings are nowhere digitally silent; speech has 0.06."""


class TimedStory(NamedTuple):
    """A story of ds003020: when each word and phone was said, how many volumes it has, and its TextGrid."""

    words: list[Interval]
    phones: list[Interval]
    n_volumes: int
    textgrid: Path


def timed_stories(root: Path, stories: Sequence[str]) -> dict[str, TimedStory]:
    """Stories of a copy of ds003020, of which TextGrids and `respdict.json` are needed; by name.

    `InputError` for no such folder, a story that lacks one of the two, or a TextGrid that cannot be read.
    """
    folder = next((root / name for name in (*FOLDERS, ".") if (root / name / "TextGrids").is_dir()), None)
    if folder is None:
        expected = "expected TextGrids/ and respdict.json of ds003020, which `make data STUDY=paper` brings"
        raise InputError(f"{root / 'TextGrids'}: no such folder, {expected}; `textgrids` in the study says where it is")
    table = require_file(folder / "respdict.json")
    try:
        volumes = dict(json.loads(table.read_text(encoding="utf-8-sig")))
    except (ValueError, TypeError):
        raise InputError(f"{table}: found something else, expected a JSON object with the volumes of stories") from None
    found = {}
    for story in stories:
        n_volumes = volumes.get(story)
        if not isinstance(n_volumes, int | float) or not float(n_volumes).is_integer():
            raise InputError(f"{table}: found {n_volumes!r} as volumes of story {story!r}, expected a whole number")
        grid = folder / "TextGrids" / f"{story}.TextGrid"
        found[story] = TimedStory(labels.read_words(grid), labels.read_phones(grid), int(n_volumes), grid)
        if not found[story].words:
            raise InputError(f"{grid}: found no word in tier 'word', expected at least one")
    return found


def revoiced(
    stories: Mapping[str, TimedStory], seconds: Mapping[str, float], voices: Mapping[str, Voice]
) -> dict[str, Path]:
    """HDF5 files of stories, each so many `seconds` long: `audio` (samples,) int16 at 16 kHz and attribute `unspoken`.

    Stories are spoken side by side, one on each processor core, once, and then kept.
    """
    files = {}
    for story, timed in stories.items():
        made_from = fingerprint([VERSION, timed.words, timed.phones, seconds[story], asdict(voices[story])])
        files[story] = CACHE / "revoiced" / f"{story}-{made_from}.h5"
    missing = sorted((s for s in stories if not files[s].is_file()), key=lambda s: -seconds[s])
    if missing:
        cores = min(len(missing), joblib.cpu_count())
        log.info(f"speaking {len(missing)} stories at the times of their words, {cores} at a time")
        with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
            given = ([of[story] for story in missing] for of in (files, stories, seconds, voices))
            list(pool.map(_keep, *given))
    return files


def _keep(path: Path, story: TimedStory, seconds: float, voice: Voice) -> None:
    audio, unspoken = revoice(story.words, story.phones, seconds, voice)
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file["audio"] = np.round(audio * 32767).astype(np.int16)
        file.attrs["unspoken"] = unspoken


def revoice(
    words: Sequence[Interval], phones: Sequence[Interval], seconds: float, voice: Voice, seed: int = 0
) -> tuple[np.ndarray, int]:
    """Speak words at their times; (samples,) float32 at 16 kHz, and how many words cannot be said and are left silent.

    Raises `InputError` where not one word can be said.
    """
    rng = generator(seed, "revoice", voice.name)
    audio, spoken = np.zeros(round((seconds + 1) * RATE), np.float32), []
    for phrase in phrases(words):
        for part in [phrase] if _is_sayable(" ".join(word.label for word in phrase)) else [[word] for word in phrase]:
            sound, start = _said(part, phones, voice, rng)
            first = max(0, round(start * RATE))
            kept = sound[first - round(start * RATE) :][: len(audio) - first]
            audio[first : first + len(kept)] += kept
            spoken += part
    if not spoken:
        raise InputError(f"words to be spoken: none of {len(words)} has a pronunciation, expected English words")
    audio = at_level(audio, spoken) + ROOM * rng.standard_normal(len(audio), dtype=np.float32)
    audio = soxr.resample(audio[: round(seconds * RATE)], RATE, SAMPLE_RATE, quality="VHQ")
    return np.clip(audio, -1, 1), len(words) - len(spoken)


@cache
def _is_sayable(text: str) -> bool:
    """Whether the text-to-speech says these words, each as one word."""
    try:
        return len(pronounce(text)[1]) == len(text.split())
    except InputError:
        return False


def phrases(words: Sequence[Interval]) -> Iterator[list[Interval]]:
    """Words that are said in one breath, without those that cannot be said or last no time."""
    phrase: list[Interval] = []
    for word in words:
        sayable = word.label and word.end - word.start > FRAME_SECONDS and _is_sayable(word.label)
        ends = phrase and (word.start - phrase[-1].end > LONGEST_GAP or len(phrase) == WORDS_A_PHRASE)
        if ends or not sayable:
            yield from [phrase] if phrase else []
            phrase = []
        if sayable:
            phrase.append(word)
    yield from [phrase] if phrase else []


def _said(
    phrase: Sequence[Interval], phones: Sequence[Interval], voice: Voice, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Audio of a phrase, (samples,) float32 at `RATE`, and the second of the story at which it begins."""
    parts, f0, _, timeline, _ = utter(" ".join(word.label for word in phrase), voice, rng)
    source, target = anchors(timeline, phrase, phones)
    start, end = target[0], target[-1]
    n_frames = round((end - start) * voice.warp / FRAME_SECONDS)
    times = start + np.arange(n_frames) * FRAME_SECONDS / voice.warp
    frames = np.interp(times, target, source) / FRAME_SECONDS
    audio = render(*_at_frames(parts, f0, frames), voice, rng)
    if voice.warp != 1:
        audio = soxr.resample(audio, RATE * voice.warp, RATE, quality="VHQ")
    return faded(audio), start


def anchors(
    timeline: Timeline, phrase: Sequence[Interval], phones: Sequence[Interval]
) -> tuple[np.ndarray, np.ndarray]:
    """Times in the text-to-speech's phrase and the times in the story at which they are to be heard, both ascending."""
    starts = np.array([phone.start for phone in phones])
    source, target, n_said = [timeline.start[0] - MARGIN], [phrase[0].start - MARGIN], 0
    for word in phrase:
        n_parts = len(word.label.split())
        own = np.flatnonzero((timeline.word >= n_said) & (timeline.word < n_said + n_parts))
        n_said += n_parts
        first, last = np.searchsorted(starts, [word.start - 1e-3, word.end - 1e-3])
        spans = phones[first:last]
        if len(spans) != len(own):
            own, spans = own[[0, -1]], [word._replace(end=np.inf), word._replace(start=-np.inf)]
        for place, span in zip(own, spans, strict=True):
            source += [timeline.start[place], timeline.end[place]]
            target += [span.start, span.end]
    source, target = np.append(source, timeline.end[-1] + MARGIN), np.append(target, phrase[-1].end + MARGIN)
    known = np.isfinite(target)
    source, target = np.maximum.accumulate(source[known]), np.maximum.accumulate(target[known])
    return source, target + 1e-9 * np.arange(len(target))


def _at_frames(parts: list[np.ndarray], f0: np.ndarray, frames: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Spectra at fractions of frames: levels between their neighbours, phases and pitch of the nearest frame."""
    frames = np.clip(frames, 0, len(f0) - 1)
    low = np.floor(frames).astype(int)
    high, nearest = np.minimum(low + 1, len(f0) - 1), np.round(frames).astype(int)
    share = (frames - low).astype(np.float32)
    found = [
        part[:, low] * (1 - share) + part[:, high] * share if number in (0, 2, 3) else part[:, nearest]
        for number, part in enumerate(parts)
    ]
    return found, f0[nearest]
