"""What the labels of aligned speech stand for: words in one spelling, phones of American English, or neither.

The rule, which nothing else in the library repeats:

- A label for no speech (`textgrid.is_silence`) is no word and no phone, in any tier.
- A word is in lower case, in Unicode's composed form, with straight apostrophes, and without the punctuation around it;
  apostrophes and hyphens within it stay, and so does the apostrophe that opens a clitic (`'s`, `'ll`). A second
  pronunciation (`our(2)`) is the same word, and a mark in brackets beside a word is no part of it (`{LG} YEAH`). Spaces
  and dashes in a label part it into words, which stay together.
- A phone is one of the 39 of the CMU Pronouncing Dictionary, in any case, with or without a stress digit or the place
  in the word that Kaldi adds (`AH0_B`). Other labels are left out and counted in a note. A tier in another alphabet is
  refused where phones are needed: most labels are none of the 39, or over four times as many as have two letters, which
  ARPAbet's vowels all have; IPA and SAMPA share its single letters.
- Words and phones that overlap are all kept, in the order of their start, and counted in a note.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

from braintuning.datasets.textgrid import Interval, check_within, outside_brackets, overlaps, read_tier, without_edges
from braintuning.errors import InputError, MissingTier

PHONES = tuple(
    "P B T D K G CH JH F V TH DH S Z SH ZH HH M N NG L R W Y IY IH EH AE AH ER AA AO UH UW EY AY OY AW OW".split()
)
_ENGLISH = f"the 39 ARPAbet phones of English ({', '.join(sorted(PHONES))})"
_NAMED = 12
_APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ′", "'"))
_CLITIC = re.compile(r"[^\w']*('(?:s|ll|ve|d|re|m|t))\W*")
_PARTS = re.compile(r"\s+|—|–|--+")


def word_of(label: str) -> str:
    """Word that a label stands for (see the rule above); empty for a label without a letter or digit."""
    label = unicodedata.normalize("NFC", outside_brackets(label)).translate(_APOSTROPHES).lower()
    parts = _PARTS.split(re.sub(r"(?<=\S)\(\d+\)\s*$", "", label))
    clitics = (_CLITIC.fullmatch(part) for part in parts)
    return " ".join(filter(None, (c[1] if c else without_edges(p) for c, p in zip(clitics, parts, strict=True))))


def without_stress(label: str) -> str:
    """Phone of a label (see the rule above): `AH` of `ah0`; `InputError` if it is not one of `PHONES`."""
    phone = re.sub(r"[012]?(?:_[BIES])?$", "", without_edges(label).upper(), count=1)
    if phone not in PHONES:
        raise InputError(f"phone {label!r} is not one of {_ENGLISH}")
    return phone


def read_words(path: Path) -> list[Interval]:
    """Words of a TextGrid in the one spelling, in the order of their start; errors as in `read_tier`."""
    return [Interval(word_of(label), start, end) for label, start, end in read_tier(path, "word")]


def read_phones(path: Path) -> list[Interval]:
    """Phones of American English in a TextGrid, labels as they stand there, in the order of their start.

    `InputError` as in `read_tier`, a tier without a label for speech being none, and for a tier in another alphabet.
    """
    found = read_tier(path, "phone")
    if not found:
        raise MissingTier(f"{path}: found no phone in tier 'phone', expected at least one")
    return phones_among(found, path, ", or no such tier, for a dictionary to stand in")[0]


def phones_among(labelled: Sequence[Interval], source: object, instead: str = "") -> tuple[list, list]:
    """Part the labels for speech into phones of American English and others.

    Raises `InputError`, naming `source`, the first of them, its time and what will do `instead`, in another alphabet.
    """
    phones, others, n_double = [], [], 0
    for interval in labelled:
        try:
            n_double += len(without_stress(interval.label)) > 1
            phones.append(interval)
        except InputError:
            others.append(interval)
    if len(others) > min(len(phones), 4 * n_double):
        first = f"the first of them {others[0].label!r} at {others[0].start:.2f} s"
        found = f"{len(others)} of {len(labelled)} phones are of another alphabet, {first}"
        raise InputError(f"{source}: {found}, expected {_ENGLISH}{instead}")
    return phones, others


def tally(intervals: Sequence[Interval]) -> str:
    """Labels with how often each occurs, the commonest first and no more than twelve, for a note."""
    counts = Counter(interval.label for interval in intervals)
    named = [f"{label} {n}" for label, n in counts.most_common(_NAMED)]
    return ", ".join([*named, "..."] if len(counts) > _NAMED else named)


def left_out(others: Sequence[Interval], n_labelled: int, source: object) -> str:
    """Line on the labels of `source` that are no phone of American English."""
    return f"{source}: left out {len(others)} of {n_labelled} phones, none of the 39 of English ({tally(others)})"


def notes(path: Path, duration: float = inf) -> list[str]:
    """Lines on what in the word and phone tiers of a TextGrid is kept or left out by the rule above.

    A phone tier that cannot be read or ends after `duration` s has a line, as it is refused where phones are needed;
    `InputError` for such a word tier.
    """
    lines = []
    for tier in ("word", "phone"):
        try:
            check_within(found := read_tier(path, tier), duration, path)
        except MissingTier:
            continue
        except InputError as error:
            if tier == "word":
                raise
            lines.append(str(error))
            continue
        if late := overlaps(found):
            kept = f"start before the one before ends, by up to {max(late):.2f} s: all kept, in the order of start"
            lines.append(f"{path}: {len(late)} of {len(found)} {tier}s {kept}")
        try:
            others = phones_among(found, path)[1] if tier == "phone" else ()
            lines += [left_out(others, len(found), path)] if others else []
        except InputError as error:
            lines.append(str(error))
    return lines


def intervals_of(entry: Mapping[str, Any], key: str, where: str) -> tuple[Interval, ...]:
    """Intervals under a key of an entry of `alignments.jsonl`, none where it lacks the key.

    Raises `InputError`, which begins with `where`, for what is not a list of [label, start, end] in seconds from 0.
    """
    found = entry.get(key) or []
    for one in found if isinstance(found, list) else [found]:
        kinds = [type(value) for value in one] if isinstance(one, list) else []
        right = len(kinds) == 3 and kinds[0] is str and set(kinds[1:]) <= {int, float}
        if not (right and 0 <= one[1] <= one[2] < inf):
            raise InputError(f"{where} has {one!r} in {key!r}, expected [label, start, end] in seconds")
    return tuple(Interval(*one) for one in found)


def text_of(entry: Mapping[str, Any], key: str, where: str) -> str:
    """Text under a key of an entry of `alignments.jsonl`; a whole number stands for its digits, but in `file`.

    Raises `InputError`, which begins with `where`, for anything else, and where the entry lacks the key.
    """
    if key not in entry:
        raise InputError(f"{where} has no {key!r}, expected one")
    if type(entry[key]) not in ((str,) if key == "file" else (str, int)):
        raise InputError(f"{where} has {entry[key]!r} in {key!r}, expected text")
    return str(entry[key])
