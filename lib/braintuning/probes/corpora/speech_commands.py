"""Speech Commands (Warden 2018): 30 words in version 1, 35 in version 2, by many speakers, one second per file."""

import logging
from os.path import lexists
from pathlib import Path

from braintuning.errors import InputError
from braintuning.probes.utterance import Utterance, lacking_classes
from braintuning.results import listed, require_file

MARKS = ("yes", "no")
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
SOURCE = "tensorflow.org/datasets, speech_commands"
SPEAKER_ENDS = "_nohash_"
SOUNDS = (".wav", ".flac")
WORDS = (
    "backward bed bird cat dog down eight five follow forward four go happy house learn left marvin nine no off on one "
    "right seven sheila six stop three tree two up visual wow yes zero"
).split()
ADDED = ("backward", "follow", "forward", "learn", "visual")
"""Words that version 2 has and version 1 has not."""

log = logging.getLogger(__name__)


def read(folder: Path) -> list[Utterance]:
    """Every recording of the words, divided by the corpus's own lists of validation and test files.

    A selection that has neither list has no parts. The version is the second where one of the words `ADDED` is there.
    Files are wav or FLAC; the lists may name them with the other ending. That speakers have not said every word is a
    note in the log.

    Raises
    ------
    InputError
        One list without the other, a word of the version without recordings, a name without a speaker, or a listed
        file that is not here.
    """
    some = any(lexists(folder / name) for name in LISTS.values())
    lists = {part: require_file(folder / name) for part, name in LISTS.items()} if some else {}
    part_of = {name: part for part, path in lists.items() for name in path.read_text().split()}
    names = {name.rpartition(".")[0]: name for name in part_of}
    files = {word: [f for f in listed(folder / word) if f.suffix.lower() in SOUNDS] for word in WORDS}
    version, words = (2, WORDS) if any(files[word] for word in ADDED) else (1, [w for w in WORDS if w not in ADDED])
    utterances = []
    for word in words:
        if not files[word]:
            expected = f"expected all {len(words)} words of Speech Commands version {version}"
            raise InputError(f"{folder}: found no recordings of {word!r}, {expected}")
        for file in files[word]:
            if SPEAKER_ENDS not in file.name:
                raise InputError(f"{file}: expected a name of Speech Commands such as 0a7c2a8d{SPEAKER_ENDS}0.wav")
            part = part_of.pop(names.get(f"{word}/{file.stem}"), "train") if lists else None
            utterances.append(Utterance(file.name.split(SPEAKER_ENDS)[0], word, file, part, word, word))
    for name in part_of:
        if name.split("/")[0] in words:
            raise InputError(f"{folder / name}: listed by the corpus and not here, expected Speech Commands whole")
    if lacking := lacking_classes(utterances, folder):
        log.info(lacking)
    return utterances
