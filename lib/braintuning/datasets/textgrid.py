"""Words and phones with their times, in Praat's TextGrid files.

Read here and not by praatio: praatio 6.2 refuses times such as `5.6e-17`, which Praat writes, reads `-0.5` as `0.5`,
and sorts the intervals before anyone can see that they were out of order.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

from braintuning.errors import InputError, MissingTier
from braintuning.results import atomic_path, require_file

_NON_SPEECH = frozenset("sp sil spn br lg ls ns ns_ap cg ig sl sentence_start sentence_end".split()) | {""}
_BRACKETED = re.compile(r"\{.*\}|<.*>|\[.*\]|\(\(.*\)\)", re.DOTALL)
_VALUE = re.compile(r'"((?:[^"]|"")*)"|(?<!\S)(-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|<exists>|<absent>)(?!\S)')
_TIER_WIDTH = {"IntervalTier": 3, "TextTier": 2}
_ROUNDING = 1e-3


class Interval(NamedTuple):
    """A word or phone and when it was said, in seconds."""

    label: str
    start: float
    end: float


def is_silence(label: str) -> bool:
    """Whether a label stands for no speech: silence, breath, laughter, lip smack, noise, or anything in brackets."""
    label = label.strip()
    return label.lower() in _NON_SPEECH or _BRACKETED.fullmatch(label) is not None


def _text(path: Path) -> str:
    content = require_file(path).read_bytes()
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not text in UTF-8 or UTF-16, expected a Praat TextGrid: {error}") from error


def _values(text: str) -> Iterator[str | float]:
    """Free-standing numbers, flags and quoted strings, in order: all that Praat itself reads in a text file."""
    for match in _VALUE.finditer(text):
        quoted, plain = match.groups()
        if quoted is not None:
            yield quoted.replace('""', '"').strip()
        else:
            yield plain if plain.startswith("<") else float(plain)


def _take(values: Iterator[str | float], n: int) -> list[str | float]:
    taken = list(islice(values, n))
    if len(taken) < n:
        raise ValueError("the end of the file")
    return taken


def _tiers(path: Path) -> list[tuple[str, list[Interval]]]:
    """Name and intervals of every interval tier, long and short form alike; point tiers are left out."""
    values = _values(_text(path))
    header = list(islice(values, 2))
    if header not in (["ooTextFile", "TextGrid"], ["ooTextFile short", "TextGrid"]):
        raise InputError(f"{path}: another kind of file found, expected a Praat TextGrid in long or short text form")
    tiers, where = [], "the header"
    try:
        _, _, _, n_tiers = _take(values, 4)
        for number in range(1, int(n_tiers) + 1):
            where = f"tier {number} of {int(n_tiers)}"
            kind, name, _, _, size = _take(values, 5)
            rows = [_take(values, _TIER_WIDTH.get(kind, 0)) for _ in range(int(size))]
            if kind == "IntervalTier":
                intervals = [Interval(str(label), float(start), float(end)) for start, end, label in rows]
                tiers.append((str(name), intervals))
    except ValueError as error:
        raise InputError(f"{path}: breaks off in {where} ({error}), expected a whole Praat TextGrid") from error
    return tiers


def _singular(name: str) -> str:
    return name.strip().lower().removesuffix("s")


def _find(tiers: list[tuple[str, list[Interval]]], name: str, path: Path) -> list[Interval]:
    exact = [intervals for found, intervals in tiers if found == name]
    alike = exact or [intervals for found, intervals in tiers if _singular(found) == _singular(name)]
    if len(alike) != 1:
        found = ", ".join(repr(found) for found, _ in tiers) or "none"
        kind = InputError if alike else MissingTier
        raise kind(f"{path}: {len(alike)} tiers called {name!r}, expected one; interval tiers found: {found}")
    return alike[0]


def _require_order(intervals: Sequence[Interval], source: str) -> None:
    for interval in intervals:
        start, end = interval.start, interval.end
        if not -_ROUNDING <= start < end < float("inf"):
            raise InputError(f"{source}: {interval.label!r} lasts from {start} to {end} s, expected 0 <= start < end")
    for earlier, later in pairwise(intervals):
        if later.start < earlier.end - _ROUNDING:
            raise InputError(
                f"{source}: {later.label!r} starts at {later.start} s, before {earlier.label!r} ends at {earlier.end} s"
            )


def read_tier(path: Path, tier: str, keep_silence: bool = False) -> list[Interval]:
    """Intervals of one tier of a TextGrid.

    Parameters
    ----------
    path
        A TextGrid in Praat's long or short text form, UTF-8 or UTF-16.
    tier
        Name of the tier; where none has exactly this name, case and a final `s` are ignored: `word` finds `Words`.
    keep_silence
        Also give the intervals whose label is no speech (see `is_silence`).

    Returns
    -------
    list of Interval
        In the order of time; labels as they are in the file, times in seconds.

    Raises
    ------
    InputError
        If the file is missing, empty, a link without content, no TextGrid or cut off; if it has not exactly one such
        tier; if an interval among those asked for ends before it starts or overlaps the one before by more than 1 ms.
    """
    path = Path(path)
    found = _find(_tiers(path), tier, path)
    intervals = [interval for interval in found if keep_silence or not is_silence(interval.label)]
    _require_order(intervals, f"{path}, tier {tier!r}")
    return intervals


def check_within(intervals: Sequence[Interval], duration: float, path: Path, tolerance: float = 0.5) -> None:
    """Raise `InputError`, naming `path`, if an interval ends more than `tolerance` s after `duration` s of audio."""
    last = max(intervals, key=lambda interval: interval.end, default=None)
    if last is not None and last.end > duration + tolerance:
        raise InputError(
            f"{path}: {last.label!r} ends at {last.end:.2f} s, expected within its audio of {duration:.2f} s"
        )


def _with_gaps(intervals: Sequence[Interval], duration: float) -> list[Interval]:
    filled, now = [], 0.0
    for interval in intervals:
        if interval.start > now:
            filled.append(Interval("", now, interval.start))
        start, now = max(interval.start, now), min(interval.end, duration)
        filled.append(Interval(interval.label, start, now))
    return filled if now >= duration and filled else [*filled, Interval("", now, duration)]


def _tier_lines(number: int, name: str, intervals: Sequence[Interval], duration: float) -> Iterator[str]:
    def quote(text: str) -> str:
        return '"' + text.replace('"', '""') + '"'

    yield f"    item [{number}]:"
    yield '        class = "IntervalTier"'
    yield f"        name = {quote(name)}"
    yield "        xmin = 0"
    yield f"        xmax = {duration!r}"
    yield f"        intervals: size = {len(intervals)}"
    for index, interval in enumerate(intervals, 1):
        yield f"        intervals [{index}]:"
        yield f"            xmin = {float(interval.start)!r}"
        yield f"            xmax = {float(interval.end)!r}"
        yield f"            text = {quote(interval.label)}"


def write(path: Path, tiers: Mapping[str, Sequence[Interval]], duration: float) -> None:
    """Write a TextGrid in Praat's long text form, UTF-8, whole or not at all.

    Parameters
    ----------
    path
        File to write.
    tiers
        Intervals by tier name, in the order of time; gaps between them become intervals with an empty label.
    duration
        Seconds of the recording.

    Raises
    ------
    InputError
        If intervals overlap by more than 1 ms, end before they start, or pass the end of the recording.
    """
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {float(duration)!r}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers.items(), 1):
        _require_order(intervals, f"{path}, tier {name!r}")
        check_within(intervals, duration, path, tolerance=_ROUNDING)
        lines += _tier_lines(number, name, _with_gaps(intervals, float(duration)), float(duration))
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
