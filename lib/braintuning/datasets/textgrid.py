"""Reader of Praat's TextGrids: labels with their times.

praatio 6.2 is not used, as it refuses times such as `5.6e-17`, which Praat writes, reads `-0.5` as `0.5`, knows no
chronological form, and loses what follows a quotation mark that is not doubled.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import islice, pairwise
from pathlib import Path
from typing import NamedTuple

from braintuning.errors import InputError, MissingTier
from braintuning.results import require_file

ROUNDING = 1e-3
"""Seconds by which intervals may overlap without being counted."""
_BEFORE_ZERO = 0.1
"""Seconds by which an interval may start before the audio; it is taken to start with it."""
_NON_SPEECH = frozenset("sp sil spn br lg ls ns ns_ap cg ig sl sentence_start sentence_end".split()) | {""}
_NOISES = frozenset("noise breath breathing laugh laughs laughter cough silence pause music unk inaudible".split())
_SOUNDS = _NOISES | set("laughing applause sigh sighs sighing clapping cheering crying gasp gasps sniff".split())
_BRACKETED = re.compile(
    r"\{+[^{}]*[})]+|<+[^<>]*[>)\]]+|(?<!\w)\[+[^\[\]]*[\])>]+(?!\w)|\(\([^()]*\)\)"
    rf"|[(\[*+]+(?:{'|'.join(sorted(_SOUNDS))})[)\]*+]+", re.IGNORECASE,
)  # fmt: skip
_HALF_BRACKETED = re.compile(r"[{<\[(*+].*|.*[}>\])*+]")
_CHRONOLOGICAL = "Praat chronological TextGrid text file"
_HEADS = [("ooTextFile", "TextGrid"), ("ooTextFile short", "TextGrid")]
_N_TIMES = {"IntervalTier": 2, "TextTier": 1}
_NUMBER = r"-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?"
_VALUE = re.compile(rf'"((?:[^"]|"")*)"|(?<!\S)!.*|(?<![^\s=])({_NUMBER}|<exists>|<absent>)(?!\S)')
_FORMAT = r'"(?:ooTextFile(?: short)?|TextGrid|IntervalTier|TextTier|Praat chronological TextGrid text file)"'
_AFTER_LABEL = rf"(?:item|intervals|points) ?\[|(?:xmin|name) ?=|[-+\d.eE \t]*\d[ \t]*$|!|{_FORMAT}|\Z"
_QUOTED = re.compile(
    rf'^[^"\n]*{_FORMAT}[^\n]*$|^([^"\n!]*")(.*?)("[ \t]*$)(?=\s*(?:{_AFTER_LABEL}))', re.MULTILINE | re.DOTALL
)


class Interval(NamedTuple):
    """A word or phone and when it was said, in seconds."""

    label: str
    start: float
    end: float


def without_edges(label: str) -> str:
    """What of a label lies between its first letter or digit and its last: no quotes, commas, dashes or brackets."""
    inside = [place for place, character in enumerate(label) if unicodedata.category(character)[0] in "LMN"]
    return label[inside[0] : inside[-1] + 1] if inside else ""


def is_silence(label: str) -> bool:
    """Whether a label stands for no speech: silence, breath, laughter, lip smack, noise, or anything in brackets.

    Round brackets make it so where they are double or a sound is in them, `((x))` and `(laughing)`. One bracket is
    enough at a known mark: `{LS)`, `(br`, `ls)`, `(laughter`. A mark may have the place in the word that Kaldi adds
    (`SIL_S`). `{LG} YEAH` is speech, as something is said outside the brackets.
    """
    return all(map(_is_mark, outside_brackets(label).split()))


def _is_mark(part: str) -> bool:
    mark = re.sub(r"_[bies]$", "", without_edges(part).lower())
    return mark in _NON_SPEECH or (mark in _NOISES and _HALF_BRACKETED.fullmatch(part) is not None)


def outside_brackets(label: str) -> str:
    """What of a label stands outside the brackets that `is_silence` knows."""
    return _BRACKETED.sub(" ", label)


def read_tier(path: Path, tier: str) -> list[Interval]:
    """Intervals of one tier of a TextGrid that stand for speech, labels as there, in the order of their start.

    Read are Praat's long, short and chronological text forms in UTF-8, UTF-16 or Latin-1. Where quotation marks within
    labels are not doubled, which Praat itself cannot read, a label ends with the last one of its line, and the others
    are left out. Intervals may overlap, and times may lie outside the tier's; a start up to 0.1 s before 0 is 0. Where
    no tier has exactly this name, case, a final `s` and a speaker's name before ` - ` are ignored: `word` finds `Words`
    and `Ann - words`.

    `InputError` where the file is missing, empty, a link without content, not a TextGrid, or cut off; has not exactly
    one such tier (`MissingTier` where it has none); an interval ends before it starts; or most overlap an earlier one.
    """
    tiers = _read_tiers(path)
    exact = [intervals for found, intervals in tiers if found == tier]
    alike = exact or [intervals for found, intervals in tiers if _singular(found) == _singular(tier)]
    if len(alike) != 1:
        found = ", ".join(repr(found) for found, _ in tiers) or "none"
        kind = InputError if alike else MissingTier
        raise kind(f"{path}: {len(alike)} tiers called {tier!r}, expected one; interval tiers found: {found}")
    return _in_order([interval for interval in alike[0] if not is_silence(interval.label)], f"{path}, tier {tier!r}")


def _singular(name: str) -> str:
    return name.split(" - ")[-1].strip().lower().removesuffix("s")


def _in_order(intervals: Sequence[Interval], source: str) -> list[Interval]:
    for label, start, end in intervals:
        if not -_BEFORE_ZERO <= start <= end + ROUNDING < float("inf"):
            raise InputError(f"{source}: {label!r} lasts from {start} to {end} s, expected 0 <= start <= end")
    moved = (Interval(label, max(start, 0.0), max(start, end, 0.0)) for label, start, end in intervals)
    found, latest, late = sorted(moved, key=lambda interval: interval.start), 0.0, []
    for interval in found:
        if interval.start < latest - ROUNDING:
            late.append(interval)
        latest = max(latest, interval.end)
    if len(late) > len(found) / 2:
        first = f"{late[0].label!r} at {late[0].start} s the first"
        raise InputError(
            f"{source}: {len(late)} of {len(found)} overlap an earlier one, {first}, expected one at a time"
        )
    return found


def overlaps(intervals: Sequence[Interval]) -> list[float]:
    """Seconds by which intervals start before the one before them ends, of those that do, 1 ms being forgiven."""
    late = (before.end - after.start for before, after in pairwise(intervals))
    return [seconds for seconds in late if seconds > ROUNDING]


def _read_tiers(path: Path) -> list[tuple[str, list[Interval]]]:
    """Name and intervals of every interval tier; point tiers are left out."""
    text = _text(path)
    head = tuple(islice(_values(text), 2))
    chronological = head[:1] == (_CHRONOLOGICAL,)
    if not chronological and head not in _HEADS:
        expected = "expected a Praat TextGrid in long, short or chronological text form"
        raise InputError(f"{path}: another kind of file found, {expected}")
    parse = _chronological if chronological else _long_or_short
    try:
        return parse(_values(text))
    except ValueError:
        text = _QUOTED.sub(_without_stray_quotes, text)
    try:
        return parse(_values(text))
    except ValueError as error:
        raise InputError(f"{path}: breaks off in {error}, expected a whole Praat TextGrid") from error


def _text(path: Path) -> str:
    content = require_file(path).read_bytes()
    if content.startswith(b"ooBinaryFile"):
        raise InputError(f"{path}: Praat's binary form found, expected one of its text forms")
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        text = content.decode("utf-16", errors="replace")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = content.decode("cp1252", errors="replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _without_stray_quotes(match: re.Match) -> str:
    before, label, after = match.groups()
    if label is None:
        return match[0]
    return before + (label.replace('"', "") if '"' in label.replace('""', "") else label) + after


def _values(text: str) -> Iterator[str | float]:
    """Free-standing numbers, flags and quoted strings, in order: all that Praat itself reads in any text form."""
    for quoted, plain in (match.groups() for match in _VALUE.finditer(text)):
        if quoted is not None:
            yield " ".join(quoted.replace('""', '"').split())
        elif plain is not None:
            yield plain if plain.startswith("<") else float(plain)


def _take(values: Iterator[str | float], kinds: str) -> list[str | float]:
    """Next values; `kinds` has an `n` for each that has to be a number, and an `s` for each string."""
    taken = list(islice(values, len(kinds)))
    if len(taken) < len(kinds):
        raise ValueError("the end of the file")
    for kind, value in zip(kinds, taken, strict=True):
        if isinstance(value, str) != (kind == "s"):
            raise ValueError(f"{value!r} where a {'label' if kind == 's' else 'number'} should be")
    return taken


def _long_or_short(values: Iterator[str | float]) -> list[tuple[str, list[Interval]]]:
    tiers, where = [], "the header"
    try:
        *_, n_tiers = _take(values, "ssnnsn")
        for number in range(1, int(n_tiers) + 1):
            where = f"tier {number} of {int(n_tiers)}"
            kind, name, _, _, size = _take(values, "ssnnn")
            rows = [_take(values, "n" * _n_times(kind) + "s") for _ in range(int(size))]
            if kind == "IntervalTier":
                tiers.append((name, [Interval(label, start, end) for start, end, label in rows]))
        if (left := next(values, None)) is not None:
            raise ValueError(f"{left!r} where the end of the file should be")
    except ValueError as error:
        raise ValueError(f"{where} ({error})") from error
    return tiers


def _n_times(kind: str) -> int:
    if kind not in _N_TIMES:
        raise ValueError(f"{kind!r} where one of {', '.join(_N_TIMES)} should be")
    return _N_TIMES[kind]


def _chronological(values: Iterator[str | float]) -> list[tuple[str, list[Interval]]]:
    """Tiers of a file whose intervals are in the order of time; it has no sizes, so each tier has to reach its end."""
    where = "the header"
    try:
        *_, n_tiers = _take(values, "snnn")
        heads = [_take(values, "ssnn") for _ in range(int(n_tiers))]
        rows = [[] for _ in heads]
        for number in values:
            where = f"the interval after {rows[-1][-1][1] if rows[-1] else 0} s"
            if number not in range(1, len(heads) + 1):
                raise ValueError(f"{number!r} where the number of a tier should be")
            of = int(number) - 1
            rows[of].append(_take(values, "n" * _n_times(heads[of][0]) + "s"))
        tiers = []
        for (kind, name, start, end), found in zip(heads, rows, strict=True):
            if kind == "IntervalTier":
                where, reached = f"tier {name!r}", max([start, *(row[1] for row in found)])
                if reached < end - _BEFORE_ZERO:
                    raise ValueError(f"the last interval ends at {reached} s, the tier at {end} s")
                tiers.append((name, [Interval(label, start, end) for start, end, label in found]))
    except ValueError as error:
        raise ValueError(f"{where} ({error})") from error
    return tiers


def check_within(intervals: Sequence[Interval], duration: float, path: Path) -> None:
    """Raise `InputError`, naming `path`, if an interval ends more than 0.5 s after `duration` s of audio."""
    last = max(intervals, key=lambda interval: interval.end, default=None)
    if last is not None and last.end > duration + 0.5:
        expected = f"expected within its audio of {duration:.2f} s"
        raise InputError(f"{path}: {last.label!r} ends at {last.end:.2f} s, {expected}")
