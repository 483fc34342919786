"""Writer of simulated listeners in the folder layout and file formats of ds003020."""

import json
from pathlib import Path

import h5py
import numpy as np
import soxr

from braintuning.alignment.encoding import zscore
from braintuning.cortex.surface import fs_lr
from braintuning.datasets import LebelDataset, audio, open_lebel
from braintuning.demo import listeners
from braintuning.demo.listeners import SPACES
from braintuning.demo.stories import story_text
from braintuning.demo.textgrid_writer import write_textgrid
from braintuning.demo.voices import VOICES, speak
from braintuning.errors import InputError
from braintuning.results import atomic_path, generator, require_space
from braintuning.study.settings import DatasetSettings, Simulation, own
from braintuning.timing import SAMPLE_RATE

WAV_RATE = 44_100
DECIDING = {"tr", "row_offset", "unstored_volumes", "sound_starts", "simulation"}
"""Settings of the dataset that decide the files."""
Features = dict[str, np.ndarray]


def write_dataset(
    root: Path,
    participants: tuple[str, ...],
    stories: tuple[str, ...],
    repeated: tuple[str, ...],
    settings: DatasetSettings,
) -> None:
    """Write audio, word and phone times, responses and ground truth of simulated listeners, all of it or nothing.

    Stories in `repeated` are presented `settings.simulation.repeats` times, the others once. Listeners respond at the
    times at which the reader of this layout reads them with the same settings. Raises `InputError` for an unknown
    story, one too short for a TR, or no room on the disk.
    """
    simulation = settings.simulation
    texts = {story: story_text(story, simulation.words) for story in stories}
    presentations = len(stories) + len(repeated) * simulation.repeats
    require_space(root, presentations * len(participants) * 180 * int(fs_lr().cortex.sum()) * 8)
    with atomic_path(root) as folder:
        tracks = {}
        for number, (story, text) in enumerate(texts.items()):
            tracks[story] = _write_stimulus(folder, story, text, list(VOICES)[number % len(VOICES)], simulation)
        dataset = _with_volumes(folder, participants, tracks, settings)
        for participant in participants:
            raw = {s: _responses_to(of_story, dataset.tr_times(participant, s)) for s, of_story in tracks.items()}
            together = {space: zscore(np.concatenate([found[space] for found in raw.values()])) for space in SPACES}
            ends = np.cumsum([len(found["meaning"]) for found in raw.values()])[:-1]
            parts = {space: dict(zip(raw, np.split(values, ends), strict=True)) for space, values in together.items()}
            features = {story: {space: parts[space][story] for space in SPACES} for story in raw}
            listener = listeners.make_listener(simulation.seed, participant, together)
            _write_participant(folder, participant, listener, features, repeated, simulation)
        made_from = {"participants": participants, "stories": stories, "dataset": settings.model_dump(include=DECIDING)}
        _write_json(folder / "simulation.json", made_from)


def _write_stimulus(folder: Path, story: str, text: str, voice: str, settings: Simulation) -> Features:
    """Feature spaces of a story, every `listeners.STEP` seconds."""
    speech = speak(text, VOICES[voice], seed=settings.seed)
    tiers = {"phone": speech.phones, "word": speech.words}
    write_textgrid(folder / "derivative" / "TextGrids" / f"{story}.TextGrid", tiers, len(speech.audio) / speech.rate)
    wav = soxr.resample(speech.audio, speech.rate, WAV_RATE, "VHQ")
    audio.write_wav(folder / "stimuli" / f"{story}.wav", wav, WAV_RATE)
    samples = soxr.resample(speech.audio, speech.rate, SAMPLE_RATE, "VHQ")
    return listeners.feature_spaces(samples, speech.words, speech.phones, settings.meaning_components)


def _with_volumes(
    folder: Path, participants: tuple[str, ...], tracks: dict[str, Features], settings: DatasetSettings
) -> LebelDataset:
    """The dataset with its table of volumes: scanning lasts as long after the sound as before it."""
    file, table = folder / "derivative" / "respdict.json", {}
    _write_json(file, table)
    dataset = open_lebel(folder, settings)
    for participant in participants:
        tr = own(settings.tr, "tr", participant)
        for story, spaces in tracks.items():
            seconds = len(spaces["meaning"]) * listeners.STEP + 2 * dataset.sound_start(participant, story)
            n_volumes, fewest = round(seconds / tr), 2 * settings.unstored_volumes
            if n_volumes <= fewest:
                raise InputError(f"story {story}: {n_volumes} volumes long, expected more than {fewest}")
            table.setdefault(participant, {})[story] = n_volumes
    first, *others = table.values()
    _write_json(file, table if any(other != first for other in others) else first)
    return open_lebel(folder, settings)


def _responses_to(spaces: Features, times: np.ndarray) -> Features:
    """Haemodynamic responses of the feature spaces of a story at each stored TR."""
    return {space: listeners.haemodynamic(track, times) for space, track in spaces.items()}


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
    truth |= {f"features/{s}/{space}": values for s, of_story in features.items() for space, values in of_story.items()}
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
