"""ds003020 (LeBel et al. 2023), real or simulated: people listening to spoken stories in a scanner."""

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path

import h5py
import numpy as np

from braintuning import audio, textgrid, timing
from braintuning.errors import InputError
from braintuning.rois import hcp_mmp_labels
from braintuning.surfaces import Surface, fs_lr

UNSTORED_VOLUMES = 10
"""Volumes left out at either end of a story."""
SOUND_START = 10.0
"""Seconds from the first trigger to the start of the sound."""


class LebelDataset:
    """Stories, sounds, word times and responses in the folders of ds003020.

    Parameters
    ----------
    root : Path
        Folder that holds `stimuli/` and `derivative/`.
    tr : float
        Repetition time in seconds.

    Raises
    ------
    InputError
        The folder, or its table of volumes, is not there.
    """

    def __init__(self, root: Path, tr: float) -> None:
        self.root = Path(root)
        self.tr = tr
        self.derivative = self.root / "derivative"
        if not self._volumes_file.is_file():
            raise InputError(
                f"{self._volumes_file}: not found, expected the volumes of each story (dataset root {root})"
            )

    @property
    def _volumes_file(self) -> Path:
        return self.derivative / "respdict.json"

    @cached_property
    def _volumes(self) -> dict[str, int]:
        try:
            return json.loads(self._volumes_file.read_text())
        except ValueError:
            raise InputError(f"{self._volumes_file}: not JSON, expected the volumes of each story") from None

    @property
    def participants(self) -> tuple[str, ...]:
        """Participants who have responses here."""
        return tuple(sorted(p.name for p in (self.derivative / "preprocessed_data").glob("*") if p.is_dir()))

    def stories(self, participant: str) -> tuple[str, ...]:
        """Stories that a participant heard, by name."""
        folder = self.derivative / "preprocessed_data" / participant
        if not folder.is_dir():
            raise InputError(f"{folder}: no such participant, expected one of: {', '.join(self.participants)}")
        return tuple(sorted(p.stem for p in folder.glob("*.hf5")))

    def audio_file(self, story: str) -> Path:
        """Recording of a story."""
        return self.root / "stimuli" / f"{story}.wav"

    def audio(self, story: str) -> np.ndarray:
        """Sound of a story: (samples,) float32, mono, 16 kHz."""
        return audio.read_audio(self.audio_file(story))

    def textgrid_file(self, story: str) -> Path:
        """Word and phone times of a story."""
        return self.derivative / "TextGrids" / f"{story}.TextGrid"

    def words(self, story: str) -> list[textgrid.Interval]:
        """Words of a story, with start and end in seconds after the sound's start."""
        return textgrid.read_tier(self.textgrid_file(story), "word")

    def phones(self, story: str) -> list[textgrid.Interval]:
        """Phones of a story (ARPAbet), with start and end in seconds after the sound's start."""
        return textgrid.read_tier(self.textgrid_file(story), "phone")

    def n_rows(self, story: str) -> int:
        """Rows stored for a story: its volumes without the ten at either end."""
        if story not in self._volumes:
            raise InputError(f"{self._volumes_file}: no volumes for story {story!r}, expected its count")
        return self._volumes[story] - 2 * UNSTORED_VOLUMES

    def tr_times(self, story: str) -> np.ndarray:
        """Seconds after the sound's start at which each stored row was acquired; (rows,) float64."""
        return timing.row_times(self.n_rows(story), self.tr, UNSTORED_VOLUMES, SOUND_START)

    def responses_file(self, participant: str, story: str) -> Path:
        """Responses of a participant to a story; `InputError` if the participant did not hear it."""
        path = self.derivative / "preprocessed_data" / participant / f"{story}.hf5"
        if story not in self.stories(participant):
            raise InputError(f"{path}: not found; {participant} has {len(self.stories(participant))} other stories")
        return path

    def responses(self, participant: str, story: str, voxels: np.ndarray | None = None) -> np.ndarray:
        """Responses to a story, z-scored by the dataset; (rows, voxels) float32.

        Parameters
        ----------
        participant, story : str
        voxels : (n_voxels,) bool, optional
            Voxels to keep.

        Raises
        ------
        InputError
            The file lacks `data`, its rows do not fit the story, or a voxel is constant or not a number.
        """
        path = self.responses_file(participant, story)
        responses = self._read(path, "data", 2, (self.n_rows(story), self.n_voxels(participant)))
        require_usable(responses, path)
        return responses if voxels is None else responses[:, voxels]

    def repeats(self, participant: str, story: str) -> np.ndarray:
        """Responses to each presentation of a story; (repeats, rows, voxels) float32."""
        path = self.responses_file(participant, story)
        repeats = self._read(path, "individual_repeats", 3, (self.n_rows(story), self.n_voxels(participant)))
        for repeat in repeats:
            require_usable(repeat, path)
        return repeats

    def n_voxels(self, participant: str) -> int:
        """Voxels of a participant: as many as the first story's file has."""
        path = self.responses_file(participant, self.stories(participant)[0])
        with _open_hdf5(path) as file:
            return _dataset(file, "data", path).shape[-1]

    def _read(self, path: Path, name: str, n_dimensions: int, expected: tuple[int, int]) -> np.ndarray:
        with _open_hdf5(path) as file:
            data = _dataset(file, name, path)
            if len(data.shape) != n_dimensions or data.shape[-2:] != expected:
                raise InputError(
                    f"{path}: found '{name}' of shape {data.shape}, expected {expected[0]} rows of {expected[1]} voxels"
                )
            return data.astype(np.float32)[:]

    def surface(self, participant: str) -> Surface:
        """Cortical surface that the participant's voxels are drawn on."""
        self._require_fs_lr(participant)
        return fs_lr()

    def voxel_labels(self, participant: str) -> np.ndarray:
        """HCP-MMP region of each voxel, '' outside; (voxels,) str."""
        self._require_fs_lr(participant)
        return hcp_mmp_labels()[fs_lr().cortex]

    def vertex_labels(self, participant: str) -> np.ndarray:
        """HCP-MMP region of each vertex of the participant's surface, '' outside; (vertices,) str."""
        self._require_fs_lr(participant)
        return hcp_mmp_labels()

    def to_vertices(self, participant: str, values: np.ndarray) -> np.ndarray:
        """Values of voxels, (voxels,), brought to the vertices of the surface, NaN where there is none."""
        return self.surface(participant).expand(values)

    def _require_fs_lr(self, participant: str) -> None:
        path = self.derivative / "pycortex-db" / participant / "space.json"
        space = json.loads(path.read_text())["space"] if path.is_file() else "none"
        if space != "fs_LR_32k":
            raise InputError(f"{path}: found space {space!r}, expected 'fs_LR_32k'")

    def check(self, stories: Mapping[str, Sequence[str]]) -> None:
        """Read what a study needs of each participant, so that whatever is wrong is known before long work starts."""
        for participant, names in stories.items():
            for story in names:
                self.responses_file(participant, story)
            self._require_fs_lr(participant)
        for story in dict.fromkeys(story for names in stories.values() for story in names):
            self._check_story(story)
        for participant, names in stories.items():
            for story in names:
                self.responses(participant, story)

    def _check_story(self, story: str) -> None:
        sound = self.audio(story)
        words = self.words(story)
        audio.require_signal(sound, self.audio_file(story), within=(words[0].start, words[-1].end))
        duration, last = len(sound) / timing.SAMPLE_RATE, self.tr_times(story)[-1]
        if not duration - 30 < last < duration + 10:
            raise InputError(
                f"{self.audio_file(story)}: the sound lasts {duration:.1f} s and its last row was acquired at "
                f"{last:.1f} s, expected less than 10 s after its end and 30 s before"
            )
        for tier in (words, self.phones(story)):
            textgrid.check_within(tier, duration, self.textgrid_file(story))


def _open_hdf5(path: Path) -> h5py.File:
    try:
        return h5py.File(path)
    except OSError:
        raise InputError(f"{path}: not a whole HDF5 file, expected responses; is it a link without content?") from None


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    if name not in file:
        raise InputError(f"{path}: found {sorted(file)}, expected a dataset named '{name}'")
    return file[name]


def require_usable(responses: np.ndarray, path: Path) -> None:
    """Raise `InputError` naming the file when a column of (rows, voxels) is constant or not finite."""
    broken = ~np.isfinite(responses).all(axis=0)
    constant = ~broken & (responses == responses[0]).all(axis=0)
    for problem, columns in (("NaN or infinite values", broken), ("a constant value", constant)):
        if columns.any():
            raise InputError(
                f"{path}: {problem} in {columns.sum()} of {len(columns)} columns, the first at index "
                f"{columns.argmax()}, expected finite time courses that vary"
            )
