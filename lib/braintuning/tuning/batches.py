"""Batches: loading them, dividing them so that they fit into memory, and checking their losses."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import psutil
import torch
from accelerate import PartialState
from torch.autograd.graph import saved_tensors_hooks

from braintuning import timing
from braintuning.backbone.precision import activation_dtype, autocast
from braintuning.errors import InputError
from braintuning.results import require_space
from braintuning.study.settings import Tuning
from braintuning.tuning.model import Front, Model, SelfTunedModel, StoryTargets, TunedModel, to_device

log = logging.getLogger(__name__)

STEPS_BETWEEN_CHECKS = {"cpu": 1, "cuda": 50}
"""A GPU is waited for, to see whether losses are finite, only once in so many steps."""
SHARE_OF_MEMORY, SHARE_OF_GPU, SHARE_OF_FREE_MEMORY = 0.3, 0.3, 0.9
"""Shares of free memory: for the front end's output in memory and on a GPU, and for a step on a GPU without a limit."""
WORKSPACE = 1.5
"""Memory in use at a step's peak over what its forward pass keeps for the backward pass."""
CLIPS_AT_ONCE = 16
"""A front end's largest array, of the first convolution, takes up to 130 MB a clip of 10 s."""

Samples = Sequence[tuple[str, int]]
"""Each a story's name and the number of a TR within it: the one whose clip is heard, or the last of a span."""
Load = Callable[[Samples], tuple[torch.Tensor | Front, list[torch.Tensor]]]


def samples_of(stories: Mapping[str, StoryTargets], settings: Tuning) -> Samples:
    """Every clip of some stories, or as few spans as hold every volume once."""
    samples = []
    for name, story in stories.items():
        last, ends = len(story.times) - 1, []
        while last >= 0:
            ends.append(last)
            last = volumes_of(story, last, settings).start - 1
        samples += [(name, tr) for tr in reversed(ends)]
    return samples


def volumes_of(story: StoryTargets, last: int, settings: Tuning) -> range:
    """TRs whose clips lie in the audio up to the end of the last one's: that one alone, or those of a span."""
    if not settings.context_seconds:
        return range(last, last + 1)
    reach = settings.context_seconds - settings.clip_seconds
    first = np.searchsorted(story.times, story.times[last] - reach - 1e-6)  # s, between times that are the same
    return range(int(first), last + 1)


def heard(story: StoryTargets, last: int, settings: Tuning) -> np.ndarray:
    """Audio of the clip or span of a TR, which is its last; (samples,) float32."""
    _, end, seconds = _span(story, last, settings)
    return timing.windows(story.audio, [end], seconds)[0]


def ends_within(story: StoryTargets, last: int, settings: Tuning) -> np.ndarray:
    """Where the clip of each volume of a span ends, in seconds after the span's start; (volumes,) float."""
    trs, end, seconds = _span(story, last, settings)
    return story.times[trs.start : trs.stop] - end + seconds


def _span(story: StoryTargets, last: int, settings: Tuning) -> tuple[range, float, float]:
    """TRs, end and seconds of a clip or span; a span begins with its first volume's clip."""
    trs, seconds = volumes_of(story, last, settings), max(settings.context_seconds, settings.clip_seconds)
    end = max(story.times[trs[-1]], story.times[trs[0]] - settings.clip_seconds + seconds)
    return trs, end, seconds


