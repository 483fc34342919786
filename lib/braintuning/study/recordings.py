"""Sections of a study file that describe parcellated responses to recordings, and who took part."""

import glob
import os
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from braintuning.errors import InputError
from braintuning.results import listed
from braintuning.study.by_name import names_in
from braintuning.study.simulation import Folder, OfStory, Positive, Seconds, Section, TRs, Volumes

GROUP = "group-"
"""Before the name of a recording: the mean over its people who are held out, treated like a participant."""
EVERY_SECOND = "every second"
LAYOUTS = (
    *(f"responses/*.{kind}" for kind in ("npy", "csv", "tsv", "txt", "h5", "hf5", "hdf5")),
    *("timecourses_10mm/*-timecourses.txt", "10mm/*-timecourses.txt"),
)
"""Where a recording's responses are looked for; the last two are those of the Alice deposit (10.7302/Z29C6VNH)."""
Patterns = Annotated[list[str], BeforeValidator(lambda found: [found] if isinstance(found, str) else found)]


class Filter(Section):
    """How the responses in the files were filtered, which features are then as well; cut-offs in Hz.

    By a Butterworth filter of the fifth order in both directions, nilearn's default, or by regressing out the discrete
    cosines below `high_pass`, as SPM does. `detrend`: a straight line was taken out before.
    """

    high_pass: Positive | None = None
    low_pass: Positive | None = None
    by: Literal["butterworth", "cosine"] = "butterworth"
    detrend: bool = False

    @model_validator(mode="after")
    def _cosines_pass_what_is_high(self) -> Self:
        if self.by == "cosine" and (self.low_pass or not self.high_pass):
            raise InputError("found a `filter` by cosine in `recordings`, expected it with `high_pass` alone")
        if self.high_pass and self.low_pass and self.high_pass >= self.low_pass:
            found = f"found `high_pass` {self.high_pass:g} in `filter`"
            raise InputError(f"{found}, expected less than `low_pass`, {self.low_pass:g} Hz")
        return self


class Recording(Section):
    """A recording that people heard in a scanner, and their responses by region; see `datasets/README.md`.

    Row i of a file is volume `i + unstored_volumes`; the audio started `sound_starts` seconds after the first volume.
    Both that and `tr` may be numbers by participant, `"*"` standing for everyone else. `volumes` are the rows that
    files are to have, or those of some by name; by default as many as most have. `parts` are stories of their own, by
    seconds of the audio, from and to; without them the recording is one story under its own name.
    """

    folder: Folder = "."
    tr: TRs
    unstored_volumes: Annotated[int, Field(ge=0)] = 0
    sound_starts: OfStory = 0.0
    volumes: Volumes | None = None
    responses: str | None = None
    regions: str | tuple[str, ...] | None = None
    atlas: str | None = None
    filter: Filter | None = None
    parts: Mapping[str, tuple[Seconds, Seconds]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _can_be_read(self) -> Self:
        if self.responses is not None and ("*" not in self.responses or "**" in self.responses):
            raise InputError(f"found `responses` {self.responses!r} in `recordings`, expected a * for the participant")
        for story, (start, end) in self.parts.items():
            if start >= end:
                raise InputError(
                    f"found part {story!r} from {start:g} to {end:g} s in `recordings`, expected less first"
                )
        return self

    @property
    def names(self) -> list[str]:
        """Participants who have numbers of their own."""
        return [name for numbers in (self.tr, self.sound_starts, self.volumes) for name in names_in(numbers)]

    def stories(self, name: str) -> tuple[str, ...]:
        """Stories of the recording, whose own name is given."""
        return tuple(self.parts) or (name,)

    def responses_files(self, root: Path) -> dict[str, Path]:
        """File of each participant in a dataset's folder, by name in order.

        `InputError` where there is none, two of one person, or one of somebody whose name begins like that of a mean.
        """
        folder, found = root / self.folder, {}
        patterns = LAYOUTS if self.responses is None else (self.responses,)
        for pattern in patterns:
            head, *others = os.path.normpath(pattern).split("*")
            within, first = os.path.split(head)
            name = re.compile(f"{re.escape(first)}(.+?){'.*'.join(map(re.escape, others))}")
            for path in listed(folder / within, "*".join(map(glob.escape, (first, *others)))):
                if not (called := name.fullmatch(path.relative_to(folder / within).as_posix())):
                    raise InputError(f"{path}: found responses without the name of a participant, expected one at *")
                participant = called[1]
                if participant in found:
                    both = f"{found[participant]} and {path}"
                    raise InputError(f"{folder}: found {both} of {participant}, expected one file a participant")
                if participant.startswith(GROUP):
                    raise InputError(f"{path}: found a participant {participant!r}, expected none with {GROUP} before")
                found[participant] = path
        if not found:
            what = "no such folder" if not folder.is_dir() else "found no file of responses in it"
            raise InputError(f"{folder}: {what}, expected {' or '.join(patterns[:2])}, one a participant")
        return dict(sorted(found.items()))


class People(Section):
    """Who takes part in a study of recordings, by names and patterns, and what they hear; the rest is left aside."""

    model_config = ConfigDict(extra="ignore")

    participants: Patterns = Field(default_factory=lambda: ["all"])
    tuned_together: Patterns = Field(default_factory=list)
    stories: Mapping[str, tuple[str, ...]]
    lacks: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)


def with_people(given: People, root: Path, recordings: Mapping[str, Recording]) -> dict[str, Any]:
    """Keys of a study with the names of people in place of patterns, and what each of them lacks.

    `participants` are all whose responses are here, or those that patterns name (`sub-*`; `!sub-03` leaves one out
    again). `tuned_together` are names or patterns as well, or `every second`: the first, third, fifth of those who
    heard all training stories. Whoever is not tuned on is held out. The mean over the people held out of a recording
    with a test story is a listener of its own, who has the stories that all of them have.
    """
    heard = {name: recording.responses_files(root) for name, recording in recordings.items()}
    people, stories = matching(given.participants, sorted(set().union(*heard.values())), root), given.stories

    def lacking(person: str) -> list[str]:
        has = {s for name, recording in recordings.items() if person in heard[name] for s in recording.stories(name)}
        absent = [story for names in stories.values() for story in names if story not in has]
        return list(dict.fromkeys([*absent, *given.lacks.get(person, ())]))

    lacks, together = {**given.lacks, **{person: lacking(person) for person in people}}, given.tuned_together
    if together == [EVERY_SECOND]:
        together = [person for person in people if not {*stories.get("train", ())} & {*lacks[person]}][::2]
    together = matching(together, people, root)
    for name, recording in recordings.items():
        tested = {*recording.stories(name)} & {*stories.get("test", ())}
        members = [p for p in people if p not in together and tested - {*lacks[p]}]
        if len(members) > 1:
            lacks[f"{GROUP}{name}"] = sorted(set().union(*(lacks[member] for member in members)))
    return {"participants": people, "tuned_together": together, "lacks": lacks}


def matching(patterns: Iterable[str], names: Iterable[str], root: Path) -> list[str]:
    """Names that patterns stand for, each once; `InputError` for one without ! that none matches."""
    chosen: dict[str, None] = {}
    for pattern in patterns:
        meant = "*" if pattern == "all" else pattern.removeprefix("!")
        fitting = [name for name in names if fnmatchcase(name, meant)]
        if pattern.startswith("!"):
            chosen = {name: None for name in chosen if name not in fitting}
        elif fitting:
            chosen |= dict.fromkeys(fitting)
        else:
            raise InputError(f"{root}: found no responses of {pattern}, expected those of a participant of the study")
    return list(chosen)
