"""Sections of a study file: one frozen pydantic model each, unknown keys refused.

Every default that the paper fixes is the paper's value, so a study file states only where it differs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from braintuning.errors import InputError
from braintuning.results import REPOSITORY
from braintuning.study.recordings import Recording
from braintuning.study.simulation import Count, Folder, Positive, Section, Simulation, Starts, TRs

Condition = Literal[
    "pretrained",
    "brain-tuned",
    "random-brain-tuned",
    "brain-misaligned",
    "bigslm-tuned",
    "lm-tuned",
    "stimulus-tuned",
    "multi-brain-tuned",
    "multi-random-brain-tuned",
]
LowLevelFeature = Literal["power_spectrum", "articulation", "diphones", "triphones", "textual"]
Removal = Literal["every lag", "tr by tr"]
"""Where low-level features are taken from: the delayed design, or the model's TRs before they are delayed."""
TaskName = Literal["phonemes", "sentence_type", "word_identity", "emotion", "intent", "asr", "asr_tuned", "mfcc"]
DatasetKind = Annotated[str, Field(pattern=r"^(lebel|parcels|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$")]
FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
ShareOfTR = Annotated[float, Field(ge=0, le=1)]
Changes = Mapping[str, float | int | str | None]
"""Keys of `tuning` with other values."""


class Stories(Section):
    """Stories by name and by use; each has one use. Models are tuned on `train` and then on `tuning_only`."""

    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    test: tuple[str, ...]
    held_out: tuple[str, ...] = ()
    tuning_only: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every story, in order of use."""
        return self.train + self.validation + self.test + self.held_out + self.tuning_only

    @model_validator(mode="after")
    def _are_names_used_once(self) -> Self:
        if len(set(self.all)) < len(self.all):
            raise InputError("a story is used twice in `stories`, expected once")
        if slashed := [story for story in self.all if "/" in story]:
            raise InputError(f"found story {slashed[0]!r} in `stories`, expected a name without a slash, as of a file")
        return self


class DatasetSettings(Section):
    """Folder and layout of the recordings, and when TRs were acquired.

    Sample i of a response is volume `i + unstored_volumes`; an encoding model reads it `row_offset` TRs after the
    volume's start. The audio started `sound_starts` seconds after the first trigger; None: as the story's trigger log
    says, else `timing.SOUND_START`. Both can differ by participant, and the latter by story.
    """

    kind: DatasetKind
    root: Folder
    tr: TRs = 2.0045
    row_offset: ShareOfTR = 0.5
    unstored_volumes: Annotated[int, Field(ge=0)] = 10
    sound_starts: Starts | None = None
    voxels: Mapping[str, Count] = Field(default_factory=dict)
    fsaverage: Folder | None = None
    coarse_regions: bool = False
    simulation: Simulation | None = None
    recordings: Mapping[str, Recording] = Field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Participants who have numbers of their own in `recordings`."""
        return [name for recording in self.recordings.values() for name in recording.names]

    @property
    def stories(self) -> list[str]:
        """Stories of the `recordings`."""
        return [story for name, recording in self.recordings.items() for story in recording.stories(name)]

    @model_validator(mode="after")
    def _times_are_not_its_own(self) -> Self:
        of_recordings = ("tr", "unstored_volumes", "sound_starts", "voxels", "simulation")
        of_adapters = ("row_offset", "unstored_volumes", "sound_starts")
        fixed = {"lebel": (), "parcels": of_recordings}.get(self.kind, of_adapters)
        for key in fixed:
            if getattr(self, key) != type(self).model_fields[key].get_default(call_default_factory=True):
                expected = f"expected none with kind {self.kind!r}, which has its own"
                raise InputError(f"found `{key}` in `dataset`, {expected}")
        if (self.kind == "parcels") != bool(self.recordings):
            found = f"found {len(self.recordings)} `recordings` in `dataset` of kind {self.kind!r}"
            raise InputError(f"{found}, expected some with kind 'parcels', and none with another")
        if len(set(self.stories)) < len(self.stories):
            raise InputError("two `recordings` in `dataset` have a part of one name, expected a name for each story")
        return self


class Backbone(Section):
    """A pretrained speech model; `teacher` is the larger one that bigslm-tuning learns from."""

    name: str
    pad_to_30s: bool = True
    teacher: str | None = None
    conditions: tuple[FolderName, ...] | None = None


class Tuning(Section):
    """Brain-tuning as in Moussa, Klakow & Toneva (2025), section 3 and appendix, and alternatives.

    A clip is the `clip_seconds` up to `clip_ends` TRs after its volume's start: at a TR of 2 s, the TR itself and the
    four before it. By default each clip is one pass. With `context_seconds`, one pass over a stretch of that length, a
    span, predicts every volume whose clip lies in it; states of frames then depend on later audio of the span too.
    Targets are voxels, as in the paper, or principal components (`n_components`; None: by validation). The head starts
    at zero or as the ridge solution on the untuned model. `pooling` is how the frames of a clip are weighted, and
    `keep_weight` the weight of a penalty on the distance from the untuned model's states.
    """

    targets: Literal["voxels", "components"] = "voxels"
    n_components: Count | None = None
    head_start: Literal["zero", "ridge"] = "zero"
    clip_seconds: Positive = 10.0
    clip_ends: ShareOfTR = 1.0
    context_seconds: Annotated[float, Field(ge=0)] = 0.0
    pooling: Literal["mean", "haemodynamic", "learned"] = "mean"
    keep_weight: Annotated[float, Field(ge=0)] = 0.0
    epochs: Count = 30
    patience: Count = 3
    batch_size: Count = 128
    trunk_learning_rate: Positive = 5e-5
    head_learning_rate: Positive = 1e-4
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    permutation_block_rows: Count = 10
    loss: Literal["l2", "spatial correlation", "cosine + huber"] = "l2"
    lora_rank: Count | None = None
    lora_alpha: Positive = 32.0
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    seed: int = 0

    @model_validator(mode="after")
    def _spans_hold_a_clip(self) -> Self:
        if 0 < self.context_seconds < self.clip_seconds:
            found = f"found `context_seconds` {self.context_seconds:g} in `tuning`"
            raise InputError(f"{found}, expected 0 or at least `clip_seconds`, {self.clip_seconds:g}")
        if self.targets == "components" and self.loss != "l2":
            raise InputError(
                f"found `loss` {self.loss!r} with `targets` 'components', expected 'l2': patterns are of voxels"
            )
        return self


