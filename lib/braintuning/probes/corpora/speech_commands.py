"""Speech Commands, version 2 (Warden 2018): 35 words by many speakers, one second per file."""

from pathlib import Path

from braintuning.errors import InputError
from braintuning.probes.utterance import Utterance
from braintuning.results import listed, require_file

MARKS = ("validation_list.txt", "testing_list.txt")
SOURCE = "tensorflow.org/datasets, speech_commands v2"
SPEAKER_ENDS = "_nohash_"
WORDS = (
    "backward bed bird cat dog down eight five follow forward four go happy house learn left marvin nine no off on one "
    "right seven sheila six stop three tree two up visual wow yes zero"
).split()


def read(folder: Path) -> list[Utterance]:
    """Every recording of the 35 words, divided by the corpus's own lists of validation and test files."""
    lists = {part: require_file(folder / mark) for part, mark in zip(("validation", "test"), MARKS, strict=True)}
    part_of = {name: part for part, path in lists.items() for name in path.read_text().split()}
    utterances = []
    for word in WORDS:
        files = listed(folder / word, "*.wav")
        if not files:
            raise InputError(f"{folder}: found no recordings of {word!r}, expected all 35 words of Speech Commands v2")
        for file in files:
            if SPEAKER_ENDS not in file.name:
                raise InputError(f"{file}: expected a name of Speech Commands such as 0a7c2a8d{SPEAKER_ENDS}0.wav")
            part = part_of.pop(f"{word}/{file.name}", "train")
            utterances.append(Utterance(file.name.split(SPEAKER_ENDS)[0], word, file, part, word, word))
    for name in part_of:
        if name.split("/")[0] in WORDS:
            raise InputError(f"{folder / name}: listed by the corpus and not here, expected Speech Commands v2 whole")
    return utterances
