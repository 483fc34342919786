"""Reader of parcellated responses: regions of people who listened to one recording or several, or parts of them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from braintuning import timing
from braintuning.alignment.correlation import zscore
from braintuning.cortex.subject import Cortex
from braintuning.datasets import textgrid
from braintuning.datasets.base import Dataset
from braintuning.datasets.recording import StoredRecording, filtered
from braintuning.datasets.responses import invalid_columns
from braintuning.errors import InputError
from braintuning.study.recordings import GROUP, Filter, Recording


class ParcelsDataset(Dataset):
    """Participants' time courses by region, for each recording a folder; see `datasets/README.md`.

    The mean over people of a recording who are held out, `group-<recording>`, is a participant as well. `recordings`
    are by name, in folders below `root`. Responses, and features with them, lose what is slower than
    `high_pass_seconds`, story by story. `participants` and `tuned_together` are names, patterns replaced; None:
    everyone who is here; `lacks` are stories that participants are left out of. `InputError` where a recording has no
    file of responses.
    """

    between_people = voxels_are_regions = filters_stories = True

    def __init__(
        self,
        root: Path,
        recordings: Mapping[str, Recording],
        row_offset: float = 0.5,
        high_pass_seconds: float | None = None,
        participants: Sequence[str] | None = None,
        tuned_together: Sequence[str] = (),
        lacks: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.root, self.row_offset, self._tuned, self._lacks = Path(root), row_offset, tuned_together, lacks or {}
        self._high_pass = high_pass_seconds and Filter(high_pass=1 / high_pass_seconds, by="cosine")
        self._stored = {n: StoredRecording(self.root, r, participants) for n, r in recordings.items()}
        self._names = {story: name for name, recording in recordings.items() for story in recording.stories(name)}

    @property
    def participants(self) -> tuple[str, ...]:
        """Participants whose responses are here."""
        return tuple(sorted({person for stored in self._stored.values() for person in stored.files}))

    def _of(self, story: str) -> StoredRecording:
        if story not in self._names:
            raise InputError(f"{self.root}: no story {story!r}, expected one of {', '.join(self._names)}")
        return self._stored[self._names[story]]

    def stories(self, participant: str) -> tuple[str, ...]:
        """Stories of the recordings that a participant heard."""
        found = [s for s, n in self._names.items() if participant in (*self._stored[n].files, f"{GROUP}{n}")]
        if not found:
            raise InputError(f"{self.root}: no responses of {participant}, expected {', '.join(self.participants)}")
        return tuple(found)

    def audio_file(self, story: str) -> Path:
        """Audio file of a story's whole recording."""
        return self._of(story).audio_file

    def words(self, story: str) -> list[textgrid.Interval]:
        """Words of a story's whole recording, in seconds after the start of its audio."""
        return self._of(story).words()

    def phones(self, story: str) -> list[textgrid.Interval]:
        """Phones of a story's whole recording; `MissingTier` where it has none."""
        return self._of(story).phones()

    def seconds(self, story: str) -> tuple[float, float]:
        """First and last second of the recording that belong to a story."""
        return self._of(story).settings.parts.get(story) or super().seconds(story)

    def people(self, participant: str, story: str) -> tuple[str, ...]:
        """The participant and all others who heard the story and are held out as well, or tuned on as well.

        Of a mean those that it is the mean of.
        """
        heard = [p for p in self._of(story).files if story not in self._lacks.get(p, ()) and p != participant]
        others = [p for p in heard if (p in self._tuned) == (participant in self._tuned)]
        return tuple(others) if participant.startswith(GROUP) else (participant, *others)

    def _first(self, participant: str, story: str) -> str:
        """Whose file and times are a participant's own, which of a mean are its first person's."""
        if not participant.startswith(GROUP):
            return participant
        people = self.people(participant, story)
        if not people:
            raise InputError(f"{self._of(story).folder}: nobody is held out, expected somebody for {participant}")
        return people[0]

    def responses_file(self, participant: str, story: str) -> Path:
        """File of a participant's time courses; of a mean its first person's."""
        return self._of(story).responses_file(self._first(participant, story))

    def _rows(self, participant: str, story: str) -> slice:
        """Volumes of a participant's file that are a story's."""
        stored, first = self._of(story), self._first(participant, story)
        times, part = stored.times(first, self.row_offset), stored.settings.parts.get(story)
        if part is None:
            return slice(0, len(times))
        rows = slice(*np.searchsorted(times, part).tolist())
        if rows.stop - rows.start < 2:
            found = f"volumes are read from {times[0]:.1f} to {times[-1]:.1f} s"
            expected = f"expected some within {part[0]:g} to {part[1]:g} s, part {story!r}"
            raise InputError(f"{stored.responses_file(first)}: {found}, {expected}")
        return rows

    def tr_times(self, participant: str, story: str) -> np.ndarray:
        """When each volume of a participant's that is a story's is read, in seconds of the audio; (TRs,) float64."""
        whole = self._of(story).times(self._first(participant, story), self.row_offset)
        return whole[self._rows(participant, story)]

    def responses(self, participant: str, story: str, voxels: np.ndarray | None = None) -> np.ndarray:
        """Time courses, z-scored; (TRs, regions) float32, NaN throughout a region that has one or is constant.

        Where the study has a high pass, without what is slower. A mean is that of people's, z-scored, 0 where none has
        a number.
        """
        if participant.startswith(GROUP):
            mean = np.ma.masked_invalid(self.everyone(participant, story)).mean(axis=0).filled(0)
            courses = zscore(mean).astype(np.float32)
        else:
            rows = self._rows(participant, story)
            courses = self._of(story).courses(participant)[rows]
            invalid = invalid_columns(courses)
            courses = zscore(self._high_passed(np.where(invalid, 0.0, courses), participant, story)).astype(np.float32)
            courses[:, invalid] = np.nan
        return courses if voxels is None else courses[:, voxels]

    def _high_passed(self, columns: np.ndarray, participant: str, story: str) -> np.ndarray:
        tr = timing.spacing(self.tr_times(participant, story))
        return filtered(columns, tr, self._high_pass) if self._high_pass else columns

    def everyone(self, participant: str, story: str) -> np.ndarray:
        """Responses of `people` at a participant's times; (people, TRs, regions) float32.

        Those of people with other times are interpolated linearly, and NaN where they have none; NaN also stands for
        regions without signal.
        """
        times, found = self.tr_times(participant, story), []
        for person in self.people(participant, story):
            courses, own_times = self.responses(person, story), self.tr_times(person, story)
            if not np.array_equal(own_times, times):
                gone = {"left": np.nan, "right": np.nan}
                courses = np.stack([np.interp(times, own_times, column, **gone) for column in courses.T], axis=1)
            found.append(courses.astype(np.float32))
        return np.stack(found)

    def n_voxels(self, participant: str) -> int:
        """Number of a participant's regions."""
        return len(self.region_names(participant))

    def region_names(self, participant: str) -> tuple[str, ...]:
        """Names of a participant's regions; `InputError` where their recordings differ in them."""
        of_each = {tuple(self._of(story).regions["name"]) for story in self.stories(participant)}
        if len(of_each) > 1:
            found = f"recordings of {participant} have other regions than each other"
            raise InputError(f"{self.root}: {found}, expected the same in all of one person; give one another name")
        return of_each.pop()

    def cortex(self, participant: str) -> Cortex:
        """Where the regions lie; without atlas or centroids nowhere on the surface, and in no group of regions."""
        return self._of(self.stories(participant)[0]).cortex()

    def filtering(
        self, participant: str, story: str, times: np.ndarray
    ) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """As of `Dataset`: features are computed throughout the recording, since that is what was filtered."""
        stored = self._of(story)
        whole, how = stored.times(self._first(participant, story), self.row_offset), stored.settings.filter
        tr, read, chosen = timing.spacing(whole), times, slice(None)
        if how:
            lead = len(times) - len(self.tr_times(participant, story))
            first = self._rows(participant, story).start - lead
            read = whole[0] + tr * np.arange(min(first, 0), len(whole))
            chosen = slice(max(first, 0), max(first, 0) + len(times))

        def same(features: np.ndarray) -> np.ndarray:
            moved = np.moveaxis(features, -2, 0)
            columns = moved.reshape(len(read), -1).astype(np.float64)
            columns = filtered(columns, tr, how)[chosen] if how else columns
            columns = self._high_passed(columns, participant, story).reshape(len(times), *moved.shape[1:])
            return np.moveaxis(columns, 0, -2).astype(features.dtype)

        return read, same

    def reach(self, story: str) -> float:
        """Seconds over which the low-pass that responses to a story had spreads them: a period of its cut-off."""
        how = self._of(story).settings.filter
        return 1 / how.low_pass if how and how.low_pass else 0.0

    def check(self, stories: Mapping[str, Sequence[str]]) -> list[str]:
        """Read what a study needs of {participant: stories}; a line for each file usable in part."""
        last: dict[str, dict[str, float]] = {}
        for participant, names in stories.items():
            self.region_names(participant)
            for story in names:
                of_recording = last.setdefault(self._names[story], {})
                ends = self.tr_times(participant, story)[-1]
                of_recording[participant] = max(of_recording.get(participant, ends), ends)
        return [note for name, of_recording in last.items() for note in self._stored[name].check(of_recording)]
