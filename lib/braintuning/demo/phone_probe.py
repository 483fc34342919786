"""Phone probe of small pretrained models, and the model card that reports it.

A linear classifier decodes the phone of single frames, in speakers that neither the model nor the probe was trained on.
"""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soxr
import torch
from safetensors.torch import load_file
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.datasets.textgrid import Interval
from braintuning.demo.pretraining import Pretraining
from braintuning.demo.pretraining_corpus import held_out_speakers, real_speakers
from braintuning.demo.voices import RATE, Voice, speak
from braintuning.errors import InputError
from braintuning.lowlevel.phones import PHONES, without_stress
from braintuning.probes.corpora import aligned
from braintuning.probes.mfcc import mfcc
from braintuning.probes.utterance import Utterance
from braintuning.results import REPOSITORY, generator
from braintuning.timing import SAMPLE_RATE

HOP, CENTRE = 320, 200
PIECE_SECONDS = 10.0
NO_PHONE = -1
LOG_ROWS = 100
LEARNT = {
    "hubert": "masked prediction of k-means units (Hsu et al. 2021), first of MFCCs, then of its layer {unit_layer}",
    "wav2vec2": "a first round of masked MFCC units, the same as HuBERT's and run once for both, that shapes the "
    "convolutions, then, on these, its own contrastive prediction of quantised latents (Baevski et al. 2020) in masked "
    "spans of {contrast_span} frames, 10 in the paper",
}
CARD = REPOSITORY / "data" / "models" / "card.md"


@dataclass(frozen=True)
class Recording:
    """Audio (samples,) float32 at 16 kHz, and the phone of each frame as `frame_phones` gives it."""

    speaker: str
    audio: np.ndarray
    phones: np.ndarray


def frame_phones(phones: Sequence[Interval], n_samples: int) -> np.ndarray:
    """Phone at the centre of each frame as index in `PHONES`, or -1 where there is none; (frames,) int64.

    Frames have 400 samples, every 320 of `n_samples` at 16 kHz. Labels that are no phone of ARPAbet are silence.
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


def real_split(folder: Path) -> tuple[list[Utterance], list[Utterance]]:
    """Utterances with phones in LibriSpeech to train and to test a probe on.

    Training: the speakers that models are pretrained on. Test: those held out of train-clean-100, and all of
    test-other.
    """
    held_out, train, test = held_out_speakers(real_speakers(folder)), [], []
    for utterance in aligned.read(Path(folder)):
        if utterance.phones:
            unseen = utterance.file.parent.name == "test-other" or utterance.speaker in held_out
            (test if unseen else train).append(utterance)
    return train, test


def real_recordings(utterances: Sequence[Utterance]) -> list[Recording]:
    """Recordings of utterances from `real_split`."""
    heard = [(utterance, utterance.audio()) for utterance in utterances]
    return [Recording(u.speaker, audio, frame_phones(u.phones, len(audio))) for u, audio in heard]


def synthesised_recordings(texts: Sequence[str], voices: Sequence[Voice], seed: int) -> list[Recording]:
    """Every text in every voice, with the phone times of the synthesis, in pieces of 10 s."""
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


def _drawn_frames(recordings: Sequence[Recording], count: int, seed: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames with a phone drawn from each recording, at most `count` in total, and the phones of all."""
    places = [(r, f) for r, recording in enumerate(recordings) for f in np.flatnonzero(recording.phones != NO_PHONE)]
    order = generator(seed, "frames").permutation(len(places))[:count]
    chosen = np.array([places[i] for i in order]).reshape(-1, 2)
    frames = [np.sort(chosen[chosen[:, 0] == r, 1]) for r in range(len(recordings))]
    if not len(chosen):
        raise InputError("probe: found no frame with a phone in the training or test recordings, expected some")
    return frames, np.concatenate([r.phones[some] for r, some in zip(recordings, frames, strict=True)])


@torch.no_grad()
def _states_at(
    frames: Sequence[np.ndarray], recordings: Sequence[Recording], model: Callable[[torch.Tensor], torch.Tensor]
) -> np.ndarray:
    """States of a model, such as a `SpeechEncoder`, at the given frames of each recording; (layers, frames, dim)."""
    states = [
        model(torch.from_numpy(recording.audio)[None])[:, 0].float().cpu().numpy()[:, chosen]
        for recording, chosen in zip(recordings, frames, strict=True)
        if len(chosen)
    ]
    return np.concatenate(states, axis=1)


