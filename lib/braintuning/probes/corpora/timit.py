"""TIMIT (Garofolo et al. 1993): ten sentences by each of 630 speakers, phones aligned by hand."""

import re
from pathlib import Path

from braintuning.datasets.textgrid import Interval
from braintuning.errors import InputError
from braintuning.lowlevel.phones import PHONES
from braintuning.probes.utterance import Utterance
from braintuning.results import files_below, listed, require_file

MARKS = ("TRAIN", "TEST")
SOURCE = "the Linguistic Data Consortium, LDC93S1"
RATE = 16_000
KINDS = ("SA", "SX", "SI")
SAID_BY_ALL = frozenset(("SA1", "SA2"))
SILENCE = "sil"
FOLDED = {
    **{"ax": "AH", "ax-h": "AH", "axr": "ER", "hv": "HH", "ix": "IH", "el": "L", "em": "M", "en": "N"},
    **{"nx": "N", "eng": "NG", "ux": "UW", "dx": "T"},
    **dict.fromkeys(("pcl", "tcl", "kcl", "bcl", "dcl", "gcl", "h#", "pau", "epi", "q"), SILENCE),
}
"""Phones of TIMIT that are mapped to the 39 ARPAbet phones of dictionaries: as in Lee & Hon (1989), except that AO and
ZH stay, a flap is T, and silence is no class."""


def read(folder: Path) -> list[Utterance]:
    """Every sentence of the official parts, with the complete test set of 168 speakers.

    The parts share no speaker and no text but SA1 and SA2. `utterance.divide` takes a validation part out of TRAIN.
    Where a sentence exists twice, as `SA1.WAV` and converted `SA1.WAV.wav`, the first is read.
    """
    utterances = []
    for part in MARKS:
        root, files = next((path for path in listed(folder) if path.name.upper() == part), folder / part), {}
        for file in (path for path in files_below(root) if path.name.lower().endswith(".wav")):
            files.setdefault((file.parent, file.name.split(".")[0].upper()), file)
        if not files:
            raise InputError(f"{root}: found no .WAV file, expected those of TIMIT")
        for (_, prompt), file in files.items():
            if prompt[:2] not in KINDS:
                raise InputError(f"{file}: found sentence {prompt}, expected one of {', '.join(KINDS)} and a number")
            text = " ".join(_beside(file, ".TXT").read_text().split()[2:])
            phones = tuple(_phones(_beside(file, ".PHN")))
            speaker = file.parent.name.upper()
            utterances.append(Utterance(speaker, prompt, file, part.lower(), prompt[:2], text, phones))
    return utterances


def _beside(file: Path, ending: str) -> Path:
    stem = file.name.split(".")[0]
    for name in (stem + ending, stem + ending.lower(), stem.lower() + ending.lower()):
        if (path := file.parent / name).exists() or path.is_symlink():
            return require_file(path)
    raise InputError(f"{file}: found no {stem}{ending} beside it, expected one as in TIMIT")


def _phones(path: Path) -> list[Interval]:
    phones = []
    for line in filter(str.strip, path.read_text().splitlines()):
        if (row := re.fullmatch(r"\s*(\d+)\s+(\d+)\s+(\S+)\s*", line)) is None:
            raise InputError(f"{path}: found {line!r}, expected first sample, last sample and phone")
        start, end, label = row.groups()
        folded = FOLDED.get(label.lower(), label.upper())
        if folded != SILENCE and folded not in PHONES:
            raise InputError(f"{path}: phone {label!r} at {int(start) / RATE:.3f} s, expected one of the 61 of TIMIT")
        phones.append(Interval(folded, int(start) / RATE, int(end) / RATE))
    return phones
