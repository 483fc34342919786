"""One recording that people heard in a scanner, as its folder has it: audio, words, and time courses by region."""

import statistics
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from nilearn.signal import clean

from braintuning import timing
from braintuning.cortex.parcels import cortex_of_regions
from braintuning.cortex.subject import Cortex
from braintuning.datasets import audio, labels, textgrid
from braintuning.datasets.responses import invalid_columns
from braintuning.datasets.tables import column_names, read_courses, read_regions, read_word_table
from braintuning.errors import InputError, MissingTier
from braintuning.results import listed, require_file
from braintuning.study.by_name import own
from braintuning.study.recordings import Filter, Recording

DEPOSIT = "DownTheRabbitHoleFinal*"
"""How names begin in the Alice deposit (10.7302/Z29C6VNH), which also holds other recordings."""
AUDIO, WORDS = (f"{DEPOSIT}_pad.wav",), ("words.*", "*events.tsv", f"{DEPOSIT}_pad_1.TextGrid")
MOST_INVALID = 0.25
"""Share of a participant's regions that may be constant or NaN, which are masked; more is a damaged file."""
LEFT_OVER = 1e-5
"""Share of its standard deviation below which what a filter leaves of a feature is rounding, and becomes 0."""
SLACK = 30.0
"""Seconds by which a scan may go on after the audio."""


def filtered(columns: np.ndarray, tr: float, how: Filter) -> np.ndarray:
    """Columns, (TRs, columns) float, filtered by nilearn as the responses of a recording were; float64, mean 0."""
    centred = columns - columns.mean(axis=0, dtype=np.float64)
    options = {"high_pass": how.high_pass, "low_pass": how.low_pass, "t_r": tr, "standardize": None}
    kind = how.by if how.high_pass or how.low_pass else False
    kept = clean(centred, filter=kind, detrend=how.detrend, **options)
    kept[:, kept.std(axis=0) < LEFT_OVER * centred.std(axis=0)] = 0
    return kept


_cortex = cache(cortex_of_regions)


