"""Interface of a dataset, whatever its files look like."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from braintuning.cortex.subject import Cortex
from braintuning.datasets.audio import require_signal
from braintuning.datasets.labels import Word
from braintuning.datasets.textgrid import Interval
from braintuning.errors import InputError
from braintuning.timing import SAMPLE_RATE


class Dataset(Protocol):
    """Audio, words and responses of people who listened to stories.

    Times are seconds after the start of the story's audio. Every method raises `InputError`, naming the file, when it
    cannot give what was asked for.
    """

    root: Path
    row_offset: float
    """How many TRs after its volume's start a row is read, where `tr_times` lies."""

    @property
    def participants(self) -> tuple[str, ...]:
        """Participants whose responses are here."""

    def stories(self, participant: str) -> tuple[str, ...]:
        """Stories that a participant heard, by name."""

    def audio_file(self, story: str) -> Path:
        """Recording of a story."""

    def audio(self, story: str) -> np.ndarray:
        """Audio of a story: (samples,) float32, mono, 16 kHz."""

    def words(self, story: str) -> list[Word]:
        """Words of a story, in the one spelling of `labels.word_of`, with their times and labels."""

    def phones(self, story: str) -> list[Interval]:
        """Phones of a story, labelled as `labels.without_stress` reads them, with their times."""

    def tr_times(self, participant: str, story: str) -> np.ndarray:
        """When each TR of a participant's responses to a story is read, a TR apart; (TRs,) float64."""

    def responses_file(self, participant: str, story: str) -> Path:
        """File of a participant's responses to a story."""

    def responses(self, participant: str, story: str, voxels: np.ndarray | None = None) -> np.ndarray:
        """Responses, z-scored; (TRs, voxels) float32, of the voxels where (n_voxels,) bool `voxels` is True."""

    def n_repeats(self, participant: str, story: str) -> int:
        """Presentations of a story whose responses are stored one by one."""

    def repeats(self, participant: str, story: str) -> np.ndarray:
        """Responses to each presentation; (repeats, TRs, voxels) float32."""

    def n_voxels(self, participant: str) -> int:
        """Number of a participant's voxels."""

    def cortex(self, participant: str) -> Cortex:
        """Where the voxels lie: surface, regions, and the way from voxels to vertices."""

    def check(self, stories: Mapping[str, Sequence[str]]) -> Sequence[str]:
        """Read what a study needs of {participant: stories}, before long work; a line for each file usable in part."""


def check_speech(audio: np.ndarray, audio_file: Path, words: Sequence[Interval], words_file: Path) -> float:
    """Seconds of a recording; `InputError` unless it has words and goes on throughout them."""
    if not words:
        raise InputError(f"{words_file}: found no word in tier 'word', expected at least one")
    require_signal(audio, audio_file, within=(words[0].start, words[-1].end))
    return len(audio) / SAMPLE_RATE
