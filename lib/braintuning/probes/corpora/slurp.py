"""SLURP (Bastianelli et al. 2020): commands to a home assistant, labelled with the action."""

import json
from pathlib import Path

from braintuning.datasets.labels import text_of
from braintuning.errors import InputError
from braintuning.probes.utterance import Utterance, drawn
from braintuning.results import generator, json_lines, require_file

MARKS = ("dataset/slurp", "audio/slurp_real")
SOURCE = "github.com/pswietojanski/slurp and zenodo.org/record/4274930"
METADATA = "dataset/slurp/metadata.json"
FILES = {"train": "train.jsonl", "validation": "devel.jsonl", "test": "test.jsonl"}


def read(folder: Path) -> list[Utterance]:
    """Recordings of the official parts, with one of 46 actions as label.

    SLURP is divided by text, and most of its speakers are in all parts. So the speakers are divided here as well (60,
    15 and 25 %, the same in every study), and recordings are kept where the speaker's part is that of the text.
    """
    speakers = _speakers(require_file(folder / METADATA))
    paths = {part: require_file(folder / MARKS[0] / name) for part, name in FILES.items()}
    utterances = [u for part, path in paths.items() for u in _read_part(folder, part, path, speakers)]
    part_of = drawn({utterance.speaker for utterance in utterances}, generator(0, "SLURP speakers"))
    return [utterance for utterance in utterances if part_of[utterance.speaker] == utterance.part]


def _speakers(path: Path) -> dict[str, str]:
    """Speaker of each recording."""
    try:
        entries = json.loads(path.read_text(encoding="utf-8")).values()
        return {name: str(known["usrid"]) for entry in entries for name, known in entry["recordings"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: no metadata of SLURP, expected recordings with usrid for each entry") from None


def _read_part(folder: Path, part: str, path: Path, speakers: dict[str, str]) -> list[Utterance]:
    utterances = []
    for where, entry in json_lines(path):
        try:
            names = [(recording["file"], speakers[recording["file"]]) for recording in entry["recordings"]]
        except (KeyError, TypeError):
            raise InputError(f"{where} is no entry of SLURP, expected recordings that metadata.json knows") from None
        prompt, action = (text_of(entry, key, where) for key in ("slurp_id", "action"))
        for name, speaker in names:
            file = folder / MARKS[1] / name
            if not file.exists() and not file.is_symlink():
                raise InputError(f"{file}: named in {path.name} and not here, expected slurp_real.tar.gz of SLURP")
            utterances.append(Utterance(speaker, prompt, file, part, action, entry.get("sentence") or ""))
    return utterances
