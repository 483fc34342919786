"""Reader of ds003020 (LeBel et al. 2023) and of simulated listeners, who are stored in the same layout."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from braintuning import timing
from braintuning.cortex.pycortex import participant_cortex
from braintuning.cortex.subject import Cortex
from braintuning.datasets import audio, labels, textgrid
from braintuning.datasets.base import check_speech
from braintuning.datasets.responses import invalid_columns, read_responses, stored_shape
from braintuning.errors import InputError, MissingTier, nearest

UNSTORED_VOLUMES = 10
"""Volumes that ds003020 leaves out at either end of a story."""
SOUND_START = 10.0
"""Seconds from the first trigger to the start of the audio in ds003020."""


@dataclass(eq=False)
class LebelDataset:
    """Audio, word times and responses in the folders of ds003020.

    Parameters
    ----------
    root
        Folder that holds `stimuli/` and `derivative/`.
    tr
        Repetition time in seconds.
    voxels
        How many voxels a participant has; responses with another number are refused.
    fsaverage
        A FreeSurfer folder of fsaverage with the HCP-MMP1.0 annotation; without it the annotation is downloaded.
    row_offset, unstored_volumes, sound_starts
        When TRs were acquired, see `timing.row_times`.
    coarse_regions
        Whether regions may come from fsaverage5 where the sphere of fsaverage cannot be had.

    Raises
    ------
    InputError
        The folder, or its table of volumes, is missing.
    """

    root: Path
    tr: float
    voxels: Mapping[str, int] = field(default_factory=dict)
    fsaverage: Path | None = None
    _: KW_ONLY
    row_offset: float = 0.0
    unstored_volumes: int = UNSTORED_VOLUMES
    sound_starts: float = SOUND_START
    coarse_regions: bool = False

    def __post_init__(self) -> None:
        self.root = Path(self.root)
        self.derivative, self._cortices = self.root / "derivative", {}
        self._volumes_file = file = self.derivative / "respdict.json"
        if not file.is_file():
            raise InputError(f"{file}: not found, expected the volumes of each story (dataset root {self.root})")

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
        """Audio of a story: (samples,) float32, mono, 16 kHz."""
        return audio.read_audio(self.audio_file(story))

    def _textgrid_file(self, story: str) -> Path:
        return self.derivative / "TextGrids" / f"{story}.TextGrid"

    def words(self, story: str) -> list[labels.Word]:
        """Words of a story with their times."""
        return labels.read_words(self._textgrid_file(story))

    def phones(self, story: str) -> list[textgrid.Interval]:
        """Phones of a story (ARPAbet) with their times."""
        return labels.read_phones(self._textgrid_file(story))

    def n_rows(self, story: str) -> int:
        """TRs stored for a story: its volumes without the unstored ones at either end."""
        if story not in self._volumes:
            raise InputError(f"{self._volumes_file}: no volumes for story {story!r}, expected its count")
        return self._volumes[story] - 2 * self.unstored_volumes

    def tr_times(self, story: str) -> np.ndarray:
        """When each TR was acquired; (TRs,) float64."""
        return timing.row_times(self.n_rows(story), self.tr, self.unstored_volumes, self.sound_starts, self.row_offset)

    def responses_file(self, participant: str, story: str) -> Path:
        """File of a participant's responses to a story; `InputError` if the participant did not hear it."""
        path = self.derivative / "preprocessed_data" / participant / f"{story}.hf5"
        heard = self.stories(participant)
        if story not in heard:
            raise InputError(f"{path}: not found; {participant} has {len(heard)} other stories{nearest(story, heard)}")
        return path

    def responses(self, participant: str, story: str, voxels: np.ndarray | None = None) -> np.ndarray:
        """Responses, z-scored by the dataset; (TRs, voxels) float32, errors as of `read_responses`."""
        path, shape = self.responses_file(participant, story), (self.n_rows(story), self.n_voxels(participant))
        return read_responses(path, "data", *shape, voxels)

    def n_repeats(self, participant: str, story: str) -> int:
        """Presentations of a story whose responses are stored one by one."""
        return stored_shape(self.responses_file(participant, story), "individual_repeats")[0]

    def repeats(self, participant: str, story: str, voxels: np.ndarray | None = None) -> np.ndarray:
        """Responses to each presentation of a story; (repeats, TRs, voxels) float32."""
        path, shape = self.responses_file(participant, story), (self.n_rows(story), self.n_voxels(participant))
        numbers = range(self.n_repeats(participant, story))
        return np.stack([read_responses(path, "individual_repeats", *shape, voxels, number) for number in numbers])

    def n_voxels(self, participant: str) -> int:
        """Number of a participant's voxels: the study's, else that of the first story's file."""
        if participant in self.voxels:
            return self.voxels[participant]
        return stored_shape(self.responses_file(participant, self.stories(participant)[0]), "data")[-1]

    def cortex(self, participant: str) -> Cortex:
        """Where the voxels lie: surface, regions, and the way from voxels to vertices."""
        if participant not in self._cortices:
            self._cortices[participant] = participant_cortex(
                self.derivative, participant, self.fsaverage, coarse_regions=self.coarse_regions
            )
        return self._cortices[participant]

    def check(self, stories: Mapping[str, Sequence[str]]) -> list[str]:
        """Read what a study needs of each participant; a line for each file that is usable in part."""
        for participant, names in stories.items():
            for story in names:
                self.responses_file(participant, story)
            n_labelled, n_voxels = self.cortex(participant).n_voxels, self.n_voxels(participant)
            if n_labelled != n_voxels:
                folder = self.derivative / "pycortex-db" / participant
                expected = f"expected {n_voxels}, as the responses have"
                raise InputError(f"{folder}: the cortex has {n_labelled} voxels, {expected}")
        heard = dict.fromkeys(story for names in stories.values() for story in names)
        notes = [note for story in heard for note in self._check_story(story)]
        return notes + [
            f"{self.responses_file(participant, story)}: {n} of {self.n_voxels(participant)} voxels are NaN or constant"
            for participant, names in stories.items()
            for story in names
            if (n := int(invalid_columns(self.responses(participant, story)).sum()))
        ]

    def _check_story(self, story: str) -> list[str]:
        file, grid = self.audio_file(story), self._textgrid_file(story)
        words, last = self.words(story), self.tr_times(story)[-1]
        duration = check_speech(self.audio(story), file, words, grid)
        if not duration - 30 < last < duration + 10:
            found = f"the audio lasts {duration:.1f} s and its last TR was acquired at {last:.1f} s"
            raise InputError(f"{file}: {found}, expected less than 10 s after its end and 30 s before")
        textgrid.check_within(words, duration, grid)
        with suppress(MissingTier):
            textgrid.check_within(textgrid.read_tier(grid, "phone"), duration, grid)
        return labels.notes(grid)
