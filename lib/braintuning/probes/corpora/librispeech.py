"""LibriSpeech (Panayotov et al. 2015): sentences read from books by volunteers."""

from pathlib import Path

from braintuning.errors import InputError
from braintuning.probes.corpora import aligned
from braintuning.probes.utterance import Utterance
from braintuning.results import files_below, require_file

MARKS = ("SPEAKERS.TXT",)
SOURCE = "openslr.org/12"
SOUNDS = (".flac", ".ogg", ".wav")
TRANSCRIPTS = ".trans.txt"


def read(folder: Path) -> list[Utterance]:
    """Every utterance; its phones where `alignments.jsonl` (see `aligned.read`) lies in the folder.

    Without that file it is the official layout, `train-clean-100/103/1240/103-1240-0000.flac` with
    `103-1240.trans.txt` beside it, with text alone. Utterances have no part, whatever subset they are of: a subset may
    have few speakers, and `utterance.divide` draws speakers from all of them.

    Raises
    ------
    InputError
        As of `aligned.read`; neither alignments nor transcripts; an utterance without text, or a text without sound.
    """
    if (path := folder / aligned.MARKS[0]).exists() or path.is_symlink():
        return aligned.read(folder)
    files = files_below(folder)
    sounds = {file.with_suffix(""): file for file in files if file.suffix.lower() in SOUNDS}
    transcripts, utterances = [file for file in files if file.name.endswith(TRANSCRIPTS)], []
    if not transcripts:
        expected = f"expected {aligned.MARKS[0]} or the transcripts of LibriSpeech"
        raise InputError(f"{folder}: found no file that ends in {TRANSCRIPTS}, {expected}")
    for transcript in transcripts:
        for line in filter(str.strip, require_file(transcript).read_text(encoding="utf-8").splitlines()):
            name, _, text = line.strip().partition(" ")
            if (file := sounds.pop(transcript.with_name(name), None)) is None:
                raise InputError(f"{transcript}: found no recording {name} beside it, expected {name}.flac")
            utterances.append(Utterance(name.split("-")[0], text, file, None, None, text))
    if sounds:
        raise InputError(f"{next(iter(sounds.values()))}: named in no transcript, expected its text in one")
    return utterances
