"""Writes simulated listeners to disk in the folders and formats of ds003020."""

import json
from pathlib import Path

import h5py
import numpy as np
import soxr

from braintuning.alignment.encoding import zscore
from braintuning.cortex.surface import fs_lr
from braintuning.datasets import audio
from braintuning.datasets.lebel import SOUND_START, UNSTORED_VOLUMES
from braintuning.demo import listeners as simulate
from braintuning.demo.listeners import SPACES
from braintuning.demo.stories import story_text
from braintuning.demo.textgrid_writer import write_textgrid
from braintuning.demo.voices import VOICES, speak
from braintuning.errors import InputError
from braintuning.results import atomic_path, generator, require_space
from braintuning.study.settings import Simulation
from braintuning.timing import SAMPLE_RATE, row_times

WAV_RATE = 44_100
Features = dict[str, np.ndarray]


def write_dataset(
    root: Path,
    participants: tuple[str, ...],
    stories: tuple[str, ...],
    repeated: tuple[str, ...],
    tr: float,
    settings: Simulation,
) -> None:
    """Write sounds, word and phone times, responses and truth of simulated listeners, all of it or nothing.

    Parameters
    ----------
    root : Path
        Folder to make.
    participants, stories : tuple of str
    repeated : tuple of str
        Stories that are heard `settings.repeats` times.
    tr : float
        Seconds.
    settings : Simulation

    Raises
    ------
    InputError
        An unknown story, or no room on the disk.
    """
    texts = {story: story_text(story, settings.words) for story in stories}
    presentations = len(stories) + len(repeated) * settings.repeats
    require_space(root, presentations * len(participants) * 180 * int(fs_lr().cortex.sum()) * 8)
    with atomic_path(root) as folder:
        raw, volumes = {}, {}
        for number, (story, text) in enumerate(texts.items()):
            voice = list(VOICES)[number % len(VOICES)]
            raw[story], volumes[story] = _write_stimulus(folder, story, text, voice, tr, settings)
        features = _standardise(raw)
        _write_json(folder / "derivative" / "respdict.json", volumes)
        _write_features(folder / "truth" / "features.h5", features)
        for participant in participants:
            _write_participant(folder, participant, features, repeated, settings)
        made_from = {"participants": participants, "stories": stories, "tr": tr, "settings": settings.model_dump()}
        _write_json(folder / "simulation.json", made_from)


def _write_stimulus(
    folder: Path, story: str, text: str, voice: str, tr: float, settings: Simulation
) -> tuple[Features, int]:
    speech = speak(text, VOICES[voice], seed=settings.seed)
    tiers = {"phone": speech.phones, "word": speech.words}
    write_textgrid(folder / "derivative" / "TextGrids" / f"{story}.TextGrid", tiers, len(speech.audio) / speech.rate)
    audio.write_wav(
        folder / "stimuli" / f"{story}.wav", soxr.resample(speech.audio, speech.rate, WAV_RATE, "VHQ"), WAV_RATE
    )
    heard = soxr.resample(speech.audio, speech.rate, SAMPLE_RATE, "VHQ")
    n_volumes = round((len(heard) / SAMPLE_RATE + 2 * SOUND_START) / tr)
    if n_volumes <= 2 * UNSTORED_VOLUMES:
        raise InputError(f"story {story}: {n_volumes} volumes long, expected more than {2 * UNSTORED_VOLUMES}")
    times = row_times(n_volumes - 2 * UNSTORED_VOLUMES, tr, UNSTORED_VOLUMES, SOUND_START)
    tracks = simulate.feature_spaces(heard, speech.words, speech.phones, settings.meaning_components)
    return {space: simulate.haemodynamic(track, times) for space, track in tracks.items()}, n_volumes


def _standardise(raw: dict[str, Features]) -> dict[str, Features]:
    standardised: dict[str, Features] = {story: {} for story in raw}
    ends = np.cumsum([len(features["meaning"]) for features in raw.values()])[:-1]
    for space in SPACES:
        together = zscore(np.concatenate([features[space] for features in raw.values()]))
        for story, part in zip(raw, np.split(together, ends), strict=True):
            standardised[story][space] = part
    return standardised


def _write_participant(
    folder: Path, participant: str, features: dict[str, Features], repeated: tuple[str, ...], settings: Simulation
) -> None:
    together = {space: np.concatenate([f[space] for f in features.values()]) for space in SPACES}
    listener = simulate.make_listener(settings.seed, participant, together)
    responses = folder / "derivative" / "preprocessed_data" / participant
    responses.mkdir(parents=True)
    for story, story_features in features.items():
        n_repeats = settings.repeats if story in repeated else 1
        rng = generator(settings.seed, participant, story, "noise")
        measured = simulate.measure(simulate.signal(listener, story_features), listener, n_repeats, rng)
        with h5py.File(responses / f"{story}.hf5", "w") as file:
            file["data"] = zscore(measured.mean(axis=0, dtype=np.float64))
            if story in repeated:
                file["individual_repeats"] = measured.astype(np.float64)
    _write_json(folder / "derivative" / "pycortex-db" / participant / "space.json", {"space": "fs_LR_32k"})
    _write_truth(folder / "truth" / f"{participant}.h5", listener)


def _write_truth(path: Path, listener: simulate.Listener) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["labels"] = listener.labels.astype("S")
        file["shares"], file["signal_share"] = listener.shares, listener.signal_share
        for space, weights in listener.weights.items():
            file[f"weights/{space}"] = weights
        file.attrs["spaces"] = SPACES


def _write_features(path: Path, features: dict[str, Features]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for story, spaces in features.items():
            for space, values in spaces.items():
                file[f"{story}/{space}"] = values


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))
