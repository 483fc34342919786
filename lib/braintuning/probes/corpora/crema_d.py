"""CREMA-D (Cao et al. 2014): twelve sentences in six emotions by 91 actors."""

from pathlib import Path

from braintuning.errors import InputError
from braintuning.probes.utterance import Utterance
from braintuning.results import listed

MARKS = ("AudioWAV",)
SOURCE = "github.com/CheyneyComputerScience/CREMA-D"
EMOTIONS = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness"}


def read(folder: Path) -> list[Utterance]:
    """Every recording: `1001_DFA_ANG_XX.wav` is actor 1001, sentence DFA, anger, level unspecified."""
    utterances = []
    for file in listed(folder / "AudioWAV", "*.wav"):
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
