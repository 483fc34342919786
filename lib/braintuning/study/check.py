"""What a study may not say although every key is right: names that stand for nothing, stories too few."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from pydantic import ValidationError

from braintuning.errors import InputError, nearest
from braintuning.results import REPOSITORY
from braintuning.study.settings import Condition, Tuning

if TYPE_CHECKING:
    from braintuning.study import Study


def check_study(study: "Study", path: Path) -> None:
    """Raise `InputError` naming what in a study, read from `path`, names nothing or cannot be.

    Names that stand for nothing or stand twice, stories used twice or too few, conditions without what they need.
    """
    for key in ("participants", "conditions", "tuned_together"):
        names = getattr(study, key)
        if len(set(names)) < len(names):
            raise InputError(f"{path}: key `{key}`: a name stands there twice, expected once")
    for what, found, valid, where in _references(study):
        if found not in valid:
            raise InputError(f"{path}: unknown {what} {found!r} in `{where}`{nearest(found, tuple(valid))}")
    uses = study.stories.model_dump().values()
    if len(study.stories.all) < sum(map(len, uses)):
        raise InputError(f"{path}: a story is used twice among train, validation, test and held out, expected once")
    _check_conditions(study, path)
    _check_stories(study, path)
    _check_settings(study, path)


def _references(study: "Study") -> Iterator[tuple[str, str, Iterable[str], str]]:
    """Names that must be among others: what they name, the name, the valid ones, and the key where it stands."""
    for participant, stories in study.lacks.items():
        yield "participant", participant, study.participants, "lacks"
        for story in stories:
            yield "story", story, study.stories.all, "lacks"
    for condition in study.conditions:
        yield "condition", condition, (*get_args(Condition), *study.variants), "conditions"
    for backbone in study.backbones.values():
        for condition in backbone.conditions or ():
            yield "condition", condition, study.conditions, "backbones"
    for backbone in (*(study.figures.base_and_large or ()), study.figure_backbone):
        yield "backbone", backbone, study.backbones, "figures"
    for story in study.low_level.stories:
        yield "story", story, study.stories.train, "low_level: stories` among those of `stories: train"
    for key, participants in (("voxels", study.dataset.voxels), ("published_counts", study.figures.published_counts)):
        for participant in participants:
            yield "participant", participant, study.participants, key
    for notebook in study.figures.notebooks:
        yield "notebook", notebook, [path.stem for path in (REPOSITORY / "notebooks").glob("*.ipynb")], "figures"
    for participant in study.tuned_together:
        yield "participant", participant, study.participants, "tuned_together"
    for where, changes in [
        ("joint_tuning", study.joint_tuning),
        *(("variants", v.tuning) for v in study.variants.values()),
    ]:
        for key in changes:
            yield "key", key, Tuning.model_fields, where


def _check_conditions(study: "Study", path: Path) -> None:
    if clash := sorted(set(study.variants) & set(get_args(Condition))):
        raise InputError(f"{path}: variant {clash[0]!r} has the name of a condition, expected a name of its own")
    for condition in study.conditions:
        try:
            study.tuning_of(condition)
        except ValidationError as error:
            raise InputError(f"{path}: variant {condition!r}: {first_problem(error)}") from None
    bases = {study.base(condition) for condition in study.conditions}
    if "multi-brain-tuned" in bases and len(study.tuned_together) < 2:
        found = f"found {len(study.tuned_together)} participants in `tuned_together`"
        raise InputError(f"{path}: {found}, expected at least 2 for multi-brain-tuned")
    for name, backbone in study.backbones.items():
        taught = any(study.base(condition) == "bigslm-tuned" for condition in study.conditions_of(name))
        if taught and not backbone.teacher:
            raise InputError(f"{path}: backbone {name!r} has no `teacher`, expected a larger speech model")


def _check_stories(study: "Study", path: Path) -> None:
    tuned = any(study.base(condition) != "pretrained" for condition in study.conditions)
    if tuned and not study.participants:
        raise InputError(f"{path}: found no participant, expected at least 1 to tune models on")
    needed = {"test"} | ({"validation"} if tuned else set()) | {study.encoding.mask_from}
    for participant in study.participants:
        stories = study.stories_for(participant)
        if tuned and len(stories.train) < 2:
            found = f"found {len(stories.train)} training stories"
            raise InputError(f"{path}: {found}, expected at least 2 of {participant}")
        for use in sorted(needed):
            if not getattr(stories, use):
                raise InputError(f"{path}: found no {use} story of {participant}, expected at least 1")


def _check_settings(study: "Study", path: Path) -> None:
    """Raise `InputError` for values that are each of the right kind and together give no result, or a wrong one."""
    features, encoding, dataset = study.features, study.encoding, study.dataset
    shortest = min(features.hop_seconds, features.window_seconds)
    if features.step_seconds > shortest:
        found = f"found `step_seconds` {features.step_seconds:g} in `features`"
        raise InputError(f"{path}: {found}, expected at most {shortest:g}, the shorter of hop and window")
    if encoding.log10_alpha_min > encoding.log10_alpha_max:
        found = f"found `log10_alpha_min` {encoding.log10_alpha_min:g} in `encoding`"
        raise InputError(f"{path}: {found}, expected at most `log10_alpha_max`, {encoding.log10_alpha_max:g}")
    if encoding.mask_from == "test" and len(study.stories.test) > 1:
        found = f"found {len(study.stories.test)} test stories"
        raise InputError(f"{path}: {found}, expected 1, since the noise ceiling is that of one story")
    defaults = type(dataset)(kind=dataset.kind, root=dataset.root)
    fixed = ("unstored_volumes", "sound_starts") if dataset.simulation else ()
    fixed = ("row_offset", "unstored_volumes", "sound_starts") if dataset.kind != "lebel" else fixed
    for key in fixed:
        if getattr(dataset, key) != getattr(defaults, key):
            where = "simulated listeners" if dataset.simulation else f"kind {dataset.kind!r}"
            raise InputError(f"{path}: found `{key}` in `dataset`, expected none with {where}, which has its own")


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong with a value: its key, what was found, and what was expected."""
    problem = error.errors()[0]
    found = "" if problem["type"] == "missing" else f": found {problem['input']!r}"
    return f"key `{problem['loc'][-1]}`{found}: {problem['msg']}"
