"""Aligned speech: a folder of audio files and `alignments.jsonl`, one recording per line."""

import logging
from dataclasses import replace
from pathlib import Path

from braintuning.datasets.labels import intervals_of, left_out, phones_among, text_of
from braintuning.datasets.textgrid import is_silence
from braintuning.errors import InputError
from braintuning.probes.utterance import PARTS, Utterance
from braintuning.results import json_lines, require_file

log = logging.getLogger(__name__)

MARKS = ("alignments.jsonl",)
SOURCE = "anywhere: see data/README.md"


def read(folder: Path) -> list[Utterance]:
    """Every recording that has text, phones or a label.

    A line that does has `file`, `speaker`, `text` and optionally `prompt`, `part`, `label` and `phones`, which are
    [label, start, end] in seconds. Phones follow the rule of `datasets.labels`; those left out are counted in the log.
    """
    path, utterances, spoken = folder / MARKS[0], [], []
    for where, entry in json_lines(path):
        phones = intervals_of(entry, "phones", where)
        if not phones and entry.get("label") is None and entry.get("text") is None:
            continue
        file, speaker, text = (text_of(entry, key, where) for key in ("file", "speaker", "text"))
        prompt, label = (None if entry.get(key) is None else text_of(entry, key, where) for key in ("prompt", "label"))
        if entry.get("part") not in (None, *PARTS):
            raise InputError(f"{where} has part {entry['part']!r}, expected one of {', '.join(PARTS)}")
        known = (require_file(folder / file), entry.get("part"), label, text, phones)
        utterances.append(Utterance(speaker, text if prompt is None else prompt, *known))
        spoken += [phone for phone in phones if not is_silence(phone.label)]
    _, others = phones_among(spoken, path)
    if not others:
        return utterances
    log.info(left_out(others, len(spoken), path))
    unknown = {phone.label for phone in others}
    return [replace(u, phones=tuple(phone for phone in u.phones if phone.label not in unknown)) for u in utterances]
