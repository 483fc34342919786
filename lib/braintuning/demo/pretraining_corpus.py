"""What the small models are pretrained on: stories told in many voices, and real speech where it is at hand."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
import soxr
import yaml

from braintuning.datasets.audio import read_audio
from braintuning.demo.voices import RATE, VOICES, Voice, speak
from braintuning.errors import InputError
from braintuning.results import CACHE, REPOSITORY, atomic_path, generator
from braintuning.timing import SAMPLE_RATE

STORIES = REPOSITORY / "data" / "stories"
HELD_OUT_VOICE = "judith"
PRETRAINING_VOICES = (
    *(voice for name, voice in VOICES.items() if name != HELD_OUT_VOICE),
    Voice("agnes", speed=1.10, pitch=1.05, warp=1.03),
    Voice("boris", speed=0.88, pitch=0.62, warp=0.88),
    Voice("celia", speed=1.00, pitch=1.32, warp=1.12),
    Voice("dennis", speed=1.12, pitch=0.77, warp=0.94),
    Voice("elsie", speed=0.96, pitch=0.92, warp=1.05),
)


def spoken_stories(
    stories: Mapping[str, str], voices: tuple[Voice, ...], cache: Path | None = None
) -> dict[str, np.ndarray]:
    """Tell every story in every voice, or read what was told before.

    Parameters
    ----------
    stories : mapping of name to text
    voices : tuple of Voice
    cache : Path, optional
        By default `pretraining` in the project's cache; one HDF5 file a voice.

    Returns
    -------
    sounds : dict of (samples,) int16
        16 kHz, by voice/story.
    """
    sounds = {}
    for voice in voices:
        digest = hashlib.sha256(json.dumps([asdict(voice), *sorted(stories.items())]).encode()).hexdigest()[:10]
        path = (cache or CACHE / "pretraining") / f"{voice.name}-{digest}.h5"
        if not path.is_file():
            with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
                for number, (name, text) in enumerate(sorted(stories.items())):
                    spoken = soxr.resample(speak(text, voice, seed=number).audio, RATE, SAMPLE_RATE)
                    file[name] = np.round(spoken.clip(-1, 1) * 32767).astype(np.int16)
        with h5py.File(path) as file:
            sounds |= {f"{voice.name}/{name}": sound[:] for name, sound in file.items()}
    return sounds


def pretraining_stories(studies: Path = REPOSITORY / "data" / "studies") -> dict[str, str]:
    """Texts of the stories that no study tests or validates on."""
    sections = [
        yaml.safe_load(path.read_text(encoding="utf-8")).get("stories", {}) for path in sorted(studies.glob("*.yaml"))
    ]
    held_out = {story for section in sections for use in ("test", "validation") for story in section.get(use, ())}
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(STORIES.glob("*.txt"))}
    return {name: text for name, text in texts.items() if name not in held_out}


def real_speakers(folder: Path) -> dict[str, Path]:
    """One recording of each speaker of LibriSpeech's train-clean-100 in `folder`; empty where there is none."""
    return {path.name.split("-")[0]: path for path in sorted(Path(folder).glob("train-clean-100/*.ogg"))}


def held_out_speakers(speakers: Mapping[str, Path], seed: int = 0, share: float = 0.2) -> set[str]:
    """Speakers that are never trained on."""
    names = sorted(speakers)
    return set(generator(seed, "held-out speakers").permutation(names)[: round(share * len(names))].tolist())


def real_speech(folder: Path) -> dict[str, np.ndarray]:
    """Recordings of the speakers to train on: (samples,) int16 at 16 kHz, by real/speaker."""
    speakers = real_speakers(folder)
    held_out = held_out_speakers(speakers)
    kept = {name: path for name, path in speakers.items() if name not in held_out}
    return {f"real/{name}": np.round(read_audio(p).clip(-1, 1) * 32767).astype(np.int16) for name, p in kept.items()}


def draw_clips(
    sounds: Mapping[str, np.ndarray], count: int, seconds: float, real_share: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw clips, each second of sound as likely as another within real and within spoken speech.

    Parameters
    ----------
    sounds : mapping of name to (samples,) int16
        Real speech is named `real/...`.
    count : int
    seconds : float
    real_share : float
        Probability that a clip is of real speech, where both kinds are there.
    rng : numpy.random.Generator

    Returns
    -------
    clips : (count, samples) float32
    """
    length = round(seconds * SAMPLE_RATE)
    long = {name: sound for name, sound in sounds.items() if len(sound) >= length}
    real, spoken = ([name for name in long if name.startswith("real/") == kind] for kind in (True, False))
    if not long:
        raise InputError(f"sounds: none of {seconds} s or more, expected at least one")
    clips = []
    for _ in range(count):
        names = (real if rng.random() < real_share else spoken) or real or spoken
        weights = np.array([len(long[name]) for name in names], float)
        sound = long[names[rng.choice(len(names), p=weights / weights.sum())]]
        start = rng.integers(len(sound) - length + 1)
        clips.append(sound[start : start + length].astype(np.float32) / 32767)
    return np.stack(clips)
