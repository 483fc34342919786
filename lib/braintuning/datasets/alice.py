"""Reader of Alice (Brennan et al. 2016): responses of six regions to one story."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from braintuning import timing
from braintuning.datasets import audio, labels, textgrid
from braintuning.datasets.base import check_speech
from braintuning.datasets.responses import require_usable
from braintuning.errors import InputError, MissingTier
from braintuning.results import listed, require_file

STORY = "alice"
DEPOSIT = "DownTheRabbitHoleFinal*"
UNSTORED_VOLUMES = 10
REGIONS = ("LATL", "RATL", "LPTL", "LIPL", "LPreM", "LIFG")


class AliceDataset:
    """Region time courses of every participant whose file can be used.

    Files may have the names that they have in the deposit (doi 10.7302/Z29C6VNH), or simpler ones. Of several the one
    is taken that is named as follows; other folders, such as `6mm/`, are not read.

    Parameters
    ----------
    root
        Folder that holds `timecourses_10mm/` or `10mm/`, `words.TextGrid` or `DownTheRabbitHoleFinal*_pad_1.TextGrid`,
        and one recording, in the deposit `DownTheRabbitHoleFinal*_pad.wav`.
    tr
        Repetition time in seconds.

    Attributes
    ----------
    left_out
        Participants whose file cannot be used, with the reason.

    Raises
    ------
    InputError
        The folder is missing, holds no usable participant, or has several files of which each may be meant.
    """

    row_offset = 0.0

    def __init__(self, root: Path, tr: float) -> None:
        self.root, self.tr = Path(root), tr
        self._folder = self._one("folder", [], "timecourses_10mm", "10mm")
        files = listed(self._folder, "s*-timecourses.txt")
        if not files:
            raise InputError(f"{self._folder}: no sNN-timecourses.txt found, expected one a participant")
        self.left_out: dict[str, str] = {}
        self._responses: dict[str, np.ndarray] = {}
        for path in files:
            participant = path.name.removesuffix("-timecourses.txt")
            try:
                self._responses[participant] = self._read(path)
            except InputError as error:
                self.left_out[participant] = str(error)
        if not self._responses:
            raise InputError(f"{self.root}: no usable participant; " + "; ".join(self.left_out.values()))
        lengths = {participant: len(responses) for participant, responses in self._responses.items()}
        usual = statistics.mode(lengths.values())
        for participant in [participant for participant, length in lengths.items() if length != usual]:
            found = f"found {lengths[participant]} volumes, expected {usual} as in others"
            self.left_out[participant] = f"{participant}: {found}"
            del self._responses[participant]

    def _one(self, what: str, found: Sequence[Path], *names: str) -> Path:
        """The one file that is meant: the only one that has one of the names, else the only one `found`."""
        named = [path for name in names for path in listed(self.root, name)]
        if len(chosen := named or found) != 1:
            which = f" ({', '.join(path.name for path in chosen)})" if chosen else ""
            raise InputError(
                f"{self.root}: found {len(chosen)} {what}s{which}, expected one, such as {' or '.join(names)}"
            )
        return chosen[0]

    @property
    def words_file(self) -> Path:
        """TextGrid of the words."""
        grids = [path for path in listed(self.root) if path.suffix.lower() == ".textgrid"]
        return self._one("TextGrid", grids, "words.TextGrid", f"{DEPOSIT}_pad_1.TextGrid")

    def _read(self, path: Path) -> np.ndarray:
        expected = f"expected {len(REGIONS)} numbers a row: {' '.join(REGIONS)}"
        path = require_file(path)
        try:
            responses = np.loadtxt(path, ndmin=2, encoding="utf-8-sig")
        except ValueError:
            raise InputError(f"{path}: rows of unequal length or not numbers, {expected}") from None
        if responses.shape[1] != len(REGIONS):
            raise InputError(f"{path}: found shape {responses.shape}, {expected}")
        require_usable(responses, path)
        return responses

    @property
    def participants(self) -> tuple[str, ...]:
        """Participants whose file can be used."""
        return tuple(self._responses)

    def files(self, participants: Sequence[str]) -> list[Path]:
        """Files of participants' time courses."""
        return [self._folder / f"{participant}-timecourses.txt" for participant in participants]

    def stories(self, participant: str) -> tuple[str, ...]:
        """The one story."""
        self._require(participant)
        return (STORY,)

    def audio_file(self, story: str = STORY) -> Path:
        """The recording: the only audio file in the folder, or the deposit's."""
        found = [path for path in listed(self.root) if path.suffix in {".flac", ".wav", ".ogg"}]
        return self._one("audio file", found, f"{DEPOSIT}_pad.wav")

    def audio(self, story: str = STORY) -> np.ndarray:
        """Audio of the story: (samples,) float32, mono, 16 kHz."""
        return audio.read_audio(self.audio_file())

    def words(self, story: str = STORY) -> list[labels.Word]:
        """Words of the story, in seconds after the start of its audio, which is the scanner's."""
        return labels.read_words(self.words_file)

    def phones(self, story: str = STORY) -> list[textgrid.Interval]:
        """Not annotated in this dataset."""
        raise MissingTier(f"{self.words_file}: has no phone tier; this dataset gives word times alone")

    def responses(self, participant: str, story: str = STORY) -> np.ndarray:
        """Time courses in scanner units; (TRs, 6) float64, columns as in `REGIONS`."""
        self._require(participant)
        return self._responses[participant]

    def tr_times(self, participant: str | None = None, story: str = STORY) -> np.ndarray:
        """When the acquisition of each TR began, from volume 10 on, the same for all; seconds, (TRs,) float64."""
        n_rows = len(next(iter(self._responses.values())))
        return timing.row_times(n_rows, self.tr, UNSTORED_VOLUMES, sound_start=0.0, row_offset=self.row_offset)

    def check(self, stories: Mapping[str, Sequence[str]] | None = None) -> list[str]:
        """Read the recording and the words, to know before long work what is wrong with them."""
        file, last = self.audio_file(), self.tr_times()[-1]
        words = self.words()
        duration = check_speech(self.audio(), file, words, self.words_file)
        textgrid.check_within(words, duration, self.words_file)
        if not last < duration + 30:
            found = f"the audio lasts {duration:.1f} s and the last volume was acquired at {last:.1f} s"
            raise InputError(f"{file}: {found}, expected within 30 s of its end")
        return labels.notes(self.words_file)

    def _require(self, participant: str) -> None:
        if participant not in self._responses:
            reason = self.left_out.get(participant, "no such participant")
            raise InputError(f"{reason}; usable participants: {', '.join(self.participants)}")
