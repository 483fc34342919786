"""Layer activations of utterances, computed in one pass and kept on disk for other tasks on the same corpus."""

import json
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import soundfile
import torch
from filelock import FileLock

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.precision import autocast, precision
from braintuning.errors import InputError
from braintuning.probes.utterance import Utterance
from braintuning.results import fingerprint, require_space, scratch_folder
from braintuning.timing import SAMPLE_RATE

BATCH, EVERY = 16, 10
MOST_BYTES = 8 << 30
KINDS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": lambda hidden: hidden.mean(dim=2, keepdim=True),
    "every tenth frame": lambda hidden: hidden[:, :, ::EVERY],
    "last layer": lambda hidden: hidden[-1:],
}
"""What is kept of (layers + 1, batch, frames, dim): the mean over frames, every tenth frame, or the last layer."""


@dataclass(frozen=True)
class Store:
    """Activations of one model on disk, so that a set of utterances passes through it once.

    `folder` can be that of several models, and is kept below `MOST_BYTES` by deleting the least recently used files;
    `model` is anything JSON can hold that the activations depend on, and `kinds` are those that every pass keeps.
    """

    folder: Path
    model: object
    kinds: tuple[str, ...] = ("mean",)

    def file(self, kind: str, utterances: Sequence[Utterance], device: str) -> Path:
        """File of a set of utterances in any order."""
        known = sorted(_identity(utterance) for utterance in utterances)
        made_of = fingerprint([self.model, device, precision(device), kind, known])
        return self.folder / f"{kind.replace(' ', '_')}-{made_of}.h5"

    def lock(self, what: str) -> FileLock:
        """A lock under which no other process does the same work."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / f".lock-{what}")

    def make_room(self, n_bytes: int) -> None:
        """Delete the least recently used files until `n_bytes` more fit."""
        with self.lock("room"):
            files = sorted(self.folder.glob("*.h5"), key=lambda path: path.stat().st_mtime_ns)
            used = sum(path.stat().st_size for path in files)
            for path in files:
                if used + n_bytes <= MOST_BYTES:
                    break
                used -= path.stat().st_size
                path.unlink()
        require_space(self.folder, n_bytes)


class Kept(Sequence):
    """Activations of utterances in a file, each read on access; (layers, frames, dim) float32."""

    def __init__(self, path: Path, utterances: Sequence[Utterance]) -> None:
        os.utime(path, ns=(time.time_ns(),) * 2)  # finer than the clock of files
        self._file = h5py.File(path)
        ends = np.cumsum(self._file["frames"])
        names = json.loads(self._file.attrs["utterances"])
        slices = dict(zip(names, map(slice, [0, *ends[:-1]], ends), strict=True))
        self._slices = [slices[_identity(utterance)] for utterance in utterances]

    def __len__(self) -> int:
        return len(self._slices)

    def __getitem__(self, number: int) -> np.ndarray:
        return self._file["states"][:, self._slices[number]]


def _identity(utterance: Utterance) -> str:
    found = utterance.file.stat()
    return f"{utterance.file} {found.st_size} {found.st_mtime_ns}"


def states(
    encoder: SpeechEncoder,
    parts: Mapping[str, Sequence[Utterance]],
    kind: str = "mean",
    device: str = "cpu",
    store: Store | None = None,
) -> dict[str, Sequence[np.ndarray]]:
    """Activations (layers, frames, dim) float32 of each utterance of each part, reduced to one of `KINDS`.

    With a store they are read from it, after a pass that adds what it lacks; without one all stay in memory. Raises
    `InputError` for an utterance shorter than a frame, or no room on the disk.
    """
    everything = list({_identity(u): u for part in parts.values() for u in part}.values())
    if store is None:
        found = {_identity(u): kept[kind] for u, kept in passes(encoder, everything, (kind,), device)}
        return {part: [found[_identity(u)] for u in some] for part, some in parts.items()}
    file = store.file(kind, everything, device)
    with store.lock(fingerprint(store.model)):
        if not file.is_file():
            _keep(encoder, everything, tuple(dict.fromkeys((kind, *store.kinds))), device, store)
        return {part: Kept(file, some) for part, some in parts.items()}


def _keep(
    encoder: SpeechEncoder, utterances: Sequence[Utterance], kinds: Sequence[str], device: str, store: Store
) -> None:
    heard = [torch.empty(encoder.n_layers + 1, 1, encoder.n_frames(n), 0) for n in _lengths(encoder, utterances)]
    reduced = {kind: [KINDS[kind](hidden).shape for hidden in heard] for kind in kinds}
    shapes = {kind: (found[0][0], sum(shape[2] for shape in found)) for kind, found in reduced.items()}
    store.make_room(sum(math.prod(shapes[kind]) for kind in kinds) * encoder.dim * 4)
    with scratch_folder(store.folder / fingerprint(store.model)) as folder:
        files = {kind: h5py.File(folder / kind, "w") for kind in kinds}
        for kind, file in files.items():
            file.create_dataset("states", (*shapes[kind], encoder.dim), np.float32)
        names, lengths, ends = [], {kind: [] for kind in kinds}, dict.fromkeys(kinds, 0)
        for utterance, kept in passes(encoder, utterances, kinds, device):
            names.append(_identity(utterance))
            for kind, one in kept.items():
                lengths[kind].append(one.shape[1])
                start, ends[kind] = ends[kind], ends[kind] + one.shape[1]
                files[kind]["states"][:, start : ends[kind]] = one
        for kind, file in files.items():
            file["frames"] = np.array(lengths[kind])
            file.attrs["utterances"] = json.dumps(names)
            file.close()
            (folder / kind).replace(store.file(kind, utterances, device))


def _lengths(encoder: SpeechEncoder, utterances: Sequence[Utterance]) -> list[int]:
    """Samples of each utterance at 16 kHz, from the headers of the files; half a sample is rounded up, as by soxr."""
    lengths = []
    for utterance in utterances:
        try:
            header = soundfile.info(utterance.file)
            lengths.append((2 * header.frames * SAMPLE_RATE // header.samplerate + 1) // 2)
        except soundfile.LibsndfileError:
            lengths.append(len(utterance.audio()))
        try:
            encoder.n_frames(lengths[-1])
        except InputError as error:
            raise InputError(f"{utterance.file}: {error}") from None
    return lengths


@torch.no_grad()
def passes(
    encoder: SpeechEncoder, utterances: Sequence[Utterance], kinds: Sequence[str], device: str = "cpu"
) -> Iterator[tuple[Utterance, dict[str, np.ndarray]]]:
    """Each utterance once, shortest first, with its activations (layers, frames, dim) float32 reduced to each kind.

    A batch has utterances of one length, so that no padding reaches a mean, a normalisation over time or attention.
    Only one batch of audio is in memory.
    """
    by_length: dict[int, list[Utterance]] = {}
    for length, utterance in zip(_lengths(encoder, utterances), utterances, strict=True):
        by_length.setdefault(length, []).append(utterance)
    for _, same in sorted(by_length.items()):
        for start in range(0, len(same), BATCH):
            chosen = same[start : start + BATCH]
            with autocast(device):
                hidden = encoder(torch.from_numpy(np.stack([u.audio() for u in chosen])).to(device)).float()
            found = {kind: KINDS[kind](hidden).cpu().numpy() for kind in kinds}
            for place, utterance in enumerate(chosen):
                yield utterance, {kind: reduced[:, place] for kind, reduced in found.items()}
