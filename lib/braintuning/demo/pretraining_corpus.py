"""What small models are pretrained on: synthesised stories, real speech where it is available, units of its MFCCs."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import h5py
import numpy as np
import soxr
import torch
import yaml

from braintuning.datasets.audio import read_audio
from braintuning.demo.stories import STORY_TEXTS
from braintuning.demo.voices import RATE, VOICES, Voice, speak
from braintuning.errors import InputError
from braintuning.probes.mfcc import mfcc
from braintuning.results import CACHE, REPOSITORY, atomic_path, fingerprint, generator, listed
from braintuning.timing import SAMPLE_RATE
from braintuning.tuning.units import fit_centres, nearest_centre

HELD_OUT_VOICE = "judith"
PRETRAINING_VOICES = (
    *(voice for name, voice in VOICES.items() if name != HELD_OUT_VOICE),
    Voice("agnes", speed=1.10, pitch=1.05, warp=1.03),
    Voice("boris", speed=0.88, pitch=0.62, warp=0.88),
    Voice("celia", speed=1.00, pitch=1.32, warp=1.12),
    Voice("dennis", speed=1.12, pitch=0.77, warp=0.94),
    Voice("elsie", speed=0.96, pitch=0.92, warp=1.05),
)


def synthesised_stories(stories: Mapping[str, str], voices: tuple[Voice, ...]) -> dict[str, np.ndarray]:
    """Every story (text by name) in every voice, kept on disk; (samples,) int16 at 16 kHz, by voice/story."""
    audio = {}
    for voice in voices:
        path = CACHE / "pretraining" / f"{voice.name}-{fingerprint([asdict(voice), stories])}.h5"
        if not path.is_file():
            with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
                for number, (name, text) in enumerate(sorted(stories.items())):
                    file[name] = _int16(soxr.resample(speak(text, voice, seed=number).audio, RATE, SAMPLE_RATE))
        with h5py.File(path) as file:
            audio |= {f"{voice.name}/{name}": samples[:] for name, samples in file.items()}
    return audio


def _int16(audio: np.ndarray) -> np.ndarray:
    return np.round(audio.clip(-1, 1) * 32767).astype(np.int16)


def pretraining_stories() -> dict[str, str]:
    """Texts of the stories that are a validation or test story of no study."""
    studies = (REPOSITORY / "data" / "studies").glob("*.yaml")
    sections = [yaml.safe_load(path.read_text(encoding="utf-8")).get("stories", {}) for path in studies]
    held_out = {story for section in sections for use in ("test", "validation") for story in section.get(use, ())}
    texts = {path.stem: path.read_text(encoding="utf-8") for path in sorted(STORY_TEXTS.glob("*.txt"))}
    return {name: text for name, text in texts.items() if name not in held_out}


def real_speakers(folder: Path) -> dict[str, Path]:
    """One recording of each speaker of LibriSpeech's train-clean-100 in `folder`; empty where there is none."""
    return {path.name.split("-")[0]: path for path in listed(folder, "train-clean-100/*.ogg")}


def held_out_speakers(speakers: Mapping[str, Path]) -> set[str]:
    """A fifth of the speakers, that no model is trained on."""
    return set(generator(0, "held-out speakers").permutation(sorted(speakers))[: round(len(speakers) / 5)].tolist())


def real_speech(folder: Path) -> dict[str, np.ndarray]:
    """Recordings of the training speakers: (samples,) int16 at 16 kHz, by real/speaker."""
    speakers = real_speakers(folder)
    held_out = held_out_speakers(speakers)
    return {f"real/{name}": _int16(read_audio(path)) for name, path in speakers.items() if name not in held_out}


def draw_clips(
    audio: Mapping[str, np.ndarray], count: int, seconds: float, real_share: float, rng: np.random.Generator
) -> np.ndarray:
    """Random clips, (count, samples) float32: real speech with probability `real_share`, where there are both kinds.

    `audio` is (samples,) int16 at 16 kHz by name, names of real speech beginning with `real/`.
    """
    length = round(seconds * SAMPLE_RATE)
    long = {name: samples for name, samples in audio.items() if len(samples) >= length}
    if not long:
        raise InputError(f"audio: none of {seconds} s or more, expected at least one")
    real, synthesised = ([name for name in long if name.startswith("real/") == kind] for kind in (True, False))
    clips = []
    for _ in range(count):
        names = (real if rng.random() < real_share else synthesised) or real or synthesised
        weights = np.array([len(long[name]) for name in names], float)
        samples = long[names[rng.choice(len(names), p=weights / weights.sum())]]
        start = rng.integers(len(samples) - length + 1)
        clips.append(samples[start : start + length].astype(np.float32) / 32767)
    return np.stack(clips)


class MfccUnits(torch.nn.Module):
    """HuBERT's first units: k-means of MFCCs standardised by `mean` and `scale`, (39,); `centres` are (units, 39)."""

    def __init__(self, mean: torch.Tensor, scale: torch.Tensor, centres: torch.Tensor) -> None:
        super().__init__()
        for name, value in (("mean", mean), ("scale", scale), ("centres", centres)):
            self.register_buffer(name, value)

    @classmethod
    def fit(cls, clips: torch.Tensor, n_units: int, seed: int) -> "MfccUnits":
        """Cluster the frames of (batch, samples) clips."""
        frames = mfcc(clips).flatten(0, 1)
        mean, scale = frames.mean(dim=0), frames.std(dim=0)
        return cls(mean, scale, fit_centres(((frames - mean) / scale).numpy(), n_units, seed))

    @torch.no_grad()
    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        """Units, (batch, frames) int64, of (batch, samples) audio."""
        return nearest_centre((mfcc(audio) - self.mean) / self.scale, self.centres)
