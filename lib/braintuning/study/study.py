"""A study: dataset, participants, backbones, conditions and hyper-parameters, read from one YAML file."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import chain
from os import environ
from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import Field, PrivateAttr, ValidationError, model_validator

from braintuning.errors import InputError, nearest
from braintuning.results import REPOSITORY, fingerprint
from braintuning.study import settings as sections
from braintuning.study.by_name import names_in, own
from braintuning.study.messages import explain
from braintuning.study.recordings import GROUP
from braintuning.study.run import Run
from braintuning.study.settings import Changes, Condition, FolderName, Section, Stories, Tuning
from braintuning.study.uses import require_stories

TUNED_ON_ONE = ("brain-tuned", "random-brain-tuned", "brain-misaligned")
"""Conditions with a model for each participant; of the others a backbone has one model for all."""
TUNED_ON_SEVERAL = ("multi-brain-tuned", "multi-random-brain-tuned")
JOINT_TUNING: Changes = {"lora_rank": 8, "trunk_learning_rate": 1e-4}
"""`joint_tuning` where a study does not say otherwise: that of the authors' multi-participant code."""


class Study(Section):
    """Everything that decides the numbers of a study."""

    name: FolderName
    title: str
    dataset: sections.DatasetSettings
    participants: tuple[FolderName, ...] = ()
    stories: Stories
    lacks: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    backbones: Mapping[FolderName, sections.Backbone] = Field(min_length=1)
    conditions: tuple[FolderName, ...]
    variants: Mapping[FolderName, sections.Variant] = Field(default_factory=dict)
    tuned_together: tuple[FolderName, ...] = ()
    joint_tuning: Changes = Field(default_factory=dict)
    joint_responses: Literal["each", "mean"] = "each"
    controls: sections.Controls = Field(default_factory=sections.Controls)
    tuning: Tuning = Field(default_factory=Tuning)
    features: sections.Features = Field(default_factory=sections.Features)
    encoding: sections.Encoding = Field(default_factory=sections.Encoding)
    low_level: sections.LowLevel = Field(default_factory=sections.LowLevel)
    preference: sections.Preference = Field(default_factory=sections.Preference)
    probes: sections.Probes = Field(default_factory=sections.Probes)
    figures: sections.Figures
    _file: Path | None = PrivateAttr(None)
    _root: str | None = PrivateAttr(None)

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        for key in ("participants", "conditions", "tuned_together"):
            if len(set(names := getattr(self, key))) < len(names):
                raise InputError(f"key `{key}`: a name stands there twice, expected once")
        all_conditions = (*get_args(Condition), *self.variants)
        of_backbones = chain(*(backbone.conditions or () for backbone in self.backbones.values()))
        in_figures = (*(self.figures.base_and_large or ()), self.figure_backbone)
        notebooks = [path.stem for path in (REPOSITORY / "notebooks").glob("*.ipynb")]
        for what, names, valid, where in (
            ("participant", self.lacks, self.listeners, "lacks"),
            ("story", chain(*self.lacks.values()), self.stories.all, "lacks"),
            ("condition", self.conditions, all_conditions, "conditions"),
            ("condition", of_backbones, self.conditions, "backbones"),
            ("backbone", in_figures, self.backbones, "figures"),
            ("story", self.low_level.stories, self.stories.train, "low_level: stories` among those of `stories: train"),
            ("participant", self.dataset.voxels, self.participants, "voxels"),
            ("participant", names_in(self.dataset.tr), self.participants, "tr"),
            ("participant", self.dataset.names, ("*", *self.participants), "recordings"),
            ("story", self.stories.all, self.dataset.stories or self.stories.all, "stories"),
            ("name", names_in(self.dataset.sound_starts), self.participants + self.stories.all, "sound_starts"),
            ("participant", self.figures.published_counts, self.participants, "published_counts"),
            ("notebook", self.figures.notebooks, notebooks, "figures"),
            ("participant", self.tuned_together, self.participants, "tuned_together"),
            ("participant", (self.dataset.simulation or sections.Simulation()).noise, self.participants, "noise"),
            ("key", self.joint_tuning, Tuning.model_fields, "joint_tuning"),
            ("key", chain(*(v.tuning for v in self.variants.values())), Tuning.model_fields, "variants"),
        ):
            if unknown := [name for name in names if name not in valid]:
                raise InputError(f"unknown {what} {unknown[0]!r} in `{where}`{nearest(unknown[0], valid)}")
        for participant in self.participants:
            own(self.dataset.tr, "tr", participant)
        return self

    @model_validator(mode="after")
    def _conditions_have_what_they_need(self) -> Self:
        if clash := sorted(set(self.variants) & {*get_args(Condition), "chance", "nuisance"}):
            raise InputError(f"variant {clash[0]!r} has the name of a condition or reference, expected its own")
        for condition in self.conditions:
            try:
                self.tuning_of(condition)
            except ValidationError as error:
                raise InputError(f"condition {condition!r}: {explain(error, Tuning)}") from None
            needed = getattr(self.variants.get(condition), "n_together", None) or 2
            if self.base(condition) in TUNED_ON_SEVERAL and len(self.tuned_together) < needed:
                expected = f"expected at least {needed} for {condition}"
                raise InputError(f"found {len(self.tuned_together)} participants in `tuned_together`, {expected}")
        named = {}
        for run in self.runs():
            if self.base(run.condition) == "bigslm-tuned" and not self.backbones[run.backbone].teacher:
                raise InputError(f"backbone {run.backbone!r} has no `teacher`, expected a larger speech model")
            if (other := named.setdefault(run.name, run)) != run:
                raise InputError(f"{run} and {other}: found one name, {run.name}, for the results of both")
        require_stories(self)
        return self

    @property
    def source(self) -> tuple[Path, str | None]:
        """The YAML file that the study was read from, and the folder of the dataset where that was given beside it."""
        if self._file is None:
            raise InputError(f"study {self.name}: was not read from a file, expected one to run its workflow")
        return self._file, self._root

    @property
    def results(self) -> Path:
        """Folder of intermediate results."""
        return REPOSITORY / (environ.get("BRAINTUNING_RESULTS") or "data/results") / self.name

    @property
    def figures_folder(self) -> Path:
        """Folder of figures, their tables and the report."""
        return REPOSITORY / own / self.name if (own := environ.get("BRAINTUNING_FIGURES")) else self.results / "figures"

    @property
    def root(self) -> Path:
        """Folder of the dataset."""
        return REPOSITORY / self.dataset.root

    def stories_for(self, *participants: str) -> Stories:
        """Stories that the study uses of these participants or means: all but those that one of them lacks."""
        lacking = set(chain(*(self.lacks.get(participant, ()) for participant in participants)))
        return Stories(**{use: tuple(s for s in names if s not in lacking) for use, names in self.stories})

    @property
    def encoded_stories(self) -> tuple[str, ...]:
        """Stories that encoding models are fitted to or tested on."""
        return self.stories.train + self.stories.held_out + self.stories.test

    def low_level_stories(self, participant: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Stories of a participant that low-level residualisation is fitted to, and the test stories."""
        own = self.stories_for(participant)
        return tuple(story for story in self.low_level.stories or own.train if story in own.train), own.test

    @property
    def held_out(self) -> tuple[str, ...]:
        """Participants whom no joint model was tuned on."""
        return tuple(participant for participant in self.participants if participant not in self.tuned_together)

    @property
    def groups(self) -> tuple[str, ...]:
        """Means over people held out of a recording, which the steps treat like participants."""
        return tuple(name for name in self.lacks if name.startswith(GROUP))

    @property
    def listeners(self) -> tuple[str, ...]:
        """Participants, and means over them."""
        return self.participants + self.groups

    @property
    def tested(self) -> tuple[str, ...]:
        """Listeners who have a test story."""
        return tuple(listener for listener in self.listeners if self.stories_for(listener).test)

    @property
    def recordings(self) -> Path | None:
        """Folder of recordings of people for a second table of semantic preference; None where there is none here."""
        folder = self.preference.recordings and REPOSITORY / self.preference.recordings
        return folder if folder and folder.is_dir() else None

    @property
    def figure_backbone(self) -> str:
        """The backbone that figures of one model show: the one that the study names, else the first."""
        return self.figures.backbone or next(iter(self.backbones))

    @property
    def tuned_backbones(self) -> tuple[str, ...]:
        """Backbones with a condition other than pretrained."""
        return tuple(dict.fromkeys(run.backbone for run in self.tuned_runs())) or tuple(self.backbones)

    def conditions_of(self, backbone: str) -> tuple[str, ...]:
        """Conditions of one backbone: all of the study, or those that the backbone names."""
        named = self.backbones[backbone].conditions
        return tuple(c for c in self.conditions if named is None or c in named)

    def base(self, condition: str) -> Condition:
        """The condition that a name in `conditions` stands for: itself, or that of a variant."""
        return self.variants[condition].condition if condition in self.variants else condition

    def is_main(self, condition: str) -> bool:
        """Whether figures 2 to 5 show a condition: any but a variant that Figure B alone compares."""
        return condition not in self.variants or self.variants[condition].in_every_figure

    def tuning_of(self, condition: str) -> Tuning:
        """Settings that a condition is tuned with: those of the study, changed for joint tuning and for variants."""
        joint = {**JOINT_TUNING, **self.joint_tuning} if self.base(condition) in TUNED_ON_SEVERAL else {}
        changes = self.variants[condition].tuning if condition in self.variants else {}
        return Tuning(**{**self.tuning.model_dump(), **joint, **changes})

    def tuned_on(self, run: Run) -> tuple[str, ...]:
        """Participants whose responses a run learns from; none where it learns from something else, or not at all."""
        if self.base(run.condition) in TUNED_ON_SEVERAL:
            return self.tuned_together[: getattr(self.variants.get(run.condition), "n_together", None)]
        return (run.participant,) if run.participant else ()

    def tuning_stories(self, run: Run) -> Stories:
        """Stories that a run is tuned with, all under `train`: those of all its participants, or a variant's first."""
        shared = self.stories_for(*self.tuned_on(run))
        heard = (shared.train + shared.tuning_only)[: getattr(self.variants.get(run.condition), "n_stories", None)]
        return shared.model_copy(update={"train": heard, "tuning_only": ()})

    def runs(self) -> Iterator[Run]:
        """Every model of the study: backbone by backbone, condition by condition, participant by participant."""
        for backbone in self.backbones:
            for condition in self.conditions_of(backbone):
                for participant in self.participants if self.base(condition) in TUNED_ON_ONE else (None,):
                    yield Run(backbone, condition, participant)

    def tuned_runs(self) -> Iterator[Run]:
        """Every model but the pretrained ones."""
        return (run for run in self.runs() if self.base(run.condition) != "pretrained")

    def main_runs(self) -> Iterator[Run]:
        """Every model of a condition that `is_main`."""
        return (run for run in self.runs() if self.is_main(run.condition))

    def alignments(self, runs: Iterable[Run] | None = None) -> Iterator[tuple[str, Run]]:
        """Every participant with every model (of `runs`, if given) that is compared on that participant."""
        tested = set(self.tested)
        for run in self.runs() if runs is None else runs:
            people = (run.participant,) if run.participant else self.participants
            yield from ((participant, run) for participant in people if participant in tested)

    def run(self, backbone: str, condition: str, participant: str | None = None) -> Run:
        """A run of this study, by its parts; `InputError` names the part that is not in the study."""
        self.require("backbone", backbone, self.backbones)
        self.require("condition", condition, self.conditions_of(backbone))
        if self.base(condition) not in TUNED_ON_ONE:
            return Run(backbone, condition)
        self.require("participant", participant, self.participants)
        return Run(backbone, condition, participant)

    def require(self, what: str, found: str | None, valid: Collection[str]) -> None:
        """Raise `InputError` unless `found` is among the `valid` names of `what`."""
        if found not in valid:
            raise InputError(f"study {self.name}: unknown {what} {found!r}{nearest(str(found), valid)}")

    def model_folder(self, run: Run) -> Path:
        """Where a tuned model lies."""
        return self.results / "models" / run.name

    def features_file(self, run: Run) -> Path:
        """Features of all stories from one model."""
        return self.results / "features" / f"{run.name}.h5"

    def scores_file(self, participant: str, run: Run, first: int | None = None) -> Path:
        """Voxel scores of one participant from one model, of all training stories or the `first`; a CSV beside it."""
        part = "" if first is None else f".first-{first}"
        return self.results / "alignment" / participant / f"{run.name}{part}.h5"

    def nuisance_file(self, participant: str) -> Path:
        """Voxel scores of one participant from word rate, envelope and position alone; a table by region beside it."""
        return self.results / "nuisance" / f"{participant}.h5"

    def low_level_file(self, participant: str, run: Run) -> Path:
        """Alignment of one participant with one model without low-level features; a table by region beside it."""
        return self.results / "low_level" / participant / f"{run.name}.h5"

    def low_level_features_file(self, participant: str) -> Path:
        """Low-level features of a participant's stories, one file for all who listened to the same."""
        stories = fingerprint(self.low_level_stories(participant))
        return self.results / "low_level" / f"features_{stories}.h5"

    def low_level_alone_file(self, participant: str) -> Path:
        """What low-level features explain of one participant by themselves."""
        return self.results / "low_level" / participant / "alone.h5"

    @property
    def words_file(self) -> Path:
        """Synthesised words of the pairs that semantic preference is measured with."""
        return self.results / "preference" / "words.h5"

    def preference_file(self, run: Run, recorded: bool = False) -> Path:
        """Similarities of word pairs in one model, synthesised or from recordings of people; the table beside it."""
        return self.results / "preference" / f"{run.name}{'.recorded' if recorded else ''}.h5"

    def probe_file(self, task: str, run: Run) -> Path:
        """Scores of one model on one downstream task; the table beside it."""
        return self.results / "probes" / task / f"{run.name}.h5"

    @property
    def leaks_file(self) -> Path:
        """Scores of phonemes with speakers and prompts kept apart and mixed; the table beside it."""
        return self.results / "probes" / "leaks.h5"

    def ceiling_file(self, participant: str) -> Path:
        """Noise ceiling of one participant."""
        return self.results / "ceilings" / f"{participant}.h5"
