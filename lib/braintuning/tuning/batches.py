"""What tuning hears and what it has to predict, batch by batch."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch

from braintuning import timing
from braintuning.study.settings import Tuning
from braintuning.tuning.front_cache import cached_fronts, to_device
from braintuning.tuning.model import Front, Model, SelfTunedModel, StoryTargets

Rows = list[tuple[str, int]]
Hear = Callable[[Rows], torch.Tensor | Front]


def listening(stories: Mapping[str, StoryTargets], seconds: float, device: str) -> Callable[[Rows], torch.Tensor]:
    """A function from rows to their clips, (clips, samples)."""

    def listen(rows: Rows) -> torch.Tensor:
        clips = [timing.windows(stories[s].audio, stories[s].times[[row]], seconds) for s, row in rows]
        return to_device(torch.from_numpy(np.concatenate(clips)), device)

    return listen


def hearing(
    model: Model,
    stories: Mapping[str, StoryTargets],
    settings: Tuning,
    device: str,
    file: Path | None,
    spare_memory: bool,
) -> Hear:
    """A function from rows to what a model takes: their clips, or where it learns targets, what its front end kept."""
    listen = listening(stories, settings.clip_seconds, device)
    if isinstance(model, SelfTunedModel):
        return listen
    return cached_fronts(
        model, rows_of(stories), listen, batch_size=settings.batch_size, device=device, file=file,
        spare_memory=spare_memory,
    )  # fmt: skip


def targets_of(stories: Mapping[str, StoryTargets], rows: Rows, device: str) -> list[torch.Tensor | None]:
    """Targets of rows, participant by participant, (clips, targets); one None without any."""
    n_participants = len(stories[rows[0][0]].of_each)
    targets = [np.stack([stories[story].of_each[p][row] for story, row in rows]) for p in range(n_participants)]
    return [to_device(torch.from_numpy(t), device) for t in targets] or [None]


def rows_of(stories: Mapping[str, StoryTargets]) -> Rows:
    """Every (story, row)."""
    return [(name, row) for name, story in stories.items() for row in range(len(story.times))]
