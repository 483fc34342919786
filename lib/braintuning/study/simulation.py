"""Section of a study file that describes simulated listeners, and what all sections are made of."""

import os
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from braintuning.errors import InputError

Count = Annotated[int, Field(ge=1)]
Seconds = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Folder = Annotated[str, AfterValidator(os.path.expanduser)]
NUMBER, BY_NAME = "(a number)", "(by name)"
NUMBER_OR_BY_NAME = Discriminator(lambda value: BY_NAME if isinstance(value, Mapping) else NUMBER)


def tagged(kind: Any) -> Any:  # noqa: ANN401
    """A type that stands for one number, or for numbers by name, in a union under `NUMBER_OR_BY_NAME`."""
    return Annotated[kind, Tag(BY_NAME if getattr(kind, "__origin__", None) is Mapping else NUMBER)]


TRs = Annotated[tagged(Positive) | tagged(Mapping[str, Positive]), NUMBER_OR_BY_NAME]
"""One number of seconds, or one for each participant."""
Volumes = Annotated[tagged(Count) | tagged(Mapping[str, Count]), NUMBER_OR_BY_NAME]
OfStory = Annotated[tagged(Seconds) | tagged(Mapping[str, Seconds]), NUMBER_OR_BY_NAME]
Starts = Annotated[tagged(Seconds) | tagged(Mapping[str, OfStory]), NUMBER_OR_BY_NAME]
"""One number of seconds, or one for each participant, each story, or each story of each participant."""
Responding = Literal["primary_auditory", "early_auditory", "late_language"]
"""Groups of regions that respond to a story."""


class Section(BaseModel):
    """A part of a study file. Its own checks raise `InputError`, whose sentence reaches the user as it stands."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Simulation(Section):
    """Simulated listeners, to the project's stories or to those of a copy of ds003020.

    `textgrids` is a folder with `TextGrids/` and `respdict.json`, in itself or in its derivatives: their stories are
    spoken at the times of their words. `words` limits the project's stories. Listeners respond at every cortex vertex,
    or at those nearest to `points_per_hemisphere` points.

    `shares` gives groups of regions other shares of spectrum, articulation and meaning than `demo.listeners.SHARES`.
    Without `meaning` the last is the share of vectors drawn anew for every word that is said: as repeatable, and
    nothing to learn.

    Everything else is off by default. `noise_fwhm` is how smooth noise is over the cortex, in mm, full width at half
    maximum; `drift_share` the share of its variance in drift slower than two minutes. `response_peaks` are the earliest
    and latest peak of a haemodynamic response, in seconds, and `response_widths` the narrowest and widest, relative to
    the canonical one; each person's regions differ within them. `attention` is the least share of a story that a
    listener follows, the most being 1. `noise` says of some listeners how many times as large the standard deviation of
    their noise is as it would be.
    """

    seed: int = 0
    repeats: Annotated[int, Field(ge=2)] = 5
    meaning_components: Count = 10
    words: Count | None = None
    textgrids: Folder | None = None
    points_per_hemisphere: Annotated[int, Field(ge=100, le=32_000)] | None = None
    meaning: bool = True
    shares: Mapping[Responding, tuple[Share, Share, Share]] = Field(default_factory=dict)
    noise_fwhm: Annotated[float, Field(ge=0, le=15)] = 0.0
    drift_share: Annotated[float, Field(ge=0, lt=1)] = 0.0
    response_peaks: tuple[Annotated[float, Field(ge=2, le=10)], Annotated[float, Field(ge=2, le=10)]] = (5.0, 5.0)
    response_widths: tuple[Annotated[float, Field(ge=0.5, le=2)], Annotated[float, Field(ge=0.5, le=2)]] = (1.0, 1.0)
    attention: Annotated[float, Field(gt=0, le=1)] = 1.0
    noise: Mapping[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.textgrids and self.words:
            raise InputError("found `words` beside `textgrids` in `simulation`, expected whole stories with TextGrids")
        for group, shares in self.shares.items():
            if abs(sum(shares) - 1) > 1e-6:
                found = f"found `shares` of {group} that sum to {sum(shares):g} in `simulation`"
                raise InputError(f"{found}, expected 1, over spectrum, articulation and meaning")
        for key in ("response_peaks", "response_widths"):
            low, high = getattr(self, key)
            if low > high:
                raise InputError(f"found `{key}` from {low:g} to {high:g} in `simulation`, expected the smaller first")
        return self
