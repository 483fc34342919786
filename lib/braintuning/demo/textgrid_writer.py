"""Writer of Praat TextGrids."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from braintuning.datasets.textgrid import Interval
from braintuning.results import atomic_path


def write_textgrid(path: Path, tiers: Mapping[str, Sequence[Interval]], duration: float) -> None:
    """Write a TextGrid of `duration` seconds in Praat's long text form, UTF-8, whole or not at all.

    Each tier's intervals are in the order of time; gaps between them become intervals with an empty label.
    """
    end = float(duration)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end!r}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, intervals) in enumerate(tiers.items(), 1):
        filled = _with_gaps(intervals, end)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f"        name = {_quoted(name)}"]
        lines += ["        xmin = 0", f"        xmax = {end!r}", f"        intervals: size = {len(filled)}"]
        for index, (label, start, stop) in enumerate(filled, 1):
            lines += [f"        intervals [{index}]:", f"            xmin = {float(start)!r}"]
            lines += [f"            xmax = {float(stop)!r}", f"            text = {_quoted(label)}"]
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


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'
