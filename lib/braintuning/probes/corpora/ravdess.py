"""RAVDESS (Livingstone & Russo 2018): two sentences in eight emotions by 24 actors."""

import logging
from collections import Counter
from pathlib import Path

from braintuning.errors import InputError
from braintuning.probes.utterance import Utterance, lacking_classes
from braintuning.results import files_below

MARKS = ("Actor_*|*_Actors_*|[0-9][0-9]-[0-9][0-9]-[0-9][0-9]-[0-9][0-9]-[0-9][0-9]-[0-9][0-9]-[0-9][0-9].*",)
SOURCE = "zenodo.org/record/1188976, Audio_Speech_Actors_01-24.zip"
SOUNDS = (".wav", ".flac")
EMOTIONS = {"01": "neutral", "03": "happiness", "04": "sadness", "05": "anger", "06": "fear", "07": "disgust"}
"""Of the eight emotions the six that CREMA-D has as well."""
OTHERS = {"02": "calm", "08": "surprise"}
SENTENCES = {"01": "Kids are talking by the door", "02": "Dogs are sitting by the door"}
AUDIO, SONG = "03", "02"
FIELDS = (("01", "02", "03"), ("01", "02"), (*EMOTIONS, *OTHERS), ("01", "02"), tuple(SENTENCES), ("01", "02"))

log = logging.getLogger(__name__)


def read(folder: Path) -> list[Utterance]:
    """Every spoken recording of the six `EMOTIONS`: an actor says each of two sentences in each of them.

    `03-01-05-02-01-01-12.wav` is audio alone (03), speech (01), anger, strong, the first sentence, the first time, by
    actor 12. Files lie in folders of actors or all in one folder, as wav or FLAC; of copies with one name the first is
    read. Songs (second field 02), video (first field 01 or 02) and the `OTHERS` are left out and counted in the log;
    that an actor lacks an emotion is a note as well.

    Raises
    ------
    InputError
        A sound whose name is not of RAVDESS, no spoken recording at all, or none of one of the emotions or sentences.
    """
    utterances, left, stems = [], Counter(), set()
    for file in files_below(folder):
        fields = file.stem.split("-")
        if not (named := _is_name(fields)) and file.suffix.lower() in SOUNDS:
            raise InputError(f"{file}: expected a name of RAVDESS such as 03-01-05-02-01-01-12.wav")
        if not named or (fields[0] == AUDIO and file.suffix.lower() not in SOUNDS):
            continue
        modality, channel, emotion, _, sentence, _, actor = fields
        if kind := "video" if modality != AUDIO else "song" if channel == SONG else OTHERS.get(emotion):
            left[kind] += 1
        elif file.stem not in stems:
            stems.add(file.stem)
            utterances.append(Utterance(actor, sentence, file, None, EMOTIONS[emotion], SENTENCES[sentence]))
    counted = ", ".join(f"{n} of {kind}" for kind, n in sorted(left.items()))
    if not utterances:
        found = f"found only recordings that are not used ({counted})" if left else "found no recording"
        raise InputError(f"{folder}: {found}, expected spoken audio of RAVDESS such as 03-01-05-02-01-01-12.wav")
    if left:
        log.info(f"{folder}: left out {left.total()} of {left.total() + len(utterances)} recordings: {counted}")
    there = {utterance.label for utterance in utterances} | {utterance.text for utterance in utterances}
    if absent := [one for one in (*EMOTIONS.values(), *SENTENCES.values()) if one not in there]:
        expected = "expected six emotions in two sentences, as in RAVDESS"
        raise InputError(f"{folder}: found no recording of {absent[0]!r}, {expected}")
    if lacking := lacking_classes(utterances, folder):
        log.info(lacking)
    return utterances


def _is_name(fields: list[str]) -> bool:
    actor = fields[-1]
    known = all(field in valid for field, valid in zip(fields[:-1], FIELDS, strict=False))
    return len(fields) == len(FIELDS) + 1 and known and len(actor) == 2 and actor.isdigit()
