"""A study: dataset, participants, backbones, conditions and hyper-parameters, read from one YAML file."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin

import yaml
from pydantic import Field, PrivateAttr, ValidationError

from braintuning.errors import InputError, nearest
from braintuning.results import REPOSITORY, fingerprint
from braintuning.study.check import check_study
from braintuning.study.settings import (
    Backbone,
    Changes,
    Condition,
    Controls,
    Dataset,
    Encoding,
    Features,
    Figures,
    FolderName,
    LowLevel,
    Preference,
    Probes,
    Section,
    Stories,
    Tuning,
    Variant,
)

STUDIES = REPOSITORY / "data" / "studies"
KERNEL_NAMES = {"In", "Out", "get_ipython", "exit", "quit", "open"}


TUNED_ON_ONE = ("brain-tuned", "random-brain-tuned")
"""Conditions with a model for each participant; of the others a backbone has one model for all."""


@dataclass(frozen=True)
class Run:
    """One model: a backbone in a condition of the study, and the participant it was tuned on where that is one."""

    backbone: str
    condition: str
    participant: str | None = None

    @property
    def name(self) -> str:
        """Folder-safe name."""
        return "_".join(part for part in (self.backbone, self.condition, self.participant) if part)


class Study(Section):
    """Everything that decides the numbers of a study."""

    name: FolderName
    title: str
    dataset: Dataset
    participants: tuple[FolderName, ...] = ()
    stories: Stories
    lacks: Mapping[str, tuple[str, ...]] = Field(default_factory=dict)
    backbones: Mapping[FolderName, Backbone]
    conditions: tuple[FolderName, ...]
    variants: Mapping[FolderName, Variant] = Field(default_factory=dict)
    tuned_together: tuple[FolderName, ...] = ()
    joint_tuning: Changes = Field(default_factory=lambda: {"lora_rank": 8})
    controls: Controls = Field(default_factory=Controls)
    tuning: Tuning = Field(default_factory=Tuning)
    features: Features = Field(default_factory=Features)
    encoding: Encoding = Field(default_factory=Encoding)
    low_level: LowLevel = Field(default_factory=LowLevel)
    preference: Preference = Field(default_factory=Preference)
    probes: Probes = Field(default_factory=Probes)
    figures: Figures
    _file: Path | None = PrivateAttr(None)
    _root: str | None = PrivateAttr(None)

    @property
    def source(self) -> tuple[Path, str | None]:
        """The YAML file that the study was read from, and the folder of the dataset where that was given beside it."""
        if self._file is None:
            raise InputError(f"study {self.name}: was not read from a file, expected one to run its workflow")
        return self._file, self._root

    @property
    def results(self) -> Path:
        """Folder of intermediate results."""
        return Path(os.environ.get("BRAINTUNING_RESULTS", REPOSITORY / "data" / "results")) / self.name

    @property
    def figures_folder(self) -> Path:
        """Folder of figures and their tables."""
        return Path(os.environ.get("BRAINTUNING_FIGURES", REPOSITORY / "figures")) / self.name

    @property
    def root(self) -> Path:
        """Folder of the dataset."""
        return REPOSITORY / self.dataset.root

    def stories_for(self, participant: str) -> Stories:
        """Stories that the study uses of a participant: all but those that it says the participant lacks."""
        lacking = self.lacks.get(participant, ())
        uses = self.stories.model_dump()
        return Stories(**{use: tuple(s for s in names if s not in lacking) for use, names in uses.items()})

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

    def tuning_of(self, condition: str) -> Tuning:
        """Settings that a condition is tuned with: those of the study, changed for joint tuning and for variants."""
        joint = self.joint_tuning if self.base(condition) == "multi-brain-tuned" else {}
        own = self.variants[condition].tuning if condition in self.variants else {}
        return Tuning(**{**self.tuning.model_dump(), **joint, **own})

    def tuned_on(self, run: Run) -> tuple[str, ...]:
        """Participants whose responses a run learns from; none where it learns from something else, or not at all."""
        if self.base(run.condition) == "multi-brain-tuned":
            return self.tuned_together
        return (run.participant,) if run.participant else ()

    def tuning_stories(self, run: Run) -> Stories:
        """Stories that a run is tuned with: those that all its participants heard."""
        uses = self.stories.model_dump()
        lacking = {story for participant in self.tuned_on(run) for story in self.lacks.get(participant, ())}
        return Stories(**{use: tuple(s for s in names if s not in lacking) for use, names in uses.items()})

    def runs(self) -> Iterator[Run]:
        """Every model of the study: backbone by backbone, condition by condition, participant by participant."""
        for backbone in self.backbones:
            for condition in self.conditions_of(backbone):
                for participant in self.participants if self.base(condition) in TUNED_ON_ONE else (None,):
                    yield Run(backbone, condition, participant)

    def tuned_runs(self) -> Iterator[Run]:
        """Every model that is not as it was pretrained."""
        return (run for run in self.runs() if self.base(run.condition) != "pretrained")

    def main_runs(self) -> Iterator[Run]:
        """Every model but those of variants, which Figure B3 alone compares."""
        return (run for run in self.runs() if run.condition not in self.variants)

    def alignments(self, runs: Iterable[Run] | None = None) -> Iterator[tuple[str, Run]]:
        """Every participant with every model (of `runs`, if given) that is compared on that participant."""
        for run in self.runs() if runs is None else runs:
            for participant in (run.participant,) if run.participant else self.participants:
                yield participant, run

    def run(self, backbone: str, condition: str, participant: str | None = None) -> Run:
        """A run of this study, by its parts; `InputError` names the part that is not in the study."""
        self.require("backbone", backbone, tuple(self.backbones))
        self.require("condition", condition, self.conditions_of(backbone))
        if self.base(condition) not in TUNED_ON_ONE:
            return Run(backbone, condition)
        self.require("participant", participant, self.participants)
        return Run(backbone, condition, participant)

    def require(self, what: str, found: str | None, valid: tuple[str, ...]) -> None:
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


def load_study(name: str | Path, root: str | None = None) -> Study:
    """Read a study file.

    Parameters
    ----------
    name : str or Path
        A name in `data/studies`, or a path to a YAML file.
    root : str, optional
        Folder of the dataset, instead of the one that the file names.

    Raises
    ------
    InputError
        No such study; a key that is unknown or of the wrong type; fewer than two training stories where models are
        tuned; a story used twice.
    """
    path = Path(name) if str(name).endswith((".yaml", ".yml")) else STUDIES / f"{name}.yaml"
    if not path.is_file():
        known = tuple(sorted(p.stem for p in STUDIES.glob("*.yaml")))
        raise InputError(f"{path}: no such study{nearest(str(name), known)}")
    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: found {type(content).__name__}, expected the keys of a study")
    if root and isinstance(content.get("dataset"), dict):
        content["dataset"]["root"] = str(Path(root).absolute())
    try:
        study = Study.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise InputError(f"{path}: {_explain(error)}") from None
    check_study(study, path)
    study._file, study._root = path.absolute(), root and str(Path(root).absolute())
    return study


def _explain(error: ValidationError) -> str:
    problem = error.errors()[0]
    *parents, key = map(str, problem["loc"])
    where = f" in `{'.'.join(parents)}`" if parents else ""
    if problem["type"] == "extra_forbidden":
        return f"unknown key `{key}`{where}{nearest(key, _keys(parents))}"
    found = "" if problem["type"] == "missing" else f": found {problem['input']!r}"
    return f"key `{key}`{where}{found}: {problem['msg']}"


def _keys(parents: list[str]) -> tuple[str, ...]:
    """Return the valid keys of the section that lies under these keys of a study."""
    section: Any = Study
    for parent in parents:
        in_mapping = get_origin(section) is Mapping
        section = get_args(section)[1] if in_mapping else section.model_fields[parent].annotation
        optional = [part for part in get_args(section) if isinstance(part, type) and issubclass(part, Section)]
        if get_origin(section) is UnionType and optional:
            section = optional[0]
    return tuple(section.model_fields)


def check_parameters(namespace: Mapping[str, Any], *expected: str) -> None:
    """Stop a notebook that was given a parameter it does not have.

    Called as `check_parameters(globals(), ...)` in the first cell after the parameters, before any import of a name.

    Raises
    ------
    InputError
        A name that is neither expected nor the kernel's own.
    """
    names = {
        n
        for n, v in namespace.items()
        if not n.startswith("_") and isinstance(v, str | int | float | list | dict | None)
    }
    if unknown := sorted(names - KERNEL_NAMES - set(expected)):
        raise InputError(f"notebook parameter {unknown[0]!r} does not exist{nearest(unknown[0], expected)}")
