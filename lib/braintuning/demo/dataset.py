"""Writer of simulated listeners in the folder layout and file formats of ds003020."""

import json
import logging
import shutil
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import soxr

from braintuning.alignment.encoding import zscore
from braintuning.cortex.subject import spread_vertices
from braintuning.cortex.surface import fs_lr
from braintuning.datasets import audio
from braintuning.datasets.lebel import SOUND_START, UNSTORED_VOLUMES
from braintuning.datasets.textgrid import Interval
from braintuning.demo import listeners, revoicing
from braintuning.demo.listeners import SPACES
from braintuning.demo.stories import story_text
from braintuning.demo.textgrid_writer import write_textgrid
from braintuning.demo.voices import VOICES, speak
from braintuning.errors import InputError
from braintuning.results import REPOSITORY, atomic_path, generator, require_space
from braintuning.study.settings import Simulation
from braintuning.timing import SAMPLE_RATE, row_times

log = logging.getLogger(__name__)

WAV_RATE = 44_100
ROWS_A_STORY = 180
NOBODYS_DATA = "Simulated listeners in the layout of ds003020, whatever their names; truth/ has what drives them.\n"
Features = dict[str, np.ndarray]


class Stimulus(NamedTuple):
    """A story as listeners hear it: audio (samples,) float32 at `rate`, and the TextGrid where there is one already."""

    story: str
    audio: np.ndarray
    rate: int
    words: list[Interval]
    phones: list[Interval]
    n_volumes: int
    textgrid: Path | None = None


def write_dataset(
    root: Path,
    participants: tuple[str, ...],
    stories: tuple[str, ...],
    repeated: tuple[str, ...],
    tr: float,
    settings: Simulation,
) -> None:
    """Write audio, word and phone times, responses and ground truth of simulated listeners, all of it or nothing.

    Stories in `repeated` are presented `settings.repeats` times, the others once. With `settings.textgrids` stories are
    those of a copy of ds003020: their TextGrids and numbers of volumes, spoken at the times of the words. Raises
    `InputError` for an unknown story, one too short for a TR (in seconds), or no room on the disk.
    """
    if settings.textgrids:
        real = revoicing.timed_stories(REPOSITORY / settings.textgrids, stories)
        told = _retold(real, tr)
        rows = {story: real[story].n_volumes for story in stories}
        vocabulary = tuple(sorted({word.label for found in real.values() for word in found.words}))
    else:
        texts = {story: story_text(story, settings.words) for story in stories}
        told, rows, vocabulary = _told(texts, tr, settings.seed), dict.fromkeys(stories, ROWS_A_STORY), ()
    n_rows = sum(rows[story] * (1 + settings.repeats * (story in repeated)) for story in stories)
    n_points = settings.points_per_hemisphere
    n_voxels = len(spread_vertices(n_points)) if n_points else int(fs_lr().cortex.sum())
    require_space(root, n_rows * len(participants) * n_voxels * 8)
    with atomic_path(root) as folder:
        raw, volumes = {}, {}
        for stimulus in told:
            raw[stimulus.story] = _write_stimulus(folder, stimulus, tr, settings.meaning_components, vocabulary)
            volumes[stimulus.story] = stimulus.n_volumes
        _write_json(folder / "derivative" / "respdict.json", volumes)
        together = {space: zscore(np.concatenate([features[space] for features in raw.values()])) for space in SPACES}
        ends = np.cumsum([len(features["meaning"]) for features in raw.values()])[:-1]
        parts = {space: dict(zip(raw, np.split(values, ends), strict=True)) for space, values in together.items()}
        features = {story: {space: parts[space][story] for space in SPACES} for story in raw}
        truth = {f"{story}/{space}": features[story][space] for story in raw for space in SPACES}
        _write_arrays(folder / "truth" / "features.h5", truth)
        for participant in participants:
            listener = listeners.make_listener(settings.seed, participant, together)
            if n_points:
                kept = np.searchsorted(np.flatnonzero(fs_lr().cortex), spread_vertices(n_points))
                listener = listeners.at_vertices(listener, kept)
            _write_participant(folder, participant, listener, features, repeated, settings)
        made_from = {"participants": participants, "stories": stories, "tr": tr, "settings": settings.model_dump()}
        (folder / "README").write_text(NOBODYS_DATA)
        _write_json(folder / "simulation.json", made_from)


