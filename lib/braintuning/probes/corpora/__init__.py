"""Loaders of corpora in their official layouts, recognised by their files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from braintuning.errors import InputError
from braintuning.probes.corpora import aligned, crema_d, slurp, speech_commands, timit
from braintuning.probes.utterance import Utterance


@dataclass(frozen=True)
class Corpus:
    """A corpus: paths that its folder has (`marks`), its reader, and where it is obtained."""

    marks: tuple[str, ...]
    read: Callable[[Path], list[Utterance]]
    obtained: str


CORPORA = {
    "TIMIT": Corpus(timit.MARKS, timit.read, "the Linguistic Data Consortium, LDC93S1"),
    "Speech Commands": Corpus(
        speech_commands.MARKS, speech_commands.read, "tensorflow.org/datasets, speech_commands v2"
    ),
    "CREMA-D": Corpus(crema_d.MARKS, crema_d.read, "github.com/CheyneyComputerScience/CREMA-D"),
    "SLURP": Corpus(slurp.MARKS, slurp.read, "github.com/pswietojanski/slurp and zenodo.org/record/4274930"),
    "aligned speech": Corpus(aligned.MARKS, aligned.read, "anywhere: see data/README.md"),
}


def open_corpus(folder: Path, expected: tuple[str, ...]) -> tuple[str, list[Utterance]]:
    """Name and utterances of the corpus in a folder, one of those `expected` (keys of `CORPORA`).

    Raises
    ------
    InputError
        No such folder, no corpus or another one in it, or an incomplete corpus.
    """
    folder = Path(folder)
    wanted = " or ".join(f"{name} (obtained from {CORPORA[name].obtained})" for name in expected)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected {wanted}")
    found = [name for name, corpus in CORPORA.items() if all(_has(folder, mark) for mark in corpus.marks)]
    for name in found:
        if name in expected:
            try:
                return name, CORPORA[name].read(folder)
            except InputError as error:
                raise InputError(f"{error}; {name} is obtained from {CORPORA[name].obtained}") from None
    if found:
        raise InputError(f"{folder}: holds {found[0]}, expected {wanted}")
    missing = [mark for name in expected for mark in CORPORA[name].marks if not _has(folder, mark)]
    raise InputError(f"{folder}: found no {missing[0]}, expected {wanted}")


def _has(folder: Path, mark: str) -> bool:
    return (folder / mark).exists() or (folder / mark.lower()).exists()
