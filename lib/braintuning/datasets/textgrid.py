"""Reader of Praat's TextGrids: words and phones with their times.

praatio 6.2 is not used, as it refuses times such as `5.6e-17`, which Praat writes, reads `-0.5` as `0.5`, and sorts the
intervals before anyone can see that they were out of order.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

from braintuning.errors import InputError, MissingTier
from braintuning.results import require_file

ROUNDING = 1e-3
"""Seconds by which intervals may overlap."""
_NON_SPEECH = frozenset("sp sil spn br lg ls ns ns_ap cg ig sl sentence_start sentence_end".split()) | {""}
_BRACKETED = re.compile(r"\{.*\}|<.*>|\[.*\]|\(\(.*\)\)", re.DOTALL)
_VALUE = re.compile(r'"((?:[^"]|"")*)"|(?<!\S)(-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|<exists>|<absent>)(?!\S)')
_TIER_WIDTH = {"IntervalTier": 3, "TextTier": 2}


class Interval(NamedTuple):
    """A word or phone and when it was said, in seconds."""

    label: str
    start: float
    end: float


def is_silence(label: str) -> bool:
    """Whether a label stands for no speech: silence, breath, laughter, lip smack, noise, or anything in brackets."""
    label = label.strip()
    return label.lower() in _NON_SPEECH or _BRACKETED.fullmatch(label) is not None


def read_tier(path: Path, tier: str) -> list[Interval]:
    """Intervals of one tier of a TextGrid in Praat's long or short text form, in the order of time.

    Parameters
    ----------
    tier
        Name of the tier; where none has exactly this name, case and a final `s` are ignored: `word` finds `Words`.

    Raises
    ------
    InputError
        The file is missing, empty, a link without content, not a TextGrid, or cut off; it has not exactly one such tier
        (`MissingTier` where it has none); or an interval ends before it starts or overlaps the one before by over 1 ms.
    """
    tiers = _read_tiers(path)
    exact = [intervals for found, intervals in tiers if found == tier]
    alike = exact or [intervals for found, intervals in tiers if _singular(found) == _singular(tier)]
    if len(alike) != 1:
        found = ", ".join(repr(found) for found, _ in tiers) or "none"
        kind = InputError if alike else MissingTier
        raise kind(f"{path}: {len(alike)} tiers called {tier!r}, expected one; interval tiers found: {found}")
    intervals = [interval for interval in alike[0] if not is_silence(interval.label)]
    require_order(intervals, f"{path}, tier {tier!r}")
    return intervals


def _singular(name: str) -> str:
    return name.strip().lower().removesuffix("s")


def _read_tiers(path: Path) -> list[tuple[str, list[Interval]]]:
    """Name and intervals of every interval tier; point tiers are left out."""
    content = require_file(path).read_bytes()
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    try:
        values = _values(content.decode(encoding))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 or UTF-16, expected a Praat TextGrid: {error}") from error
    if list(islice(values, 2)) not in (["ooTextFile", "TextGrid"], ["ooTextFile short", "TextGrid"]):
        raise InputError(f"{path}: another kind of file found, expected a Praat TextGrid in long or short text form")
    tiers, where = [], "the header"
    try:
        _, _, _, n_tiers = _take(values, 4)
        for number in range(1, int(n_tiers) + 1):
            where = f"tier {number} of {int(n_tiers)}"
            kind, name, _, _, size = _take(values, 5)
            fields = [_take(values, _TIER_WIDTH.get(kind, 0)) for _ in range(int(size))]
            if kind == "IntervalTier":
                intervals = [Interval(str(label), float(start), float(end)) for start, end, label in fields]
                tiers.append((str(name), intervals))
    except ValueError as error:
        raise InputError(f"{path}: breaks off in {where} ({error}), expected a whole Praat TextGrid") from error
    return tiers


def _values(text: str) -> Iterator[str | float]:
    """Free-standing numbers, flags and quoted strings, in order: all that Praat itself reads in either text form."""
    for quoted, plain in (match.groups() for match in _VALUE.finditer(text)):
        if quoted is not None:
            yield quoted.replace('""', '"').strip()
        else:
            yield plain if plain.startswith("<") else float(plain)


def _take(values: Iterator[str | float], n: int) -> list[str | float]:
    taken = list(islice(values, n))
    if len(taken) < n:
        raise ValueError("the end of the file")
    return taken


def require_order(intervals: Sequence[Interval], source: str) -> None:
    """Raise `InputError`, naming `source`, unless each interval ends after it starts and before the next one starts."""
    for label, start, end in intervals:
        if not -ROUNDING <= start < end < float("inf"):
            raise InputError(f"{source}: {label!r} lasts from {start} to {end} s, expected 0 <= start < end")
    for earlier, later in pairwise(intervals):
        if later.start < earlier.end - ROUNDING:
            end = f"before {earlier.label!r} ends at {earlier.end} s"
            raise InputError(f"{source}: {later.label!r} starts at {later.start} s, {end}")


def check_within(intervals: Sequence[Interval], duration: float, path: Path, tolerance: float = 0.5) -> None:
    """Raise `InputError`, naming `path`, if an interval ends more than `tolerance` s after `duration` s of audio."""
    last = max(intervals, key=lambda interval: interval.end, default=None)
    if last is not None and last.end > duration + tolerance:
        expected = f"expected within its audio of {duration:.2f} s"
        raise InputError(f"{path}: {last.label!r} ends at {last.end:.2f} s, {expected}")
