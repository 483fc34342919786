"""Nuisance features: word rate, loudness envelope and position in the recording.

Hadidi, Feghhi, Song, Blank & Kao (2025, Illusions of alignment between large language models and brains emerge from
fragile methods and overlooked confounds) explain earlier results on language models by such features, so every model
stands beside an encoding model of these alone.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from braintuning.datasets.base import Dataset
from braintuning.datasets.textgrid import Interval
from braintuning.errors import MissingTier
from braintuning.timing import SAMPLE_RATE, lanczos_resample, spacing

NUISANCE = ("word rate", "envelope", "position")
FRAME_SAMPLES = 160


def word_rate(words: Sequence[Interval], times: np.ndarray, tr: float) -> np.ndarray:
    """Words that start around each TR, by the Lanczos filter that a model's features pass; (TRs, 1) float32.

    In words a second; `times`, (TRs,), are seconds, `tr` apart.
    """
    starts = np.array([word.start for word in words], float)
    return lanczos_resample(np.full((len(starts), 1), 1 / tr, np.float32), starts, times, tr)


def envelope(audio: np.ndarray, times: np.ndarray, tr: float) -> np.ndarray:
    """Broadband envelope: root mean square of every 10 ms, by the Lanczos filter; (TRs, 1) float32.

    On the scale of `audio`, (samples,) at 16 kHz, which is silent before its start and after its end; times as in
    `word_rate`.
    """
    frames = audio[: len(audio) // FRAME_SAMPLES * FRAME_SAMPLES].reshape(-1, FRAME_SAMPLES)
    seconds = FRAME_SAMPLES / SAMPLE_RATE
    rms = np.sqrt(np.square(frames, dtype=np.float64).mean(axis=1)) * seconds / tr
    centres = (np.arange(len(rms)) + 0.5) * seconds
    return lanczos_resample(rms[:, None].astype(np.float32), centres, times, tr)


def position(times: np.ndarray, duration: float) -> np.ndarray:
    """Place of each TR in its recording, -1 where that starts and 1 where it ends, and its square; (TRs, 2) float32.

    `times`, (TRs,), and `duration` are in seconds. A story that is part of a recording has places in the whole of it.
    """
    place = 2 * np.asarray(times, np.float64) / duration - 1
    return np.column_stack([place, place**2]).astype(np.float32)


def spoken_words(dataset: Dataset, story: str) -> list[Interval]:
    """Words of a story; none where the dataset has no tier of them."""
    try:
        return dataset.words(story)
    except MissingTier:
        return []


def nuisance_features(
    dataset: Dataset, times: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Word rate, envelope, position and its square of stories, side by side; times as in `low_level_features`.

    Returns
    -------
    features : dict of story to (TRs, 4) float32
        (TRs, 3) where one of the stories has no words: then none has a word rate.
    names : tuple of str
        Those of `NUISANCE` that are there.
    """
    words = {story: spoken_words(dataset, story) for story in times}
    names, features = NUISANCE if all(words.values()) else NUISANCE[1:], {}
    for story, trs in times.items():
        audio, tr = dataset.audio(story), spacing(trs)
        rate = [word_rate(words[story], trs, tr)] if names == NUISANCE else []
        features[story] = np.hstack([*rate, envelope(audio, trs, tr), position(trs, len(audio) / SAMPLE_RATE)])
    return features, names
