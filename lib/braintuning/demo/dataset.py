"""Writer of simulated listeners in the folder layout and file formats of ds003020."""

import json
import logging
import shutil
from collections.abc import Collection, Iterator, Mapping
from itertools import cycle
from pathlib import Path

import h5py
import numpy as np
import soxr

from braintuning.alignment.correlation import zscore
from braintuning.cortex.subject import spread_vertices
from braintuning.cortex.surface import fs_lr
from braintuning.datasets import LebelDataset, audio, open_lebel
from braintuning.demo import listeners, noise, revoicing
from braintuning.demo.listeners import AREAS, SPACES
from braintuning.demo.stories import story_text
from braintuning.demo.textgrid_writer import write_textgrid
from braintuning.demo.voices import VOICES, Speech, speak
from braintuning.errors import InputError
from braintuning.results import REPOSITORY, atomic_path, generator, require_space
from braintuning.study.by_name import own
from braintuning.study.settings import DatasetSettings, Simulation
from braintuning.timing import SAMPLE_RATE, SOUND_START

log = logging.getLogger(__name__)

WAV_RATE = 44_100
ROWS_A_STORY = 180
NOBODYS_DATA = "Simulated listeners in the layout of ds003020, whatever their names; truth/ has what drives them.\n"
DECIDING = {"tr", "row_offset", "unstored_volumes", "sound_starts", "simulation"}
"""Settings of the dataset that decide the files."""
Features = dict[str, np.ndarray]
Told = tuple[str, Speech, Path | None]
"""A story's name, what listeners hear of it, and its TextGrid where there is one already."""


def write_dataset(
    root: Path,
    participants: tuple[str, ...],
    stories: tuple[str, ...],
    repeated: tuple[str, ...],
    settings: DatasetSettings,
) -> None:
    """Write audio, word and phone times, responses and ground truth of simulated listeners, all of it or nothing.

    Stories in `repeated` are presented `settings.simulation.repeats` times, the others once. Listeners respond at the
    times at which the reader of this layout reads them with the same settings. With `textgrids` stories are those of a
    copy of ds003020: their TextGrids and numbers of volumes, spoken at the times of the words. Raises `InputError` for
    an unknown story, one too short for a TR, or no room on the disk.
    """
    simulation = settings.simulation
    if simulation.textgrids:
        real = revoicing.timed_stories(REPOSITORY / simulation.textgrids, stories)
        told, volumes = _retold(real, own(settings.tr, "tr", participants[0])), {s: real[s].n_volumes for s in stories}
        vocabulary = tuple(sorted({word.label for found in real.values() for word in found.words}))
    else:
        told, volumes, vocabulary = _told({s: story_text(s, simulation.words) for s in stories}, simulation), {}, ()
    n_rows = sum(volumes.get(s, ROWS_A_STORY) * (1 + simulation.repeats * (s in repeated)) for s in stories)
    n_voxels = len(_vertices(simulation))
    require_space(root, n_rows * len(participants) * n_voxels * 8)
    with atomic_path(root) as folder:
        tracks = {story: _write_stimulus(folder, story, *heard, simulation, vocabulary) for story, *heard in told}
        dataset = _with_volumes(folder, participants, tracks, settings, volumes)
        for participant in participants:
            curves = listeners.draw_responses(simulation, participant)
            raw = {s: _responses_to(v, dataset.tr_times(participant, s), curves.values()) for s, v in tracks.items()}
            together = {space: zscore(np.concatenate([found[space] for found in raw.values()])) for space in SPACES}
            ends = np.cumsum([len(found["meaning"]) for found in raw.values()])[:-1]
            parts = {space: dict(zip(raw, np.split(values, ends), strict=True)) for space, values in together.items()}
            features = {story: {space: parts[space][story] for space in SPACES} for story in raw}
            listener = listeners.make_listener(simulation, participant, together)
            listener = listeners.noisier(listener, simulation.noise.get(participant, 1.0))
            listener = listeners.at_vertices(listener, _vertices(simulation))
            tr = own(settings.tr, "tr", participant)
            heard = _write_responses(folder, participant, tr, listener, features, repeated, simulation)
            _write_truth(folder, participant, listener, curves, features, heard, simulation)
        made_from = {"participants": participants, "stories": stories, "repeated": repeated}
        made_from["dataset"] = settings.model_dump(include=DECIDING)
        (folder / "README").write_text(NOBODYS_DATA)
        _write_json(folder / "simulation.json", made_from)


def _vertices(simulation: Simulation) -> np.ndarray:
    """Which of the vertices off the medial wall listeners respond at; (vertices,) int64."""
    off_the_wall, n_points = np.flatnonzero(fs_lr().cortex), simulation.points_per_hemisphere
    return np.searchsorted(off_the_wall, spread_vertices(n_points)) if n_points else np.arange(len(off_the_wall))


def _told(texts: Mapping[str, str], simulation: Simulation) -> Iterator[Told]:
    """The project's own stories, each by the next voice."""
    for (story, text), voice in zip(texts.items(), cycle(VOICES.values()), strict=False):
        yield story, speak(text, voice, seed=simulation.seed), None


def _retold(stories: Mapping[str, revoicing.TimedStory], tr: float) -> Iterator[Told]:
    """Stories of ds003020 at the times of their words, the scanner running as long after them as before."""
    seconds = {
        story: max(timed.n_volumes * tr - 2 * SOUND_START, timed.words[-1].end + 0.5)
        for story, timed in stories.items()
    }
    files = revoicing.revoiced(stories, seconds, dict(zip(stories, cycle(VOICES.values()), strict=False)))
    for story, timed in stories.items():
        with h5py.File(files[story]) as file:
            sound, unspoken = file["audio"][:].astype(np.float32) / 32767, int(file.attrs["unspoken"])
        if unspoken:
            log.info(f"{story}: {unspoken} of {len(timed.words)} words have no pronunciation and are left silent")
        yield story, Speech(sound, SAMPLE_RATE, timed.words, timed.phones), timed.textgrid


