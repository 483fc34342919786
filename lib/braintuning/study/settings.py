"""What a study file may say: one frozen model a section, unknown keys refused.

Every field that the paper fixes carries the paper's value as its default, so a study file states only where it differs.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Condition = Literal[
    "pretrained", "brain-tuned", "random-brain-tuned", "bigslm-tuned", "lm-tuned", "stimulus-tuned", "multi-brain-tuned"
]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]*$")]
Changes = Mapping[str, float | int | str | None]
DatasetKind = Annotated[str, Field(pattern=r"^(lebel|alice|[A-Za-z_][\w.]*:[A-Za-z_]\w*)$")]


class Section(BaseModel):
    """A part of a study file."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Stories(Section):
    """Stories by name and by use."""

    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    test: tuple[str, ...]
    held_out: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every story once, in order of use."""
        return tuple(dict.fromkeys(self.train + self.validation + self.test + self.held_out))


class Simulation(Section):
    """Listeners made by `simulate.py`."""

    seed: int = 0
    repeats: Annotated[int, Field(ge=2)] = 5
    meaning_components: Count = 10
    words: Count | None = None


class Dataset(Section):
    """Where the recordings lie and in which layout, and when rows were acquired.

    Row i is volume `i + unstored_volumes`, taken to be acquired `row_offset` TRs after its start; the sound started
    `sound_starts` seconds after the first volume.
    """

    kind: DatasetKind
    root: str
    tr: Positive = 2.0045
    row_offset: Annotated[float, Field(ge=0, le=1)] = 0.0
    unstored_volumes: Annotated[int, Field(ge=0)] = 10
    sound_starts: Annotated[float, Field(ge=0)] = 10.0
    voxels: Mapping[str, Count] = Field(default_factory=dict)
    fsaverage: str | None = None
    coarse_regions: bool = False
    simulation: Simulation | None = None


class Backbone(Section):
    """A pretrained speech model."""

    name: str
    pad_to_30s: bool = True
    teacher: str | None = None
    conditions: tuple[FolderName, ...] | None = None


class Tuning(Section):
    """Brain-tuning: Moussa, Klakow & Toneva (2025), section 3 and appendix."""

    clip_seconds: Positive = 10.0
    epochs: Count = 30
    patience: Count = 3
    batch_size: Count = 128
    trunk_learning_rate: Positive = 5e-5
    head_learning_rate: Positive = 1e-4
    warmup_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.1
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    permutation_block_rows: Count = 10
    loss: Literal["l2", "correlation", "cosine + l2"] = "l2"
    lora_rank: Count | None = None
    lora_alpha: Positive = 32.0
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    seed: int = 0


class Variant(Section):
    """A condition under a name of its own, tuned with other settings."""

    condition: Condition
    tuning: Changes = Field(default_factory=dict)


class Controls(Section):
    """What the controls that learn from other models learn from."""

    text_models: tuple[str, ...] = ("openai-community/gpt2-medium",)
    n_targets: Count | None = None


class Features(Section):
    """Sliding windows over a story, read out layer by layer."""

    window_seconds: Positive = 16.0
    hop_seconds: Positive = 0.1
    step_seconds: Positive = 0.1
    batch_size: Count = 16


class Encoding(Section):
    """Ridge regression from features to responses, and what its score is divided by."""

    delays: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (1, 2, 3, 4)
    log10_alpha_min: float = 1.0
    log10_alpha_max: float = 4.0
    n_alphas: Count = 15
    validation_splits: Count = 3
    validation_chunk_rows: Count = 20
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.25
    test_skip_rows: Annotated[int, Field(ge=0)] = 40
    ceiling_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.4
    mask_from: Literal["test", "validation"] = "test"
    permutation_block_rows: Count = 10
    permutations: Count = 1000
    folds: Annotated[int, Field(ge=2)] | None = None
    high_pass_seconds: Positive | None = None
    seed: int = 0


class LowLevel(Section):
    """Low-level features that are taken out of the models; from which layers, fitted on which stories (empty: all)."""

    features: tuple[Literal["power_spectrum", "articulation", "diphones", "triphones", "textual"], ...] = (
        "power_spectrum",
        "diphones",
        "triphones",
        "articulation",
    )
    layers: tuple[int, ...] = ()
    stories: tuple[str, ...] = ()


class Preference(Section):
    """Pairs of spoken words that semantic preference is measured with.

    `recordings` is a folder of aligned recordings of people for a second table; where it is absent there is none.
    """

    voices: Annotated[tuple[str, ...], Field(min_length=2)] = ("clara", "edmund", "rosa", "tobias")
    n_pairs: Annotated[int, Field(ge=2)] = 300
    recordings: str | None = None
    seed: int = 0


TaskName = Literal["phonemes", "sentence_type", "word_identity", "emotion", "intent", "asr", "asr_tuned", "mfcc"]


class Probes(Section):
    """Downstream tasks, and folders of the corpora they are measured on; without one, what the voices speak."""

    tasks: tuple[TaskName, ...] = ()
    corpora: Mapping[TaskName, str] = Field(default_factory=dict)
    seed: int = 0


class Figures(Section):
    """What the study draws."""

    notebooks: tuple[str, ...]
    layer: int = -1
    backbone: FolderName | None = None
    base_and_large: tuple[FolderName, FolderName] | None = None
    story_counts: tuple[Count, ...] = ()
    published_counts: Mapping[str, Count] = Field(default_factory=dict)