def loader(
    model: Model,
    stories: Mapping[str, StoryTargets],
    settings: Tuning,
    device: str = "cpu",
    file: Path | None = None,
    spare_memory: bool = True,
) -> Load:
    """A function that loads samples: a model's input and, for each participant, its targets, (volumes, targets).

    A `TunedModel` takes the cached output of its front end (see `cached_fronts`), a `SelfTunedModel` the audio,
    (clips, samples), with empty targets, (clips, 0). Spans have (spans, most volumes, targets), NaN where there are
    fewer; see `model.known`.
    """

    def clips(samples: Samples) -> torch.Tensor:
        return to_device(torch.from_numpy(np.stack([heard(stories[s], tr, settings) for s, tr in samples])), device)

    def of_volumes(samples: Samples, values: Callable[[str, range], np.ndarray]) -> torch.Tensor:
        found = [values(story, volumes_of(stories[story], tr, settings)) for story, tr in samples]
        padded = np.full((len(found), max(map(len, found)), *found[0].shape[1:]), np.nan, np.float32)
        for row, of_sample in zip(padded, found, strict=True):
            row[: len(of_sample)] = of_sample
        return to_device(torch.from_numpy(padded if settings.context_seconds else padded[:, 0]), device)

    def targets(samples: Samples) -> list[torch.Tensor]:
        return [
            of_volumes(samples, lambda story, trs, p=p: stories[story].of_each[p][trs.start : trs.stop])
            for p in range(len(stories[samples[0][0]].of_each))
        ] or [torch.empty(len(samples), 0)]

    if isinstance(model, SelfTunedModel):
        return lambda samples: (clips(samples), targets(samples))
    all_samples = samples_of(stories, settings)
    fronts = cached_fronts(model, all_samples, clips, settings.batch_size, device, file, spare_memory)

    def inputs(samples: Samples) -> Front:
        if not settings.context_seconds:
            return fronts(samples)
        ends = of_volumes(samples, lambda story, trs: ends_within(stories[story], trs[-1], settings))
        counts = tuple(len(volumes_of(stories[story], tr, settings)) for story, tr in samples)
        return dataclasses.replace(fronts(samples), ends=ends, counts=counts)

    return lambda samples: (inputs(samples), targets(samples))


def cached_fronts(
    model: TunedModel,
    samples: Samples,
    clips_of: Callable[[Samples], torch.Tensor],
    batch_size: int,
    device: str = "cpu",
    file: Path | None = None,
    spare_memory: bool = True,
) -> Callable[[Samples], Front]:
    """Run the frozen front end on every sample's clip once; give back a function that looks its output up.

    Kept in the precision in which models compute: on the GPU where that takes less than `SHARE_OF_GPU` of its free
    memory and may (`spare_memory`), else in memory where it takes less than `SHARE_OF_MEMORY` of what is available to
    each of the processes that tune together, else in `file` where there is one; raises InputError where that has no
    room. `clips_of` gives clips on `device`, and is called from another thread.
    """
    place = {sample: number for number, sample in enumerate(samples)}
    dtype = activation_dtype(device)
    with torch.no_grad(), autocast(device):
        first = model.front(clips_of(samples[:1]))
        shape, n_frames = (len(samples), *first.hidden.shape[1:]), first.n_frames
        n_bytes = int(np.prod(shape)) * dtype.itemsize
        on_device = spare_memory and device != "cpu" and n_bytes < SHARE_OF_GPU * torch.cuda.mem_get_info()[0]
        available = psutil.virtual_memory().available / PartialState().num_processes
        on_disk = not on_device and file is not None and n_bytes > SHARE_OF_MEMORY * available
        where = "on the device" if on_device else "on disk" if on_disk else "in memory"
        log.info(f"front end of {len(samples)} clips: {n_bytes / 2**30:.2f} GiB {where}")
        home = device if on_device else "cpu"
        if on_disk:
            require_space(file.parent, n_bytes)
            kept = torch.from_file(str(file), shared=True, size=int(np.prod(shape)), dtype=dtype).view(shape)
        else:
            kept = torch.empty(shape, dtype=dtype, device=home)
        at_once, start = min(batch_size, CLIPS_AT_ONCE), 0
        for chosen, clips in ahead([samples[i : i + at_once] for i in range(0, len(samples), at_once)], clips_of):
            kept[start : start + len(chosen)] = model.front(clips).hidden.to(home, dtype)
            start += len(chosen)

    def fronts(wanted: Samples) -> Front:
        places = torch.tensor([place[sample] for sample in wanted])
        if on_device or device == "cpu":
            return Front(kept[to_device(places, device)], n_frames)
        pinned = torch.empty((len(places), *shape[1:]), dtype=dtype, pin_memory=True)
        hidden = torch.index_select(kept, 0, places, out=pinned).to(device, non_blocking=True)
        return Front(hidden, n_frames)

    return fronts


def ahead(items: Iterable, load: Callable) -> Iterator[tuple]:
    """Yield each item with what `load` makes of it, the next one being loaded meanwhile by a thread."""
    gpu = torch.cuda.current_device() if torch.cuda.is_initialized() else None  # torch keeps one for each thread
    with ThreadPoolExecutor(1, initializer=lambda: None if gpu is None else torch.cuda.set_device(gpu)) as pool:
        submitted = ((item, pool.submit(load, item)) for item in items)
        for (item, loaded), _ in pairwise(chain(submitted, [None])):
            yield item, loaded.result()


