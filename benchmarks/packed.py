"""A study's numbers in one file, small enough to be carried to a machine without its dataset.

Sound has 12 bits, as differences of samples; responses are rounded to a fifth of their standard deviation, which adds
a third of a per cent to their variance. Each array is there once, whoever reads it. What a model learns from and is
aligned with stands beside them as JSON.
"""

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import h5py
import numpy as np
from braintuning.study.settings import Encoding, Features, Tuning
from braintuning.tuning.model import StoryTargets
from in_memory import Job, Listener

LEVELS, QUANTUM, FILE, MODELS = 2048, 0.2, "study.h5", "models"
"""Levels of sound on either side of 0, step of responses in standard deviations; names in the carried folder."""


class Packer:
    """Puts arrays into a file, those of `offer` only once they are `kept`."""

    def __init__(self, file: h5py.File) -> None:
        self.file, self._offered = file, {}

    def sound(self, audio: np.ndarray) -> str:
        """Offer (samples,) float32 audio of full scale ±1; its key."""
        samples = np.rint(audio.clip(-1, 1) * LEVELS).astype(np.int16)
        return self._offer(np.diff(samples, prepend=np.int16(0)))

    def responses(self, values: np.ndarray) -> str:
        """Offer (TRs, voxels) float32 of unit variance; its key."""
        return self._offer(np.rint(values / QUANTUM).clip(-127, 127).astype(np.int8))

    def _offer(self, array: np.ndarray) -> str:
        key = hashlib.sha256(array.tobytes()).hexdigest()[:16]
        if key not in self.file:
            self._offered[key] = array
        return key

    @property
    def offered(self) -> int:
        """Bytes that what was offered would take, compressed."""
        planes = (array.view(np.uint8).reshape(array.size, -1).T for array in self._offered.values())
        return sum(len(zlib.compress(plane.tobytes(), 4)) for plane in planes)

    def decide(self, kept: bool) -> None:
        """Write what was offered, or forget it."""
        for key, array in self._offered.items() if kept else ():
            self.file.create_dataset(key, data=array, compression="gzip", shuffle=True)
        self._offered = {}


def sound(file: h5py.File, key: str) -> np.ndarray:
    """The audio of a key, (samples,) float32."""
    return np.cumsum(file[key][()], dtype=np.int16).astype(np.float32) / LEVELS


def responses(file: h5py.File, key: str) -> np.ndarray:
    """The responses of a key, (TRs, voxels) float32."""
    return file[key][()].astype(np.float32) * QUANTUM


def jobs(file: h5py.File) -> Iterator[tuple[Job, str]]:
    """Models to tune, each with the listener it is aligned with."""
    for entry in json.loads(file["jobs"].asstr()[()]):

        def stories(use: Mapping[str, Mapping]) -> dict[str, StoryTargets]:
            return {
                name: StoryTargets(
                    sound(file, of["sound"]),
                    np.array(of["times"]),
                    tuple(responses(file, key) for key in of["targets"]),
                )
                for name, of in use.items()
            }

        parts = {use: stories(entry[use]) for use in ("train", "validation")}
        settings = Tuning.model_validate_json(json.dumps(entry["settings"]))
        given = entry["name"], entry["backbone"], settings, parts["train"], parts["validation"], entry["aim"]
        yield Job(*given, entry["pad_to_30s"]), entry["listener"]


def listener(file: h5py.File, name: str) -> Listener:
    """A listener by name."""
    entry = json.loads(file["listeners"].asstr()[()])[name]
    stories = entry["stories"]
    return Listener(
        {story: sound(file, of["sound"]) for story, of in stories.items()},
        {story: np.array(of["times"]) for story, of in stories.items()},
        {story: responses(file, of["responses"]) for story, of in stories.items()},
        tuple(entry["train"]),
        tuple(entry["test"]),
        np.array(entry["ceiling"], np.float32),
        Features.model_validate_json(json.dumps(entry["features"])),
        Encoding.model_validate_json(json.dumps(entry["encoding"])),
    )


def open_packed(folder: Path) -> h5py.File:
    """The file of a carried folder."""
    return h5py.File(Path(folder) / FILE)
