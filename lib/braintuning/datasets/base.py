"""Interface of a dataset, whatever its files look like."""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path

import numpy as np

from braintuning.cortex.subject import Cortex
from braintuning.datasets.audio import read_audio
from braintuning.datasets.textgrid import Interval


class Dataset:
    """Audio, words and responses of people who listened to stories; adapters inherit from it.

    Times are seconds after the start of the story's audio. Every method raises `InputError`, naming the file, when it
    cannot give what was asked for. Those with a body say what holds of most data.
    """

    root: Path
    row_offset: float
    """How many TRs after its volume's start a row is read, where `tr_times` lies."""
    between_people = False
    """Whether noise ceilings are measured between people, from `everyone`, and not from repeats."""
    voxels_are_regions = False
    """Whether each voxel is a region of its own, with one of `region_names`."""
    filters_stories = False
    """Whether `filtering` changes features, which takes the story that responses were filtered with."""

    @property
    def participants(self) -> tuple[str, ...]:
        """Participants whose responses are here."""

    def stories(self, participant: str) -> tuple[str, ...]:
        """Stories that a participant heard, by name."""

    def audio_file(self, story: str) -> Path:
        """Recording of a story."""

    def audio(self, story: str) -> np.ndarray:
        """Audio of a story: (samples,) float32, mono, 16 kHz."""
        return read_audio(self.audio_file(story))

    def words(self, story: str) -> list[Interval]:
        """Words of a story, in the one spelling of `labels.word_of`, with their times and labels."""

    def phones(self, story: str) -> list[Interval]:
        """Phones of a story, labelled as `labels.without_stress` reads them, with their times."""

    def seconds(self, story: str) -> tuple[float, float]:
        """First and last second of the audio that belong to a story: all of them."""
        return -inf, inf

    def tr_times(self, participant: str, story: str) -> np.ndarray:
        """When each TR of a participant's responses to a story is read, a TR apart; (TRs,) float64."""

    def responses_file(self, participant: str, story: str) -> Path:
        """File of a participant's responses to a story."""

    def responses(self, participant: str, story: str, voxels: np.ndarray | None = None) -> np.ndarray:
        """Responses, z-scored; (TRs, voxels) float32, of the voxels where (n_voxels,) bool `voxels` is True."""

    def n_repeats(self, participant: str, story: str) -> int:
        """Presentations of a story whose responses are stored one by one."""
        return 1

    def repeats(self, participant: str, story: str) -> np.ndarray:
        """Responses to each presentation; (repeats, TRs, voxels) float32."""
        return self.responses(participant, story)[None]

    def n_voxels(self, participant: str) -> int:
        """Number of a participant's voxels."""

    def cortex(self, participant: str) -> Cortex:
        """Where the voxels lie: surface, regions, and the way from voxels to vertices."""

    def people(self, participant: str, story: str) -> tuple[str, ...]:
        """Between whom a participant's noise ceiling of a story is measured: nobody else."""
        return (participant,)

    def everyone(self, participant: str, story: str) -> np.ndarray:
        """Responses of `people` at a participant's times; (people, TRs, voxels) float32."""

    def region_names(self, participant: str) -> tuple[str, ...]:
        """Names of a participant's voxels, of which each may be a region: their numbers."""
        return tuple(map(str, range(self.n_voxels(participant))))

    def filtering(
        self, participant: str, story: str, times: np.ndarray
    ) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
        """Times at which features must be computed, (n,) float64, and a function that takes features there.

        It filters features, (..., n, dim), as a participant's responses to the story were, and gives those at `times`,
        (lead + TRs,), in their dtype. By default they are computed at `times` and left as they are.
        """
        return times, lambda features: features

    def reach(self, story: str) -> float:
        """Seconds over which a low-pass has spread the responses to a story: none."""
        return 0.0

    def check(self, stories: Mapping[str, Sequence[str]]) -> Sequence[str]:
        """Read what a study needs of {participant: stories}, before long work; a line for each file usable in part."""
