"""Reader of ds003020 (LeBel et al. 2023) and of simulated listeners, who are stored in the same layout."""

import json
import logging
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from braintuning import timing
from braintuning.cortex.pycortex import participant_cortex
from braintuning.cortex.subject import Cortex
from braintuning.datasets import labels, textgrid
from braintuning.datasets.audio import check_speech
from braintuning.datasets.base import Dataset
from braintuning.datasets.layout import require_folder
from braintuning.datasets.responses import invalid_columns, read_responses, stored_shape
from braintuning.datasets.trigger_log import TriggerLog, read_trigger_log
from braintuning.errors import InputError, nearest
from braintuning.results import instead, listed, require_file
from braintuning.study.by_name import own

log = logging.getLogger(__name__)

LOG_FOLDERS = ("trigger_logs", "trfiles", "stimuli")
"""Where `<story>.report` or `<participant>/<story>.report` may lie, in the dataset's folder or the derivatives'. The
public bucket has no logs; those of eleven stories were published elsewhere, see `timing.SOUND_START`."""
MOST_MEAN, SPREADS = 0.5, (0.1, 2.0)
"""Medians over z-scored voxels: volumes may have been cut off since, and a mean over ten repeats has about .3."""


@dataclass(eq=False)
class LebelDataset(Dataset):
    """Audio, word times and responses in the folders of ds003020.

    Parameters
    ----------
    root
        Folder that holds `stimuli/` and `derivatives/`, or `derivative/` as before version 4 of ds003020.
    tr
        Repetition time in seconds, or one for each participant.
    voxels
        How many voxels a participant has; responses with another number are refused.
    fsaverage
        A FreeSurfer folder of fsaverage with the HCP-MMP1.0 annotation; without it the annotation is downloaded.
    row_offset, unstored_volumes
        When TRs were acquired, see `timing.row_times`.
    sound_starts
        Seconds from the first trigger to the start of the audio: a number, or one by name as in a study. Where there is
        none: as the trigger log says, a participant's own (`<participant>/<story>.report`) before a story's
        (`<story>.report`) in `LOG_FOLDERS`. With no log it is `timing.SOUND_START`, or refused if others have numbers.
    coarse_regions
        Whether regions may come from fsaverage5 where the sphere of fsaverage cannot be had.

    `InputError` where the folder, or its table of volumes, is missing, or the files lie in folders of both names.
    """

    root: Path
    tr: float | Mapping[str, float]
    voxels: Mapping[str, int] = field(default_factory=dict)
    fsaverage: Path | None = None
    _: KW_ONLY
    row_offset: float = 0.5
    unstored_volumes: int = 10
    sound_starts: float | Mapping | None = None
    coarse_regions: bool = False

    def __post_init__(self) -> None:
        self.root = Path(self.root)
        self.derivative, self._cortices = require_folder(self.root), {}
        self._volumes_file = file = self.derivative / "respdict.json"
        if not file.exists() and not file.is_symlink():
            raise InputError(f'{file}: not found, expected the volumes of each story, such as {{"lecture1": 173}}')
        require_file(file)

    @cached_property
    def _volumes(self) -> dict:
        expected = "expected the volumes of each story, or of each participant's stories"
        try:
            table = json.loads(self._volumes_file.read_text(encoding="utf-8-sig"))
        except ValueError:
            raise InputError(f"{self._volumes_file}: not JSON, {expected}") from None
        if not isinstance(table, dict):
            raise InputError(f"{self._volumes_file}: found a {type(table).__name__}, {expected}")
        return table

    def volumes(self, participant: str | None, story: str) -> int:
        """Volumes of a story, stored or not, as `respdict.json` has them: {story: volumes} or {participant: {...}}.

        What it has of the participant comes before what it has of everybody. A whole number may be written as 173.0.
        `InputError` where there is none, or nothing would be left without the unstored ones.
        """
        own, least = self._volumes.get(participant), 2 * self.unstored_volumes + 1
        table = own if isinstance(own, dict) and (story in own or story not in self._volumes) else self._volumes
        whose = f"story {story!r}" + f" of {participant}" * (table is own)
        if story not in table:
            raise InputError(f"{self._volumes_file}: no volumes for {whose}, expected its count")
        found = table[story]
        number = int(found) if isinstance(found, float) and found.is_integer() else found
        if type(number) is not int or number < least:
            expected = (
                f"expected a whole number from {least} on, since {self.unstored_volumes} at either end are unstored"
            )
            raise InputError(f"{self._volumes_file}: found {reprlib.repr(found)} as volumes of {whose}, {expected}")
        return number

    @property
    def participants(self) -> tuple[str, ...]:
        """Participants who have responses here."""
        return tuple(path.name for path in listed(self.derivative / "preprocessed_data") if path.is_dir())

    def stories(self, participant: str) -> tuple[str, ...]:
        """Stories that a participant heard, by name."""
        folder = self.derivative / "preprocessed_data" / participant
        if not folder.is_dir():
            raise InputError(f"{folder}: no such participant, expected one of: {', '.join(self.participants)}")
        return tuple(path.stem for path in listed(folder, "*.hf5"))

    def audio_file(self, story: str) -> Path:
        """Recording of a story."""
        return self.root / "stimuli" / f"{story}.wav"

    def _textgrid_file(self, story: str) -> Path:
        return self.derivative / "TextGrids" / f"{story}.TextGrid"

    def words(self, story: str) -> list[textgrid.Interval]:
        """Words of a story with their times."""
        return labels.read_words(self._textgrid_file(story))

    def phones(self, story: str) -> list[textgrid.Interval]:
        """Phones of a story (ARPAbet) with their times."""
        return labels.read_phones(self._textgrid_file(story))

    def n_rows(self, participant: str, story: str) -> int:
        """TRs stored for a story: a participant's volumes without the unstored ones at either end."""
        return self.volumes(participant, story) - 2 * self.unstored_volumes

    def trigger_log(self, participant: str, story: str) -> tuple[Path, TriggerLog] | None:
        """The trigger log of a story, and where it lies; None where there is none."""
        for name in (f"{participant}/{story}.report", f"{story}.report"):
            for folder in (base / log for base in (self.root, self.derivative) for log in LOG_FOLDERS):
                if (path := folder / name).exists() or path.is_symlink():
                    return path, read_trigger_log(path)
        return None

    def sound_start(self, participant: str, story: str) -> float:
        """Seconds from a participant's first trigger to the start of a story's audio; see `sound_starts`."""
        said = self.sound_starts
        for name in (participant, story):
            said = said.get(name) if isinstance(said, Mapping) and name in said else said
        if said is not None and not isinstance(said, Mapping):
            return said
        found = self.trigger_log(participant, story)
        if said is not None and not found:
            lacks = f"found no `sound_starts` of {story} of {participant} in `dataset`, and no trigger log of it"
            raise InputError(f"{self.root}: {lacks}, expected seconds, as of others")
        return found[1].sound_start if found else timing.SOUND_START

    def tr_times(self, participant: str, story: str) -> np.ndarray:
        """When each TR is read, `row_offset` TRs after its volume's start; (TRs,) float64."""
        n_rows, tr = self.n_rows(participant, story), own(self.tr, "tr", participant)
        start = self.sound_start(participant, story)
        return timing.row_times(n_rows, tr, self.unstored_volumes, start, self.row_offset)

    def responses_file(self, participant: str, story: str) -> Path:
        """File of a participant's responses to a story; `InputError` if the participant did not hear it."""
        path = self.derivative / "preprocessed_data" / participant / f"{story}.hf5"
        heard = self.stories(participant)
        if story not in heard:
            unheard = f" (if {participant} did not hear it, say `lacks: {{{participant}: [{story}]}}` in the study)"
            others = f"{unheard}; {participant} has {len(heard)} other stories{nearest(story, heard)}"
            raise InputError(f"{path}: not found{instead(path) or others}")
        return path

    def responses(self, participant: str, story: str, voxels: np.ndarray | None = None) -> np.ndarray:
        """Responses, z-scored by the dataset; (TRs, voxels) float32, errors as of `read_responses`."""
        path, n_voxels = self.responses_file(participant, story), self.n_voxels(participant)
        return read_responses(path, "data", self.n_rows(participant, story), n_voxels, voxels)

    def n_repeats(self, participant: str, story: str) -> int:
        """Presentations of a story whose responses are stored one by one."""
        return stored_shape(self.responses_file(participant, story), "individual_repeats")[0]

    def repeats(self, participant: str, story: str) -> np.ndarray:
        """Responses to each presentation of a story; (repeats, TRs, voxels) float32."""
        path, numbers = self.responses_file(participant, story), range(self.n_repeats(participant, story))
        shape = self.n_rows(participant, story), self.n_voxels(participant)
        return np.stack([read_responses(path, "individual_repeats", *shape, repeat=number) for number in numbers])

    def n_voxels(self, participant: str) -> int:
        """Number of a participant's voxels: the study's, else that of the first story whose file can be read.

        `InputError` on the first story's file where none can be read.
        """
        if participant in self.voxels:
            return self.voxels[participant]
        folder, problem = self.derivative / "preprocessed_data" / participant, None
        for story in self.stories(participant):
            try:
                return stored_shape(folder / f"{story}.hf5", "data")[-1]
            except InputError as error:
                problem = problem or error
        raise problem or InputError(f"{folder}: found no .hf5 file, expected one a story")

    def cortex(self, participant: str) -> Cortex:
        """Where the voxels lie: surface, regions, and the way from voxels to vertices."""
        if participant not in self._cortices:
            self._cortices[participant] = participant_cortex(
                self.derivative, participant, self.fsaverage, coarse_regions=self.coarse_regions
            )
        return self._cortices[participant]

    def check(self, stories: Mapping[str, Sequence[str]]) -> list[str]:
        """Read what a study needs; a line for each log that differs from table or TR, and each file usable in part."""
        for participant, names in stories.items():
            for story in names:
                self._check_rows(participant, story)
            n_labelled, n_voxels = self.cortex(participant).n_voxels, self.n_voxels(participant)
            if n_labelled != n_voxels:
                folder = self.derivative / "pycortex-db" / participant
                expected = f"expected {n_voxels}, as the responses have"
                raise InputError(f"{folder}: the cortex has {n_labelled} voxels, {expected}")
        heard = [(participant, story) for participant, names in stories.items() for story in names]
        notes = []
        for story in dict.fromkeys(story for _, story in heard):
            notes += self._check_story(story, [participant for participant, other in heard if other == story])
        notes += self._check_logs(heard)
        for participant, story in heard:
            file, responses = self.responses_file(participant, story), self.responses(participant, story)
            if (invalid := invalid_columns(responses)).any():
                notes.append(f"{file}: {invalid.sum()} of {len(invalid)} voxels are NaN or constant")
            mean, spread = (float(np.median(one[~invalid])) for one in (np.abs(responses.mean(0)), responses.std(0)))
            if mean > MOST_MEAN or not SPREADS[0] <= spread <= SPREADS[1]:
                found = f"found voxels of mean ±{mean:.3g} and standard deviation {spread:.3g} (medians)"
                raise InputError(f"{file}: {found}, expected 0 and 1: z-score each voxel over the story's volumes")
        return notes

    def _check_rows(self, participant: str, story: str) -> None:
        said = f", {self.volumes(participant, story)} volumes in {self._volumes_file.name}"
        said += f" without {self.unstored_volumes} at either end" * (self.unstored_volumes > 0)
        stored_shape(self.responses_file(participant, story), "data", self.n_rows(participant, story), said)

    def _check_logs(self, heard: Sequence[tuple[str, str]]) -> list[str]:
        """A line for each trigger log that says otherwise than the table of volumes or the TR does."""
        notes, without = {}, set()
        for participant, story in heard:
            if found := self.trigger_log(participant, story):
                said = found[1].differences(self.volumes(participant, story), own(self.tr, "tr", participant))
                notes |= {f"{found[0]}: {'; '.join(said)}; the table and the study are followed": None} if said else {}
            else:
                without.add(story)
        if without and self.sound_starts is None:
            taken = f"the sound is taken to start {timing.SOUND_START} s after the first trigger, as in ds003020"
            log.info(f"{self.root}: no trigger log of {len(without)} stories; {taken}")
        return list(notes)

    def _check_story(self, story: str, listeners: Sequence[str]) -> list[str]:
        file, grid = self.audio_file(story), self._textgrid_file(story)
        words = self.words(story)
        duration = check_speech(self.audio(story), file, words, grid)
        for participant in listeners:
            last = self.tr_times(participant, story)[-1]
            if not duration - 30 < last < duration + 30:
                found = f"the audio lasts {duration:.1f} s and the last TR of {participant} is read at {last:.1f} s"
                raise InputError(f"{file}: {found}, expected within 30 s of its end")
        return labels.notes(grid, duration)