def accuracy(train: np.ndarray, train_phones: np.ndarray, test: np.ndarray, test_phones: np.ndarray) -> float:
    """Share of test frames (frames, channels) whose phone a multinomial logistic regression predicts."""
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
    """Accuracy of the phone probe on every layer of every encoder, on MFCCs, and of always giving the commonest phone.

    All are trained and tested on the same frames, at most `n_train` and `n_test`, which `seed` draws. `InputError` if a
    speaker is in both sets, or a set has no phones.

    Returns
    -------
    DataFrame
        features, layer (-1 where there are none), accuracy, train_frames, test_frames, test_speakers.
    """
    if both := {r.speaker for r in train} & {r.speaker for r in test}:
        raise InputError(f"probe: speaker {min(both)} in training and in test, expected different speakers")
    train_frames, train_phones = _drawn_frames(train, n_train, seed)
    test_frames, test_phones = _drawn_frames(test, n_test, seed)
    rows = [("commonest phone", -1, float((test_phones == np.bincount(train_phones).argmax()).mean()))]
    for name, model in {"MFCC and deltas": lambda audio: mfcc(audio)[None], **encoders}.items():
        states = _states_at(train_frames, train, model), _states_at(test_frames, test, model)
        for layer, (seen, unseen) in enumerate(zip(*states, strict=True)):
            rows.append((name, layer if name in encoders else -1, accuracy(seen, train_phones, unseen, test_phones)))
    table = pd.DataFrame(rows, columns=["features", "layer", "accuracy"])
    speakers = len({recording.speaker for recording in test})
    return table.assign(train_frames=len(train_phones), test_frames=len(test_phones), test_speakers=speakers)


def write_card(
    folder: Path, settings: Pretraining, log: Sequence[Mapping[str, float]], probe: pd.DataFrame, data: str
) -> None:
    """Write `README.md`, `probe.csv` and `log.csv` beside the weights in a folder of `save_small`.

    `log` has the entries of `PretrainingRun.log`, `probe` is a `probe_table` with a column `speech`, and `data` says in
    a sentence what the model was pretrained on.
    """
    folder, losses = Path(folder), pd.DataFrame(log)
    n_parameters = sum(value.numel() for value in load_file(folder / "model.safetensors").values())
    heard = sum(settings.steps) * settings.batch_size * settings.clip_seconds / 3600
    of_round = losses.groupby("round").agg(step=("step", "last"), start=("loss", "first"), end=("loss", "last"))
    rounds = [f"| {one.Index} | {one.step:.0f} | {one.start:.2f} | {one.end:.2f} |" for one in of_round.itertuples()]
    ways = probe.assign(percent=(100 * probe.accuracy).round(1)).pivot_table(
        index=["features", "layer"], columns="speech", values="percent", sort=False
    )
    heading = "| " + " | ".join(["features", "layer", *(f"{speech} speech, %" for speech in ways.columns)]) + " |"
    scores = [
        "| " + " | ".join([name, "" if layer < 0 else str(layer), *map(str, row)]) + " |"
        for (name, layer), row in zip(ways.index, ways.values.tolist(), strict=True)
    ]
    text = CARD.read_text(encoding="utf-8").format(
        name=folder.name, family=settings.family, layers=settings.layers, dim=settings.dim, data=data,
        millions=n_parameters / 1e6, heard=heard, minutes=losses.seconds.sum() / 60,
        settings=json.dumps(asdict(settings)),
        rounds="\n".join(rounds), heading=heading, rule="|---" * (len(ways.columns) + 2) + "|",
        scores="\n".join(scores), learnt=LEARNT[settings.family].format(**asdict(settings)),
        seen=settings.unmasked_weight,
    )  # fmt: skip
    (folder / "README.md").write_text(text, encoding="utf-8")
    probe.to_csv(folder / "probe.csv", index=False, float_format="%.4f")
    losses.iloc[:: max(len(losses) // LOG_ROWS, 1)].to_csv(folder / "log.csv", index=False)
