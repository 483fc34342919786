"""States of a speech model for whole utterances: all layers in one pass, kept on disk for the next task."""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import soundfile
import torch

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.precision import autocast
from braintuning.datasets.audio import RATE
from braintuning.errors import InputError
from braintuning.probes.utterance import Utterance
from braintuning.results import fingerprint, require_space, scratch_folder

EVERY = 10
MOST_BYTES = 8 << 30
Reduce = Callable[[torch.Tensor], torch.Tensor]
KINDS: dict[str, Reduce] = {
    "mean": lambda hidden: hidden.mean(dim=2, keepdim=True),
    "every tenth frame": lambda hidden: hidden[:, :, ::EVERY],
    "last layer": lambda hidden: hidden[-1:],
}
"""What is left of (layers + 1, batch, frames, dim): the mean over frames, some frames of all layers, or all of one."""


@dataclass(frozen=True)
class Store:
    """Where the states of one model are kept, so that it hears a set of utterances once.

    Attributes
    ----------
    folder : Path
        Of one model or many, up to `MOST_BYTES` and what is being used; what was read longest ago makes room.
    model : object
        What decides the model's states; anything that JSON can hold.
    kinds : tuple of str
        Of `KINDS`: what is kept of a pass, whichever of them is asked for first.
    """

    folder: Path
    model: object
    kinds: tuple[str, ...] = ("mean",)

    def file(self, kind: str, utterances: Sequence[Utterance], device: str) -> Path:
        """The file of some utterances, whatever their order."""
        known = sorted(_identity(utterance) for utterance in utterances)
        return self.folder / f"{kind.replace(' ', '_')}-{fingerprint([self.model, device, kind, known])}.h5"

    @contextmanager
    def held(self, what: str) -> Iterator[None]:
        """Keep other processes from the same work at the same time."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.folder / f".lock-{what}", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def make_room(self, n_bytes: int) -> None:
        """Delete what was read longest ago until `n_bytes` more are within the bound."""
        with self.held("room"):
            files = sorted(self.folder.glob("*.h5"), key=lambda path: path.stat().st_mtime_ns)
            used = sum(path.stat().st_size for path in files)
            for path in files:
                if used + n_bytes <= MOST_BYTES:
                    break
                used -= path.stat().st_size
                path.unlink()
        require_space(self.folder, n_bytes)


class Kept(Sequence):
    """States of utterances that lie in a file; each is read when it is asked for, (layers, frames, dim) float32."""

    def __init__(self, path: Path, utterances: Sequence[Utterance]) -> None:
        now = time.time_ns()
        os.utime(path, ns=(now, now))
        self._file = h5py.File(path)
        places = {name: number for number, name in enumerate(json.loads(self._file.attrs["utterances"]))}
        ends = np.cumsum(self._file["frames"][()])
        starts = ends - self._file["frames"][()]
        chosen = [places[_identity(utterance)] for utterance in utterances]
        self._rows = [(int(starts[place]), int(ends[place])) for place in chosen]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, number: int) -> np.ndarray:
        start, end = self._rows[number]
        return self._file["states"][:, start:end]


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
    """States of each utterance of each part, (layers, frames, dim) float32, in order.

    Parameters
    ----------
    encoder : SpeechEncoder
    parts : mapping of part to sequence of Utterance
    kind : str
        One of `KINDS`.
    device : str
    store : Store, optional
        Read from it what it has, and leave there what it has not. Without one all is kept in memory.

    Raises
    ------
    InputError
        An utterance shorter than a frame, or no room on the disk.
    """
    everything = list({_identity(u): u for part in parts.values() for u in part}.values())
    if store is None:
        found: dict[str, np.ndarray] = {}
        for utterance, kept in passes(encoder, everything, (kind,), device):
            found[_identity(utterance)] = kept[kind]
        return {part: [found[_identity(u)] for u in some] for part, some in parts.items()}
    file = store.file(kind, everything, device)
    with store.held(fingerprint(store.model)):
        if not file.is_file():
            _keep(encoder, everything, tuple(dict.fromkeys((kind, *store.kinds))), device, store)
        return {part: Kept(file, some) for part, some in parts.items()}


def _keep(
    encoder: SpeechEncoder, utterances: Sequence[Utterance], kinds: Sequence[str], device: str, store: Store
) -> None:
    frames = [encoder.n_frames(n) for n in _lengths(encoder, utterances)]
    layers = encoder.n_layers + 1
    rows = {"mean": layers * len(frames), "every tenth frame": layers * sum(-(-n // EVERY) for n in frames)}
    rows["last layer"] = sum(frames)
    store.make_room(sum(rows[kind] for kind in kinds) * encoder.dim * 4)
    with scratch_folder(store.folder / fingerprint(store.model)) as folder:
        files = {kind: h5py.File(folder / kind, "w") for kind in kinds}
        names, lengths = [], {kind: [] for kind in kinds}
        for utterance, kept in passes(encoder, utterances, kinds, device):
            names.append(_identity(utterance))
            for kind, one in kept.items():
                lengths[kind].append(one.shape[1])
                _append(files[kind], one)
        for kind, file in files.items():
            file["frames"] = np.array(lengths[kind])
            file.attrs["utterances"] = json.dumps(names)
            file.close()
            (folder / kind).replace(store.file(kind, utterances, device))


def _append(file: h5py.File, one: np.ndarray) -> None:
    layers, n, dim = one.shape
    if "states" not in file:
        shapes = {"shape": (layers, 0, dim), "maxshape": (layers, None, dim), "chunks": (1, max(n, 16), dim)}
        file.create_dataset("states", dtype=np.float32, **shapes)
    kept = file["states"]
    kept.resize(kept.shape[1] + n, axis=1)
    kept[:, -n:] = one


def _lengths(encoder: SpeechEncoder, utterances: Sequence[Utterance]) -> list[int]:
    """Samples of each utterance at 16 kHz, from the heads of the files."""
    lengths = []
    for utterance in utterances:
        try:
            head = soundfile.info(utterance.file)
            lengths.append(round(head.frames * RATE / head.samplerate))
        except soundfile.LibsndfileError:
            lengths.append(len(utterance.audio()))
        try:
            encoder.n_frames(lengths[-1])
        except InputError as error:
            raise InputError(f"{utterance.file}: {error}") from None
    return lengths


@torch.no_grad()
def passes(
    encoder: SpeechEncoder,
    utterances: Sequence[Utterance],
    kinds: Sequence[str] = ("mean",),
    device: str = "cpu",
    batch_size: int = 16,
) -> Iterator[tuple[Utterance, dict[str, np.ndarray]]]:
    """Each utterance once, shortest first, with what each kind leaves of its states, (layers, frames, dim) float32.

    Only utterances of one length go through the model together, so that no padding reaches a mean, a normalisation
    over time or an attention. Sound is read when its turn comes: no more than a batch is in memory.

    Raises
    ------
    InputError
        An utterance shorter than a frame.
    """
    by_length: dict[int, list[Utterance]] = {}
    for length, utterance in zip(_lengths(encoder, utterances), utterances, strict=True):
        by_length.setdefault(length, []).append(utterance)
    for _, same in sorted(by_length.items()):
        for start in range(0, len(same), batch_size):
            chosen = same[start : start + batch_size]
            with autocast(device):
                hidden = encoder(torch.from_numpy(np.stack([u.audio() for u in chosen])).to(device)).float()
            found = {kind: KINDS[kind](hidden).cpu().numpy() for kind in kinds}
            for place, utterance in enumerate(chosen):
                yield utterance, {kind: reduced[:, place] for kind, reduced in found.items()}
