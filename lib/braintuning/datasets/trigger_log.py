"""Reader of trigger logs: when the scanner took each volume of a story, and when the sound began."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from braintuning.errors import InputError
from braintuning.results import require_file

MOST_OFF = 1e-3
"""Share by which a log's median TR may differ from the expected one; single triggers are off by up to 0.7 %."""


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
    """Read a log, a line for each event: seconds, and what happened.

    Triggers are `first trigger` and `trigger` (ds003020), or `init-trigger`; the sound starts at `START: ...` or
    `sound-start`. Other events, such as words, and times without one are left out.

    Raises
    ------
    InputError
        No such file; a line without a time; fewer than two triggers, or triggers that do not follow each other; another
        number of sound starts than one, or one before the first trigger.
    """
    triggers, starts = [], []
    for number, line in enumerate(require_file(path).read_text("utf-8-sig", errors="replace").splitlines(), 1):
        time, event = line.split(maxsplit=1) if len(line.split()) > 1 else (line.strip() or "0", "")
        try:
            seconds = float(time)
        except ValueError:
            raise InputError(f"{path}, line {number}: found {time[:40]!r}, expected seconds and an event") from None
        event = event.strip()
        if event in ("first trigger", "init-trigger", "trigger"):
            triggers.append(seconds)
        elif event.startswith("START:") or event == "sound-start":
            starts.append(seconds)
    if len(triggers) < 2:
        raise InputError(f"{path}: found {len(triggers)} triggers, expected one a volume")
    for before, after in pairwise(triggers):
        if not before < after:
            raise InputError(
                f"{path}: found a trigger at {after:g} s after one at {before:g} s, expected them in order"
            )
    if len(starts) != 1 or starts[0] < triggers[0]:
        found = f"{len(starts)} starts of the sound" if len(starts) != 1 else "one start of the sound, too early"
        raise InputError(f"{path}: found {found}, expected one `START:` or `sound-start` after the first trigger")
    return TriggerLog(np.array(triggers), starts[0] - triggers[0])
