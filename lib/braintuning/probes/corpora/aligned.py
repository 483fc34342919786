"""Aligned speech: a folder of audio files and `alignments.jsonl`, one recording per line."""

import json
from pathlib import Path

from braintuning.datasets.textgrid import Interval
from braintuning.errors import InputError
from braintuning.probes.utterance import PARTS, Utterance
from braintuning.results import require_file

MARKS = ("alignments.jsonl",)
SOURCE = "anywhere: see data/README.md"
KEYS = ("file", "speaker", "text")


def read(folder: Path) -> list[Utterance]:
    """Every recording that has phones or a label.

    A line has `file`, `speaker`, `text` and optionally `prompt`, `part`, `label` and `phones`, which are
    [label, start, end] in seconds.
    """
    path, utterances = require_file(folder / MARKS[0]), []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        entry = json.loads(line)
        phones = tuple(Interval(*phone) for phone in entry.get("phones") or ())
        if not phones and entry.get("label") is None:
            continue
        if missing := [key for key in KEYS if key not in entry]:
            raise InputError(f"{path}: line {number} has no {missing[0]!r}, expected {', '.join(KEYS)}")
        if entry.get("part") not in (None, *PARTS):
            raise InputError(f"{path}: line {number} has part {entry['part']!r}, expected one of {', '.join(PARTS)}")
        prompt, file = entry.get("prompt", entry["text"]), require_file(folder / entry["file"])
        known = (entry.get("part"), entry.get("label"), entry["text"], phones)
        utterances.append(Utterance(entry["speaker"], prompt, file, *known))
    return utterances