def micro_batch_size(
    model: Model,
    two_clips: tuple[torch.Tensor | Front, list[torch.Tensor]],
    settings: Tuning,
    device: str,
    max_memory: float | None = None,
) -> int:
    """Most clips in one pass: the whole batch, or what fits into `max_memory` GiB, by default into a GPU's memory.

    Raises InputError where not one fits, or an objective, which is taken over a whole batch, would have to be divided.
    """
    at_once, n_processes = settings.batch_size, PartialState().num_processes
    whole = isinstance(model, SelfTunedModel)
    if max_memory is None and device == "cuda" and not whole:
        free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        max_memory = (SHARE_OF_FREE_MEMORY * free + sum(p.nbytes for p in model.parameters())) / 2**30
    if max_memory:
        model.eval()
        inputs, targets = two_clips
        at_once = clips_within(model, lambda n: model.loss(inputs[:n], targets[0][:n]), max_memory, settings.batch_size)
    if whole and (at_once < settings.batch_size or n_processes > 1):
        raise InputError(
            f"tuning: the objective is taken over all clips of a batch, of which {at_once} fit into the "
            f"limit of memory and {n_processes} processes would share them; expected all of them on one"
        )
    return at_once


def clips_within(
    model: torch.nn.Module, loss_of: Callable[[int], torch.Tensor], max_memory: float, batch_size: int
) -> int:
    """How many clips of a batch, at most all, a step takes at once so that it stays within some GiB; an estimate.

    Counted are weights, gradients, the two moments of AdamW, what the forward pass keeps of any number of clips (under
    autocast the weights' copies), and `WORKSPACE` times what it keeps of each, as `loss_of` one clip and two tells.
    Raises InputError where not one clip fits.
    """
    fixed = sum(p.nbytes * (4 if p.requires_grad else 1) for p in model.parameters())
    of_one = kept_for_backward(model, lambda: loss_of(1))
    of_two = kept_for_backward(model, lambda: loss_of(2)) if batch_size > 1 else of_one
    a_clip = of_two - of_one if of_two > of_one else of_one
    fixed += of_one - a_clip
    at_once = int((max_memory * 2**30 - fixed) / (WORKSPACE * a_clip))
    if at_once < 1:
        least = (fixed + WORKSPACE * a_clip) / 2**30
        raise InputError(f"tuning: a step of one clip takes about {least:.2g} GiB, found a limit of {max_memory:g} GiB")
    return min(at_once, batch_size)


def kept_for_backward(model: torch.nn.Module, loss: Callable[[], torch.Tensor]) -> int:
    """Bytes that a forward pass keeps for the backward pass, parameters not counted."""
    known = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        _held = loss()  # else its tensors' places in memory would be used again
    return sum(size for place, size in kept.items() if place not in known)


class CheckedLosses:
    """Losses of consecutive batches and participants; raises InputError, with the story, where one is not finite."""

    def __init__(self, model: Model, load: Load, where: str) -> None:
        self._model, self._load, self._where = model, load, where
        self._values, self._unchecked = [], []

    def add(self, loss: torch.Tensor, batch: Samples, participant: int) -> None:
        """Note a loss, a scalar; on a GPU it is checked some steps later."""
        self._unchecked.append((loss, batch, participant))
        if len(self._unchecked) == STEPS_BETWEEN_CHECKS[loss.device.type]:
            self._check()

    def mean(self, weights: Sequence[float] | None = None) -> float:
        """Mean of the losses so far, weighted or all alike."""
        self._check()
        return float(np.average(self._values, weights=weights))

    def _check(self) -> None:
        for loss, batch, participant in self._unchecked:
            self._values.append(loss.item())
            if not loss.isfinite():
                found = f"loss {self._values[-1]} at {self._where} {len(self._values)}"
                names = ", ".join(self._culprits(batch, participant))
                raise InputError(f"tuning: {found} (story {names}), expected a finite number")
        self._unchecked = []

    @torch.no_grad()
    def _culprits(self, batch: Samples, participant: int) -> list[str]:
        inputs, targets = self._load(batch)
        clips = [(story, slice(i, i + 1)) for i, (story, _) in enumerate(batch)]
        culprits = {s for s, c in clips if not self._model.loss(inputs[c], targets[participant][c]).isfinite()}
        return sorted(culprits or {story for story, _ in batch})