def _told(texts: dict[str, str], tr: float, seed: int) -> Iterator[Stimulus]:
    """The project's own stories, each by the next voice."""
    for (story, text), voice in zip(texts.items(), cycle(VOICES.values()), strict=False):
        speech = speak(text, voice, seed=seed)
        n_volumes = round((len(speech.audio) / speech.rate + 2 * SOUND_START) / tr)
        if n_volumes <= 2 * UNSTORED_VOLUMES:
            raise InputError(f"story {story}: {n_volumes} volumes long, expected more than {2 * UNSTORED_VOLUMES}")
        yield Stimulus(story, speech.audio, speech.rate, speech.words, speech.phones, n_volumes)


def _retold(stories: dict[str, revoicing.TimedStory], tr: float) -> Iterator[Stimulus]:
    """Stories of ds003020 at the times of their words, the scanner running as long after them as before."""
    seconds = {
        story: max(found.n_volumes * tr - 2 * SOUND_START, found.words[-1].end + 0.5)
        for story, found in stories.items()
    }
    files = revoicing.revoiced(stories, seconds, dict(zip(stories, cycle(VOICES.values()), strict=False)))
    for story, found in stories.items():
        with h5py.File(files[story]) as file:
            sound, unspoken = file["audio"][:].astype(np.float32) / 32767, int(file.attrs["unspoken"])
        if unspoken:
            log.info(f"{story}: {unspoken} of {len(found.words)} words have no pronunciation and are left silent")
        yield Stimulus(story, sound, SAMPLE_RATE, found.words, found.phones, found.n_volumes, found.textgrid)


def _write_stimulus(
    folder: Path, stimulus: Stimulus, tr: float, meaning_components: int, vocabulary: tuple[str, ...]
) -> Features:
    """Haemodynamic responses of the feature spaces at each stored TR."""
    story, sound, rate, words, phones, n_volumes, textgrid = stimulus
    path = folder / "derivative" / "TextGrids" / f"{story}.TextGrid"
    if textgrid:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(textgrid, path)
    else:
        write_textgrid(path, {"phone": phones, "word": words}, len(sound) / rate)
    wav = sound if rate == SAMPLE_RATE else soxr.resample(sound, rate, WAV_RATE, "VHQ")
    audio.write_wav(folder / "stimuli" / f"{story}.wav", wav, rate if rate == SAMPLE_RATE else WAV_RATE)
    samples = sound if rate == SAMPLE_RATE else soxr.resample(sound, rate, SAMPLE_RATE, "VHQ")
    times = row_times(n_volumes - 2 * UNSTORED_VOLUMES, tr, UNSTORED_VOLUMES, SOUND_START)
    tracks = listeners.feature_spaces(samples, words, phones, meaning_components, vocabulary)
    return {space: listeners.haemodynamic(track, times) for space, track in tracks.items()}


def _write_participant(
    folder: Path,
    participant: str,
    listener: listeners.Listener,
    features: dict[str, Features],
    repeated: tuple[str, ...],
    settings: Simulation,
) -> None:
    for story, story_features in features.items():
        n_repeats = settings.repeats if story in repeated else 1
        rng = generator(settings.seed, participant, story, "noise")
        responses = listeners.responses(listeners.signal(listener, story_features), listener, n_repeats, rng)
        arrays = {"data": zscore(responses.mean(axis=0, dtype=np.float64))}
        if story in repeated:
            arrays["individual_repeats"] = responses.astype(np.float64)
        _write_arrays(folder / "derivative" / "preprocessed_data" / participant / f"{story}.hf5", arrays)
    space = {"space": "fs_LR_32k"}
    if settings.points_per_hemisphere:
        space["points_per_hemisphere"] = settings.points_per_hemisphere
    _write_json(folder / "derivative" / "pycortex-db" / participant / "space.json", space)
    truth = {"labels": listener.labels.astype("S"), "shares": listener.shares, "signal_share": listener.signal_share}
    truth |= {f"weights/{space}": weights for space, weights in listener.weights.items()}
    _write_arrays(folder / "truth" / f"{participant}.h5", truth, spaces=SPACES, of="simulated listener")


def _write_arrays(path: Path, arrays: dict[str, np.ndarray], **attributes: str | tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
        file.attrs.update(attributes)


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))
