"""CREMA-D (Cao et al. 2014): twelve sentences in six emotions by 91 actors."""

import logging
from pathlib import Path

from braintuning.errors import InputError
from braintuning.probes.utterance import Utterance
from braintuning.results import listed

MARKS = ("AudioWAV",)
SOURCE = "github.com/CheyneyComputerScience/CREMA-D"
EMOTIONS = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness"}
BROKEN = frozenset(("1064_IEO_DIS_MD", "1064_TIE_SAD_XX", "1076_MTI_NEU_XX", "1076_MTI_SAD_XX"))
"""Recordings without speech, or of more than a sentence, as the corpus's own README says."""

log = logging.getLogger(__name__)


def read(folder: Path) -> list[Utterance]:
    """Every recording but the `BROKEN` ones, which are counted in the log.

    `1001_DFA_ANG_XX.wav` is actor 1001, sentence DFA, anger, level unspecified.
    """
    utterances, files = [], listed(folder / "AudioWAV", "*.wav")
    if broken := [file.stem for file in files if file.stem in BROKEN]:
        log.info(f"{folder}: left out {len(broken)} of {len(files)} recordings, which are broken: {', '.join(broken)}")
    for file in files:
        if file.stem in BROKEN:
            continue
        try:
            actor, sentence, emotion, _ = file.stem.split("_")
        except ValueError:
            raise InputError(f"{file}: expected a name of CREMA-D such as 1001_DFA_ANG_XX.wav") from None
        if emotion not in EMOTIONS:
            raise InputError(f"{file}: emotion {emotion!r}, expected one of {', '.join(EMOTIONS)}")
        utterances.append(Utterance(actor, sentence, file, None, EMOTIONS[emotion], sentence))
    if not utterances:
        raise InputError(f"{folder / 'AudioWAV'}: found no .wav file, expected those of CREMA-D")
    return utterances
