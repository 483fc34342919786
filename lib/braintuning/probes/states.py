"""States of a speech model for whole utterances, all layers in one pass."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from braintuning.backbones import SpeechEncoder
from braintuning.errors import InputError
from braintuning.precision import autocast
from braintuning.probes.utterance import Utterance

Reduce = Callable[[torch.Tensor], torch.Tensor]


def mean_over_frames(hidden: torch.Tensor) -> torch.Tensor:
    """(layers + 1, batch, frames, dim) to (layers + 1, batch, dim)."""
    return hidden.mean(dim=2)


@torch.no_grad()
def states(
    encoder: SpeechEncoder,
    utterances: Sequence[Utterance],
    reduce: Reduce = mean_over_frames,
    device: str = "cpu",
    batch_size: int = 16,
) -> list[np.ndarray]:
    """What `reduce` leaves of the states of each utterance; arrays (layers + 1, ...) float32, in order.

    Only utterances of one length go through the model together, so that no padding reaches a mean, a normalisation
    over time or an attention.

    Raises
    ------
    InputError
        An utterance shorter than a frame.
    """
    sounds = [utterance.audio() for utterance in utterances]
    found: list[np.ndarray | None] = [None] * len(sounds)
    by_length: dict[int, list[int]] = {}
    for number, sound in enumerate(sounds):
        try:
            encoder.n_frames(len(sound))
        except InputError as error:
            raise InputError(f"{utterances[number].file}: {error}") from None
        by_length.setdefault(len(sound), []).append(number)
    for same in by_length.values():
        for start in range(0, len(same), batch_size):
            chosen = same[start : start + batch_size]
            with autocast(device):
                hidden = encoder(torch.from_numpy(np.stack([sounds[number] for number in chosen])).to(device))
            reduced = reduce(hidden.float()).cpu().numpy()
            for place, number in enumerate(chosen):
                found[number] = reduced[:, place]
    return found
