"""Reader of trigger logs: when the scanner took each volume of a story, and when the sound began."""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from braintuning.errors import InputError
from braintuning.results import require_file

MOST_OFF = 1e-3
"""Share by which a log's median TR may differ from the expected one; single triggers are off by up to 0.7 %."""
LONGEST_TR = 60.0
"""Seconds between triggers from which on a log is taken to be in another unit, such as milliseconds."""


@dataclass(frozen=True, eq=False)
class TriggerLog:
    """What the stimulus computer noted of one presentation.

    Attributes
    ----------
    triggers : (volumes,) float64
        Seconds; the first is not always 0.
    sound_start : float
        Seconds from the first trigger to the start of the audio.
    """

    triggers: np.ndarray
    sound_start: float

    def differences(self, n_volumes: int, tr: float) -> list[str]:
        """What the log says otherwise than the table of volumes and the study do, in a few words each."""
        found, median = [], float(np.median(np.diff(self.triggers)))
        if len(self.triggers) != n_volumes:
            found.append(f"found {len(self.triggers)} triggers, {n_volumes} volumes in the table")
        if abs(median - tr) > MOST_OFF * tr:
            found.append(f"found a trigger every {median:.4f} s (median), the study's TR is {tr:g} s")
        return found


def read_trigger_log(path: Path) -> TriggerLog:
    """Read a log, a line for each event: seconds, and what happened, in upper or lower case.

    Triggers are `first trigger` and `trigger` (ds003020), or `init-trigger`; the sound starts at `START: ...` or
    `sound-start`. Other events, such as words, and times without one are left out.

    `InputError` for no such file, or one in UTF-16; a line without a finite time; fewer than two triggers, or triggers
    that do not follow each other or are further apart than `LONGEST_TR`; another number of sound starts than one, or
    one before the first trigger or after the last.
    """
    triggers, starts, text = [], [], require_file(path).read_text("utf-8-sig", errors="replace")
    if "\0" in text:
        raise InputError(f"{path}: found UTF-16 or no text, expected a line for each event in UTF-8")
    for number, line in enumerate(text.split("\n"), 1):
        time, event = line.split(maxsplit=1) if len(line.split()) > 1 else (line.strip() or "0", "")
        try:
            seconds = float(time)
        except ValueError:
            seconds = math.nan
        if not math.isfinite(seconds):
            raise InputError(f"{path}, line {number}: found {time[:40]!r}, expected seconds and an event")
        event = event.strip().lower()
        if event in ("first trigger", "init-trigger", "trigger"):
            triggers.append(seconds)
        elif event.startswith("start:") or event == "sound-start":
            starts.append(seconds)
    if len(triggers) < 2:
        raise InputError(f"{path}: found {len(triggers)} triggers, expected one a volume")
    for before, after in pairwise(triggers):
        if not before < after:
            raise InputError(
                f"{path}: found a trigger at {after:g} s after one at {before:g} s, expected them in order"
            )
    if (median := float(np.median(np.diff(triggers)))) > LONGEST_TR:
        raise InputError(f"{path}: found a trigger every {median:g} s (median), expected times in seconds")
    if len(starts) != 1 or not triggers[0] <= starts[0] <= triggers[-1]:
        found = f"{len(starts)} starts of the sound"
        if len(starts) == 1:
            found = f"one start of the sound, too {'early' if starts[0] < triggers[0] else 'late'}, at {starts[0]:g} s"
        expected = "expected one `START:` or `sound-start` between the first trigger and the last"
        raise InputError(f"{path}: found {found}, {expected}")
    return TriggerLog(np.array(triggers), starts[0] - triggers[0])
