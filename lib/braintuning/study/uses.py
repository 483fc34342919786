"""Whether a study's stories suffice for what it asks of them."""

from itertools import pairwise
from typing import TYPE_CHECKING

from braintuning.errors import InputError

if TYPE_CHECKING:
    from braintuning.study.study import Study


def require_stories(study: "Study") -> None:
    """Raise `InputError` where a listener, or a model to be tuned, has too few stories of a use, or stories overlap.

    Whoever listened to one parcellated recording alone may lack training stories: their encoding models are fitted to
    `folds` of the test story. A part of such a recording is a story, and one is enough to tune on.
    """
    for recording in study.dataset.recordings.values():
        used = sorted((*seconds, story) for story, seconds in recording.parts.items() if story in study.stories.all)
        for (_, end, one), (start, _, other) in pairwise(used):
            if start < end:
                raise InputError(f"found parts {one!r} and {other!r} in `recordings` that overlap, expected them apart")
    if "fig3" in study.figures.notebooks and "pretrained" not in study.conditions_of(study.figure_backbone):
        raise InputError(f"found no `pretrained` among the conditions of {study.figure_backbone}, which fig3 shows")
    tuned = any(study.base(condition) != "pretrained" for condition in study.conditions)
    if tuned and not study.participants:
        raise InputError("found no participant, expected at least 1 to tune models on")
    for listener in study.listeners:
        _require_own(study, listener, tuned)
    least = 1 if study.dataset.recordings else 2
    for run in study.tuned_runs():
        shared, variant = study.stories_for(*study.tuned_on(run)), study.variants.get(run.condition)
        n_train, needed = len(shared.train + shared.tuning_only), (variant and variant.n_stories) or least
        if n_train < needed or not shared.validation:
            found = f"found {n_train} training and {len(shared.validation)} validation stories"
            raise InputError(f"{found} that all participants of {run.name} have, expected at least {needed} and 1")


def _require_own(study: "Study", listener: str, tuned: bool) -> None:
    stories, mask_from = study.stories_for(listener), study.encoding.mask_from
    needed, least = {"test", mask_from, "validation" if tuned else "test"}, 2 if tuned else 0
    if study.dataset.recordings:
        needed, least = set() if listener in study.tuned_together else {"test"}, 0
        if not stories.train and (not study.encoding.folds or study.encoding.test_skip_rows):
            expected = "expected one, or `folds` in `encoding` to divide the test story into, with `test_skip_rows` 0"
            raise InputError(f"found no training story of {listener}, {expected}")
    if (found := len(stories.train)) < least:
        raise InputError(f"found {found} training stories, expected at least {least} of {listener}")
    if missing := [use for use in sorted(needed) if not getattr(stories, use)]:
        raise InputError(f"found no {missing[0]} story of {listener}, expected at least 1")
    if "fig3" in study.figures.notebooks and not study.low_level_stories(listener)[0]:
        raise InputError(f"found no story of `low_level: stories` that {listener} has, expected at least 1")
    if (mask_from == "test" or not getattr(stories, mask_from)) and (found := len(stories.test)) > 1:
        raise InputError(f"found {found} test stories, expected 1, since the noise ceiling is that of one story")
