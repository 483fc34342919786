"""Loaders of corpora in their official layouts.

Each module has a reader, `MARKS` (paths by which a folder of the corpus is recognised; patterns, with `|` between
those of which one is enough) and `SOURCE` (where it is obtained).
"""

from fnmatch import fnmatch
from pathlib import Path

from braintuning.datasets.audio import require_audio
from braintuning.errors import InputError
from braintuning.probes.corpora import aligned, crema_d, librispeech, ravdess, slurp, speech_commands, timit
from braintuning.probes.utterance import Utterance
from braintuning.results import listed

CORPORA = {
    "TIMIT": timit,
    "Speech Commands": speech_commands,
    "CREMA-D": crema_d,
    "RAVDESS": ravdess,
    "SLURP": slurp,
    "LibriSpeech": librispeech,
    "aligned speech": aligned,
}


def open_corpus(folder: Path, expected: tuple[str, ...]) -> tuple[str, list[Utterance]]:
    """Name and utterances of the corpus in a folder, one of those `expected` (keys of `CORPORA`).

    Raises
    ------
    InputError
        No such folder, no corpus or another one in it, or an incomplete corpus: a file is missing, a pointer of
        git-lfs or git-annex, or half of one.
    """
    folder = Path(folder)
    wanted = " or ".join(f"{name} (obtained from {CORPORA[name].SOURCE})" for name in expected)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder, expected {wanted}")
    found = [name for name, corpus in CORPORA.items() if all(_has(folder, mark) for mark in corpus.MARKS)]
    for name in found:
        if name in expected:
            try:
                utterances = CORPORA[name].read(folder)
                for utterance in utterances:
                    require_audio(utterance.file)
                return name, utterances
            except InputError as error:
                raise InputError(f"{error}; {name} is obtained from {CORPORA[name].SOURCE}") from None
    if found:
        raise InputError(f"{folder}: holds {found[0]}, expected {wanted}")
    missing = [mark for name in expected for mark in CORPORA[name].MARKS if not _has(folder, mark)]
    raise InputError(f"{folder}: found no {missing[0].partition('|')[0]}, expected {wanted}")


def _has(folder: Path, mark: str) -> bool:
    patterns = mark.lower().split("|")
    return (folder / mark).exists() or any(fnmatch(p.name.lower(), one) for p in listed(folder) for one in patterns)
