"""Writer of Praat TextGrids."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from braintuning.datasets.textgrid import ROUNDING, Interval, check_within, require_order
from braintuning.results import atomic_path


def write_textgrid(path: Path, tiers: Mapping[str, Sequence[Interval]], duration: float) -> None:
    """Write a TextGrid in Praat's long text form, UTF-8, whole or not at all.

    Parameters
    ----------
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
        require_order(intervals, f"{path}, tier {name!r}")
        check_within(intervals, duration, path, tolerance=ROUNDING)
        lines += _tier_lines(number, name, _with_gaps(intervals, float(duration)), float(duration))
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _with_gaps(intervals: Sequence[Interval], duration: float) -> list[Interval]:
    filled, now = [], 0.0
    for interval in intervals:
        if interval.start > now:
            filled.append(Interval("", now, interval.start))
        start, now = max(interval.start, now), min(interval.end, duration)
        filled.append(Interval(interval.label, start, now))
    return filled if now >= duration and filled else [*filled, Interval("", now, duration)]


def _tier_lines(number: int, name: str, intervals: Sequence[Interval], duration: float) -> Iterator[str]:
    yield f"    item [{number}]:"
    yield '        class = "IntervalTier"'
    yield f"        name = {_quoted(name)}"
    yield "        xmin = 0"
    yield f"        xmax = {duration!r}"
    yield f"        intervals: size = {len(intervals)}"
    for index, interval in enumerate(intervals, 1):
        yield f"        intervals [{index}]:"
        yield f"            xmin = {float(interval.start)!r}"
        yield f"            xmax = {float(interval.end)!r}"
        yield f"            text = {_quoted(interval.label)}"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
