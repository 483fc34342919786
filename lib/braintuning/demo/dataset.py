"""Writer of simulated listeners in the folder layout and file formats of ds003020."""

import json
from pathlib import Path

import h5py
import numpy as np
import soxr

from braintuning.alignment.encoding import zscore
from braintuning.cortex.surface import fs_lr
from braintuning.datasets import audio
from braintuning.datasets.lebel import SOUND_START, UNSTORED_VOLUMES
from braintuning.demo import listeners
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
    """Write audio, word and phone times, responses and ground truth of simulated listeners, all of it or nothing.

    Stories in `repeated` are presented `settings.repeats` times, the others once. Raises `InputError` for an unknown
    story, one too short for a TR (in seconds), or no room on the disk.
    """
    texts = {story: story_text(story, settings.words) for story in stories}
    presentations = len(stories) + len(repeated) * settings.repeats
    require_space(root, presentations * len(participants) * 180 * int(fs_lr().cortex.sum()) * 8)
    with atomic_path(root) as folder:
        raw, volumes = {}, {}
        for number, (story, text) in enumerate(texts.items()):
            voice = list(VOICES)[number % len(VOICES)]
            raw[story], volumes[story] = _write_stimulus(folder, story, text, voice, tr, settings)
        _write_json(folder / "derivative" / "respdict.json", volumes)
        together = {space: zscore(np.concatenate([features[space] for features in raw.values()])) for space in SPACES}
        ends = np.cumsum([len(features["meaning"]) for features in raw.values()])[:-1]
        parts = {space: dict(zip(raw, np.split(values, ends), strict=True)) for space, values in together.items()}
        features = {story: {space: parts[space][story] for space in SPACES} for story in raw}
        truth = {f"{story}/{space}": features[story][space] for story in raw for space in SPACES}
        _write_arrays(folder / "truth" / "features.h5", truth)
        for participant in participants:
            listener = listeners.make_listener(settings.seed, participant, together)
            _write_participant(folder, participant, listener, features, repeated, settings)
        made_from = {"participants": participants, "stories": stories, "tr": tr, "settings": settings.model_dump()}
        _write_json(folder / "simulation.json", made_from)


def _write_stimulus(
    folder: Path, story: str, text: str, voice: str, tr: float, settings: Simulation
) -> tuple[Features, int]:
    """Haemodynamic responses of the feature spaces at each stored TR, and the number of volumes."""
    speech = speak(text, VOICES[voice], seed=settings.seed)
    tiers = {"phone": speech.phones, "word": speech.words}
    write_textgrid(folder / "derivative" / "TextGrids" / f"{story}.TextGrid", tiers, len(speech.audio) / speech.rate)
    wav = soxr.resample(speech.audio, speech.rate, WAV_RATE, "VHQ")
    audio.write_wav(folder / "stimuli" / f"{story}.wav", wav, WAV_RATE)
    samples = soxr.resample(speech.audio, speech.rate, SAMPLE_RATE, "VHQ")
    n_volumes = round((len(samples) / SAMPLE_RATE + 2 * SOUND_START) / tr)
    if n_volumes <= 2 * UNSTORED_VOLUMES:
        raise InputError(f"story {story}: {n_volumes} volumes long, expected more than {2 * UNSTORED_VOLUMES}")
    times = row_times(n_volumes - 2 * UNSTORED_VOLUMES, tr, UNSTORED_VOLUMES, SOUND_START)
    tracks = listeners.feature_spaces(samples, speech.words, speech.phones, settings.meaning_components)
    return {space: listeners.haemodynamic(track, times) for space, track in tracks.items()}, n_volumes


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
    _write_json(folder / "derivative" / "pycortex-db" / participant / "space.json", {"space": "fs_LR_32k"})
    truth = {"labels": listener.labels.astype("S"), "shares": listener.shares, "signal_share": listener.signal_share}
    truth |= {f"weights/{space}": weights for space, weights in listener.weights.items()}
    _write_arrays(folder / "truth" / f"{participant}.h5", truth, spaces=SPACES)


def _write_arrays(path: Path, arrays: dict[str, np.ndarray], **attributes: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
        file.attrs.update(attributes)


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))