def _write_stimulus(
    folder: Path, story: str, heard: Speech, textgrid: Path | None, simulation: Simulation, vocabulary: tuple[str, ...]
) -> Features:
    """Write audio and TextGrid of a story, and give its feature spaces, every `listeners.STEP` seconds."""
    sound, rate = heard.audio, heard.rate
    path = folder / "derivative" / "TextGrids" / f"{story}.TextGrid"
    if textgrid:
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(textgrid, path)
    else:
        write_textgrid(path, {"phone": heard.phones, "word": heard.words}, len(sound) / rate)
    wav = sound if rate == SAMPLE_RATE else soxr.resample(sound, rate, WAV_RATE, "VHQ")
    audio.write_wav(folder / "stimuli" / f"{story}.wav", wav, rate if rate == SAMPLE_RATE else WAV_RATE)
    samples = sound if rate == SAMPLE_RATE else soxr.resample(sound, rate, SAMPLE_RATE, "VHQ")
    meaningless = None if simulation.meaning else generator(simulation.seed, story, "no meaning")
    said = samples, heard.words, heard.phones
    return listeners.feature_spaces(*said, simulation.meaning_components, vocabulary, meaningless)


def _with_volumes(
    folder: Path,
    participants: tuple[str, ...],
    tracks: dict[str, Features],
    settings: DatasetSettings,
    volumes: Mapping[str, int],
) -> LebelDataset:
    """The dataset with its table of volumes: those given, or else scanning lasts as long after the sound as before."""
    file, table = folder / "derivative" / "respdict.json", {}
    _write_json(file, table)
    dataset = open_lebel(folder, settings)
    for participant in participants:
        tr = own(settings.tr, "tr", participant)
        for story, spaces in tracks.items():
            seconds = len(spaces["meaning"]) * listeners.STEP + 2 * dataset.sound_start(participant, story)
            n_volumes, fewest = volumes.get(story, round(seconds / tr)), 2 * settings.unstored_volumes
            if n_volumes <= fewest:
                raise InputError(f"story {story}: {n_volumes} volumes long, expected more than {fewest}")
            table.setdefault(participant, {})[story] = n_volumes
    first, *others = table.values()
    _write_json(file, table if any(other != first for other in others) else first)
    return dataset


def _responses_to(spaces: Features, times: np.ndarray, curves: Collection[listeners.Response]) -> Features:
    """Responses to the feature spaces of a story at each stored TR, in each area: (TRs, areas, features)."""
    return {
        space: np.stack([listeners.haemodynamic(track, times, curve) for curve in curves], axis=1)
        for space, track in spaces.items()
    }


def _write_responses(
    folder: Path,
    participant: str,
    tr: float,
    listener: listeners.Listener,
    features: dict[str, Features],
    repeated: tuple[str, ...],
    settings: Simulation,
) -> Features:
    """Attention to each presentation of each story, (repeats, TRs)."""
    followed, kernel = {}, noise.smoothing(settings.noise_fwhm)[_vertices(settings)]
    for story, story_features in features.items():
        n_repeats, n_rows = settings.repeats if story in repeated else 1, len(story_features["meaning"])
        rng = generator(settings.seed, participant, story, "noise")
        wandering = generator(settings.seed, participant, story, "attention")
        followed[story] = np.stack(
            [noise.attention(n_rows, tr, settings.attention, wandering) for _ in range(n_repeats)]
        )
        noises = (noise.cortical_noise(n_rows, tr, settings.drift_share, kernel, rng) for _ in range(n_repeats))
        gain = followed[story] / ((1 + settings.attention) / 2)
        heard = listeners.signal(listener, story_features)
        responses = listeners.responses(heard, listener.signal_share, gain, noises)
        arrays = {"data": zscore(responses.mean(axis=0, dtype=np.float64))}
        if story in repeated:
            arrays["individual_repeats"] = responses.astype(np.float64)
        _write_arrays(folder / "derivative" / "preprocessed_data" / participant / f"{story}.hf5", arrays)
    space = {"space": "fs_LR_32k"}
    if settings.points_per_hemisphere:
        space["points_per_hemisphere"] = settings.points_per_hemisphere
    _write_json(folder / "derivative" / "pycortex-db" / participant / "space.json", space)
    return followed


def _write_truth(
    folder: Path,
    participant: str,
    listener: listeners.Listener,
    curves: Mapping[str, listeners.Response],
    features: dict[str, Features],
    followed: Features,
    settings: Simulation,
) -> None:
    truth = {"labels": listener.labels.astype("S"), "shares": listener.shares, "signal_share": listener.signal_share}
    truth |= {"area": listener.area, "areas": np.array(AREAS, "S")}
    truth["peaks"], truth["widths"] = np.transpose([curves[area] for area in AREAS])
    truth |= {f"weights/{space}": weights for space, weights in listener.weights.items()}
    truth |= {f"features/{s}/{space}": values for s, of_story in features.items() for space, values in of_story.items()}
    truth |= {f"attention/{story}": shares for story, shares in followed.items()}
    planted = settings.model_dump(include={"meaning", "noise_fwhm", "drift_share", "attention"})
    planted |= {"noise_autocorrelation": noise.AUTOCORRELATION, "spaces": SPACES, "of": "simulated listener"}
    _write_arrays(folder / "truth" / f"{participant}.h5", truth, **planted)


def _write_arrays(path: Path, arrays: dict[str, np.ndarray], **attributes: str | float | tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values
        file.attrs.update(attributes)


def _write_json(path: Path, content: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))
