"""TIMIT (Garofolo et al. 1993): 630 speakers of eight dialects, ten sentences each, phones marked by hand."""

from pathlib import Path

from braintuning.errors import InputError
from braintuning.phones import PHONES
from braintuning.probes.utterance import Utterance
from braintuning.textgrid import Interval

MARKS = ("TRAIN", "TEST")
RATE = 16_000
VALIDATION_DIALECT = "DR8"
SILENCE = "sil"
FOLDED = {
    **{"ax": "AH", "ax-h": "AH", "axr": "ER", "hv": "HH", "ix": "IH", "el": "L", "em": "M", "en": "N"},
    **{"nx": "N", "eng": "NG", "ux": "UW", "dx": "T"},
    **dict.fromkeys(("pcl", "tcl", "kcl", "bcl", "dcl", "gcl", "h#", "pau", "epi", "q"), SILENCE),
}
"""Phones of TIMIT that are folded into the 39 of ARPAbet that dictionaries use: as Lee & Hon (1989) fold them, but AO
and ZH stay, a flap is T, and silence is no class."""


def read(folder: Path) -> list[Utterance]:
    """Every sentence; the official test speakers test, one dialect region of the training speakers validates.

    Raises
    ------
    InputError
        A sentence without its .PHN or .TXT file, or a phone that TIMIT does not have.
    """
    utterances = []
    for part in MARKS:
        root = _either(folder, part)
        for sound in sorted(path for path in root.rglob("*") if path.name.lower().endswith(".wav")):
            dialect, speaker = sound.parts[-3].upper(), sound.parts[-2].upper()
            prompt = sound.name.split(".")[0].upper()
            use = "test" if part == "TEST" else "validation" if dialect == VALIDATION_DIALECT else "train"
            text = " ".join(_beside(sound, ".TXT").read_text().split()[2:])
            utterances.append(
                Utterance(speaker, prompt, sound, use, prompt[:2], text, tuple(_phones(_beside(sound, ".PHN"))))
            )
    if not utterances:
        raise InputError(f"{folder}: found no .WAV file in TRAIN or TEST, expected those of TIMIT (LDC93S1)")
    return utterances


def _either(folder: Path, name: str) -> Path:
    return folder / name if (folder / name).exists() else folder / name.lower()


def _beside(sound: Path, ending: str) -> Path:
    stem = sound.name.split(".")[0]
    for name in (stem + ending, stem + ending.lower(), stem.lower() + ending.lower()):
        if (sound.parent / name).is_file():
            return sound.parent / name
    raise InputError(f"{sound}: found no {stem}{ending} beside it, expected one as in TIMIT (LDC93S1)")


def _phones(path: Path) -> list[Interval]:
    phones = []
    for line in path.read_text().splitlines():
        start, end, label = line.split()
        folded = FOLDED.get(label, label.upper())
        if folded != SILENCE and folded not in PHONES:
            raise InputError(f"{path}: phone {label!r} at {int(start) / RATE:.3f} s, expected one of the 61 of TIMIT")
        phones.append(Interval(folded, int(start) / RATE, int(end) / RATE))
    return phones