class Variant(Section):
    """A condition under another name, tuned with other settings or on less data.

    `n_stories` limits tuning to the first of its training stories, and `n_together` joint tuning to the first of the
    participants tuned together. Only Figure B compares variants, unless they are `in_every_figure`.
    """

    condition: Condition
    tuning: Changes = Field(default_factory=dict)
    n_stories: Count | None = None
    n_together: Annotated[int, Field(ge=2)] | None = None
    in_every_figure: bool = False

    @model_validator(mode="after")
    def _together_where_several_are(self) -> Self:
        if self.n_together and not self.condition.startswith("multi-"):
            raise InputError(f"found `n_together` with {self.condition} in `variants`, expected it with joint tuning")
        return self


class Controls(Section):
    """Language models whose states lm-tuning learns, and the number of targets of the controls."""

    text_models: tuple[str, ...] = ("openai-community/gpt2-medium",)
    n_targets: Count | None = None


class Features(Section):
    """Sliding windows over a story, from which the features of every layer are taken.

    Of a window's tokens all but the last depend on later audio too, up to `hop_seconds` and half of it on average, and
    alignment rises with it (`benchmarks/results/hop.md`). Compare models only at the same hop; at the paper's, a tenth
    of a second, no token depends on later audio.
    """

    window_seconds: Positive = 16.0
    hop_seconds: Positive = 0.1
    step_seconds: Positive = 0.1
    batch_size: Count = 16

    @model_validator(mode="after")
    def _windows_hold_every_step(self) -> Self:
        shortest = min(self.hop_seconds, self.window_seconds)
        if self.step_seconds > shortest:
            found = f"found `step_seconds` {self.step_seconds:g} in `features`"
            raise InputError(f"{found}, expected at most {shortest:g}, the shorter of hop and window")
        return self


class Encoding(Section):
    """Ridge regression from features to responses, and the noise ceiling that its score is divided by.

    Voxels are used if their ceiling is above `ceiling_threshold`, or if their responses repeat at a false discovery
    rate of .05 (`mask_by`). For a participant without a training story, encoding models predict each of `folds`
    contiguous blocks of a test story from the others. `high_pass_seconds` is for parcellated responses: slower drifts
    are removed from them and from features, story by story.
    """

    delays: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (1, 2, 3, 4)
    log10_alpha_min: float = 1.0
    log10_alpha_max: float = 4.0
    n_alphas: Count = 15
    validation_splits: Count = 3
    validation_chunk_rows: Count = 20
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.25
    test_skip_rows: Annotated[int, Field(ge=0)] = 40
    ceiling_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.4
    mask_from: Literal["test", "validation", "train"] = "test"
    mask_by: Literal["ceiling", "false discovery rate"] = "ceiling"
    permutation_block_rows: Count = 10
    permutations: Count = 1000
    folds: Annotated[int, Field(ge=2)] | None = None
    high_pass_seconds: Positive | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _penalties_ascend(self) -> Self:
        if self.log10_alpha_min > self.log10_alpha_max:
            found = f"found `log10_alpha_min` {self.log10_alpha_min:g} in `encoding`"
            raise InputError(f"{found}, expected at most `log10_alpha_max`, {self.log10_alpha_max:g}")
        return self


class LowLevel(Section):
    """Low-level features to remove, from which layers, and the stories that this is fitted to (empty: all).

    They are removed in both ways; `removal` is the one that figures draw and claims are judged by.
    """

    features: tuple[LowLevelFeature, ...] = ("power_spectrum", "diphones", "triphones", "articulation")
    layers: tuple[int, ...] = ()
    stories: tuple[str, ...] = ()
    removal: Removal = "tr by tr"


class Preference(Section):
    """Pairs of synthesised words for semantic preference; `recordings`: a folder of speech for a second table."""

    voices: Annotated[tuple[str, ...], Field(min_length=2)] = ("clara", "edmund", "rosa", "tobias")
    n_pairs: Annotated[int, Field(ge=2)] = 300
    recordings: Folder | None = None
    seed: int = 0


class Probes(Section):
    """Downstream tasks, and the folders of their corpora; a task without one uses synthesised speech.

    With `stand_in_where_absent`, so does a task whose folder is absent, which is an error otherwise.
    """

    tasks: tuple[TaskName, ...] = ()
    corpora: Mapping[TaskName, Folder] = Field(default_factory=dict)
    stand_in_where_absent: bool = False
    seed: int = 0

    def corpus(self, task: str) -> Path | None:
        """Folder of the corpus that a task is measured on; None where that is synthesised speech."""
        folder = REPOSITORY / self.corpora[task] if task in self.corpora else None
        return None if folder and self.stand_in_where_absent and not folder.is_dir() else folder


class Figures(Section):
    """Notebooks to draw, and what they show."""

    notebooks: tuple[str, ...]
    layer: int = -1
    backbone: FolderName | None = None
    base_and_large: tuple[FolderName, FolderName] | None = None
    story_counts: tuple[Count, ...] = ()
    published_counts: Mapping[str, Count] = Field(default_factory=dict)
