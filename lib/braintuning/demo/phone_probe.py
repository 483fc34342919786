"""What a speech model knows of phones: a linear classifier of single frames, tested on speakers it never heard."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soxr
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.datasets.audio import read_audio
from braintuning.datasets.textgrid import Interval
from braintuning.demo.pretraining_corpus import held_out_speakers, real_speakers
from braintuning.demo.voices import RATE, Voice, speak
from braintuning.errors import InputError
from braintuning.lowlevel.phones import PHONES, without_stress
from braintuning.results import generator
from braintuning.timing import SAMPLE_RATE
from braintuning.tuning.units import mfcc

HOP, CENTRE = 320, 200
PIECE_SECONDS = 10.0
NO_PHONE = -1


@dataclass(frozen=True)
class Recording:
    """Speech of which the phones are known.

    Attributes
    ----------
    speaker
        Who speaks.
    audio
        (samples,) float32, 16 kHz.
    phones
        (frames,) int64, one for each whole frame of 400 samples every 320: index in `PHONES`, or -1.
    """

    speaker: str
    audio: np.ndarray
    phones: np.ndarray


def frame_phones(phones: Sequence[Interval], n_samples: int) -> np.ndarray:
    """Phone at the centre of each frame, as index in `PHONES`; -1 where there is none, such as in silence.

    Parameters
    ----------
    phones : sequence of Interval
        ARPAbet, with or without stress, in order; labels that are no phone are silence. Seconds.
    n_samples : int
        Of the sound at 16 kHz.

    Returns
    -------
    labels : (frames,) int64
    """
    centres = (np.arange(max((n_samples - 2 * CENTRE) // HOP + 1, 0)) * HOP + CENTRE) / SAMPLE_RATE
    labels = np.full(len(centres), NO_PHONE)
    for label, start, end in phones:
        try:
            phone = PHONES.index(without_stress(label))
        except InputError:
            continue
        labels[np.searchsorted(centres, start) : np.searchsorted(centres, end)] = phone
    return labels


def real_split(folder: Path) -> tuple[list[dict], list[dict]]:
    """Entries of LibriSpeech's `alignments.jsonl` to train and to test a probe on.

    Returns
    -------
    train, test : list of dict
        The speakers that models are pretrained on; those held out of train-clean-100, and all of test-other.
    """
    held_out, train, test = held_out_speakers(real_speakers(folder)), [], []
    for line in (Path(folder) / "alignments.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        unseen = entry["file"].startswith("test-other/") or entry["speaker"] in held_out
        if entry.get("phones"):
            (test if unseen else train).append(entry)
    return train, test


def real_recordings(folder: Path, entries: Sequence[dict]) -> list[Recording]:
    """Read recordings of `real_split`."""
    recordings = []
    for entry in entries:
        audio = read_audio(Path(folder) / entry["file"])
        phones = frame_phones([Interval(*phone) for phone in entry["phones"]], len(audio))
        recordings.append(Recording(entry["speaker"], audio, phones))
    return recordings


def spoken_recordings(texts: Sequence[str], voices: Sequence[Voice], seed: int) -> list[Recording]:
    """Every text told by every voice, with the phone times that the synthesis used, in pieces of 10 s."""
    recordings, length = [], round(PIECE_SECONDS * SAMPLE_RATE)
    for voice in voices:
        for number, text in enumerate(texts):
            speech = speak(text, voice, seed=seed + number)
            audio = soxr.resample(speech.audio, RATE, SAMPLE_RATE).astype(np.float32)
            for start in range(0, len(audio) - SAMPLE_RATE, length):
                piece, shift = audio[start : start + length], start / SAMPLE_RATE
                phones = [Interval(p.label, p.start - shift, p.end - shift) for p in speech.phones]
                recordings.append(Recording(voice.name, piece, frame_phones(phones, len(piece))))
    return recordings


def _chosen_frames(recordings: Sequence[Recording], count: int, seed: int) -> list[np.ndarray]:
    """Frames with a phone to use of each recording, `count` together."""
    places = [(r, f) for r, recording in enumerate(recordings) for f in np.flatnonzero(recording.phones != NO_PHONE)]
    order = generator(seed, "frames").permutation(len(places))[:count]
    chosen = np.array([places[i] for i in order]).reshape(-1, 2)
    return [np.sort(chosen[chosen[:, 0] == r, 1]) for r in range(len(recordings))]


@torch.no_grad()
def layer_states(encoder: SpeechEncoder, recordings: Sequence[Recording], frames: Sequence[np.ndarray]) -> np.ndarray:
    """States of every layer at chosen frames: (layers + 1, all frames, dim) float32."""
    states = [
        encoder(torch.from_numpy(recording.audio)[None])[:, 0].float().cpu().numpy()[:, chosen]
        for recording, chosen in zip(recordings, frames, strict=True)
        if len(chosen)
    ]
    return np.concatenate(states, axis=1)


def mfcc_states(recordings: Sequence[Recording], frames: Sequence[np.ndarray]) -> np.ndarray:
    """MFCCs with deltas at chosen frames, as one layer: (1, all frames, 39) float32."""
    pairs = zip(recordings, frames, strict=True)
    return np.concatenate([mfcc(torch.from_numpy(r.audio)[None])[0].numpy()[chosen] for r, chosen in pairs])[None]


def accuracy(train: np.ndarray, train_phones: np.ndarray, test: np.ndarray, test_phones: np.ndarray) -> float:
    """Share of test frames that a multinomial logistic regression on standardised features names rightly.

    Parameters
    ----------
    train, test : (frames, channels) float
    train_phones, test_phones : (frames,) int
    """
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=60))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(train, train_phones)
    return float(classifier.score(test, test_phones))


def probe_table(
    encoders: Mapping[str, SpeechEncoder],
    train: Sequence[Recording],
    test: Sequence[Recording],
    seed: int = 0,
    n_train: int = 15_000,
    n_test: int = 10_000,
) -> pd.DataFrame:
    """Accuracy of a phone probe on every layer of every encoder, on MFCCs, and of always naming the commonest phone.

    Parameters
    ----------
    encoders : mapping of name to SpeechEncoder
    train, test : sequence of Recording
        Of different speakers.
    seed : int
        Of the frames that are used, the same for all.
    n_train, n_test : int
        Frames, fewer where there are fewer.

    Returns
    -------
    table : DataFrame
        features, layer (-1 where there are none), accuracy, train_frames, test_frames, test_speakers.

    Raises
    ------
    InputError
        If a speaker is in both sets, or a set has no phones.
    """
    if both := {r.speaker for r in train} & {r.speaker for r in test}:
        raise InputError(f"probe: speaker {min(both)} in training and in test, expected different speakers")
    used = {"train": (train, _chosen_frames(train, n_train, seed)), "test": (test, _chosen_frames(test, n_test, seed))}
    phones = {
        use: np.concatenate([r.phones[chosen] for r, chosen in zip(recordings, frames, strict=True)] or [np.empty(0)])
        for use, (recordings, frames) in used.items()
    }
    if not len(phones["train"]) or not len(phones["test"]):
        raise InputError("probe: found no frame with a phone in the training or test recordings, expected some")
    commonest = np.bincount(phones["train"]).argmax()
    rows = [("commonest phone", -1, float((phones["test"] == commonest).mean()))]
    states = {"MFCC and deltas": [mfcc_states(*used[use]) for use in ("train", "test")]}
    for name, encoder in encoders.items():
        states[name] = [layer_states(encoder, *used[use]) for use in ("train", "test")]
    for name, (train_states, test_states) in states.items():
        for layer, (seen, unseen) in enumerate(zip(train_states, test_states, strict=True)):
            score = accuracy(seen, phones["train"], unseen, phones["test"])
            rows.append((name, layer if name in encoders else -1, score))
    table = pd.DataFrame(rows, columns=["features", "layer", "accuracy"])
    speakers = len({recording.speaker for recording in test})
    return table.assign(train_frames=len(phones["train"]), test_frames=len(phones["test"]), test_speakers=speakers)