class StoredRecording:
    """A recording's folder, below `root`; `InputError` of its methods names the file, what was found and expected.

    Files of `participants` are read, as far as they are here; None: everyone's.
    """

    def __init__(self, root: Path, settings: Recording, participants: Sequence[str] | None = None) -> None:
        self.settings, self.folder = settings, root / settings.folder
        found = settings.responses_files(root)
        self.files = {p: path for p, path in found.items() if participants is None or p in participants}
        self._read: dict[str, np.ndarray] = {}

    def _one(self, what: str, suffixes: Sequence[str], named: Sequence[str]) -> Path:
        """The one file that is meant: the only one that has one of the names, else the only one of its kind."""
        files = dict.fromkeys(path for name in named for path in listed(self.folder, name))
        chosen = list(files) or [path for path in listed(self.folder) if path.suffix.lower() in suffixes]
        if len(chosen) != 1:
            which = f" ({', '.join(path.name for path in chosen)})" if chosen else ""
            names = [*(name for name in named if not name.startswith(DEPOSIT)), *(f"*{end}" for end in suffixes)]
            expected = f"expected exactly one of {', '.join(names)}"
            raise InputError(f"{self.folder}: found {len(chosen)} files of {what}{which}, {expected}")
        return chosen[0]

    @property
    def audio_file(self) -> Path:
        """The only audio file of the folder, or the Alice deposit's."""
        return self._one("audio", (".flac", ".wav", ".ogg", ".mp3"), AUDIO)

    @property
    def words_file(self) -> Path:
        """The only file with one of the names `WORDS`, else the only TextGrid."""
        return self._one("words", (".textgrid",), WORDS)

    def words(self) -> list[textgrid.Interval]:
        """Words in seconds after the start of the audio, of a TextGrid or a table."""
        path, started = self.words_file, self.settings.sound_starts
        if path.suffix.lower() == ".textgrid":
            return labels.read_words(path)
        if path.name.endswith("events.tsv") and isinstance(started, Mapping):
            found = (
                "times of words are those after the first volume, and the audio started at other ones by participant"
            )
            raise InputError(f"{path}: {found}, expected words.csv, with seconds after the start of the audio")
        return read_word_table(path, 0.0 if isinstance(started, Mapping) else -started)

    def phones(self) -> list[textgrid.Interval]:
        """Phones, where the words are in a TextGrid that has a tier of them."""
        if self.words_file.suffix.lower() != ".textgrid":
            raise MissingTier(f"{self.words_file}: has no phone tier; a table gives word times alone")
        return labels.read_phones(self.words_file)

    def responses_file(self, participant: str) -> Path:
        """File of a participant's time courses."""
        if participant not in self.files:
            raise InputError(
                f"{self.folder}: no responses of {participant}, expected {', '.join(self.files) or 'some'}"
            )
        return self.files[participant]

    def _courses(self, participant: str) -> np.ndarray:
        if participant not in self._read:
            self._read[participant] = read_courses(self.responses_file(participant))
        return self._read[participant]

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Volumes and columns that most files have."""
        shapes = [self._courses(participant).shape for participant in self.files]
        return tuple(statistics.mode(numbers) for numbers in zip(*shapes, strict=True))

    @cached_property
    def regions(self) -> pd.DataFrame:
        """`name`, `number` in the atlas, `column` in the files, and `x`, `y`, `z` in mm where they are known."""
        n_columns, given, first = self.shape[1], self.settings.regions, next(iter(self.files.values()))
        if isinstance(given, str):
            return read_regions(self.folder / given, n_columns)
        if given and len(given) != n_columns:
            raise InputError(f"{first}: found {n_columns} regions, expected {len(given)}: {' '.join(given)}")
        numbers, said = np.arange(n_columns), column_names(first)
        known = len(set(said)) == n_columns and not said[0].isdigit()
        names = given or (said if known else (numbers + 1).astype(str))
        return pd.DataFrame({"name": names, "number": numbers + 1, "column": numbers})

    def cortex(self) -> Cortex:
        """Where the regions lie: in an atlas, in spheres around their centroids, or nowhere on the surface.

        `InputError` as of `cortex.parcels.cortex_of_regions`.
        """
        regions, given = self.regions, self.settings
        source = self.folder / given.regions if isinstance(given.regions, str) else self.folder
        places = tuple(map(tuple, regions[["x", "y", "z"]].to_numpy())) if {"x", "y", "z"} <= set(regions) else None
        atlas = None if given.atlas is None else require_file(self.folder / given.atlas)
        return _cortex(tuple(regions["number"]), source, places, atlas)

    def courses(self, participant: str) -> np.ndarray:
        """Time courses of the regions as the file has them; (volumes, regions) float64.

        `InputError` for other volumes than `volumes` says or most have, other columns, or too many regions without
        signal.
        """
        path, found, asked = self.responses_file(participant), self._courses(participant), self.settings.volumes
        expected = asked.get(participant, asked.get("*")) if isinstance(asked, Mapping) else asked
        if len(found) != (expected or self.shape[0]):
            rule = "by `volumes`" if expected else "as in most files; `volumes` in `recordings` may say otherwise"
            found = f"found {len(found)} volumes of {participant}, expected {expected or self.shape[0]}"
            raise InputError(f"{path}: {found}, {rule}")
        if found.shape[1] != self.shape[1]:
            raise InputError(f"{path}: found {found.shape[1]} regions, expected {self.shape[1]} as in most files")
        courses = found[:, self.regions["column"]]
        if (n_invalid := int(invalid_columns(courses).sum())) > MOST_INVALID * courses.shape[1]:
            problem = f"NaN or a constant value in {n_invalid} of {courses.shape[1]} regions"
            raise InputError(f"{path}: {problem}, expected at most {int(MOST_INVALID * courses.shape[1])}")
        return courses

    def _require_order(self, participant: str) -> None:
        """Raise `InputError` where a file calls its columns as the regions are called, in another order."""
        path, regions = self.responses_file(participant), self.regions
        said = column_names(path)
        for name, column in zip(regions["name"], regions["column"], strict=True) if len(said) == self.shape[1] else ():
            if name in said and name != said[column] and not name.isdigit():
                expected = f"expected {name!r}, in the order of `regions` or else of the first file"
                raise InputError(f"{path}: column {column + 1} is called {said[column]!r}, {expected}")

    def times(self, participant: str, row_offset: float) -> np.ndarray:
        """When each volume of a participant's file is read, in seconds after the start of the audio; (volumes,)."""
        settings = self.settings
        tr, start = (own(getattr(settings, key), key, participant, "*") for key in ("tr", "sound_starts"))
        n_volumes = len(self.courses(participant))
        return timing.row_times(n_volumes, tr, settings.unstored_volumes, sound_start=start, row_offset=row_offset)

    def check(self, last: Mapping[str, float]) -> list[str]:
        """Read audio, words, atlas and time courses; a line for each file that is usable in part.

        `last` is when the last volume that is used of each participant is read, in seconds of the audio.
        """
        words, sound = self.words(), self.audio_file
        duration = audio.check_speech(audio.read_audio(sound), sound, words, self.words_file)
        textgrid.check_within(words, duration, self.words_file)
        whole = {participant: self.times(participant, 1.0) for participant in last}
        ends = max(times[-1] for times in whole.values())
        starts = min(times[0] - timing.spacing(times) for times in whole.values())
        before = self.settings.unstored_volumes * timing.spacing(next(iter(whole.values())))
        outside = [word for word in words if word.start > ends or word.end < starts - before]
        if outside:
            found = f"{len(outside)} words outside the scan, such as {outside[-1].label!r} at {outside[-1].start:.2f} s"
            raise InputError(f"{self.words_file}: {found}, expected them within {starts - before:.1f} to {ends:.1f} s")
        for participant, time in last.items():
            if time > duration + SLACK:
                found = f"the audio lasts {duration:.1f} s and the last volume of {participant} is read at {time:.1f} s"
                expected = f"expected within {SLACK:.0f} s of its end; `parts` may leave volumes out"
                raise InputError(f"{sound}: {found}, {expected}")
        self.cortex()
        notes = labels.notes(self.words_file, duration) if self.words_file.suffix.lower() == ".textgrid" else []
        for participant in last:
            self._require_order(participant)
            if n := int(invalid_columns(self.courses(participant)).sum()):
                notes.append(
                    f"{self.files[participant]}: {n} of {len(self.regions)} regions are NaN or constant, masked"
                )
        return notes
