"""Semantic preference: similarity of synonyms compared with near homophones, in every layer of a model."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.precision import autocast
from braintuning.errors import InputError
from braintuning.preference.pairs import PAIR_TYPES
from braintuning.preference.words import WINDOW_SECONDS, SpokenWord
from braintuning.timing import SAMPLE_RATE

N_RESAMPLES = 1000
UNDEFINED = "the same word is no more alike than random words"


@torch.no_grad()
def word_states(
    encoder: SpeechEncoder, said: Sequence[SpokenWord], device: str = "cpu", batch_size: int = 32
) -> np.ndarray:
    """States of every layer, averaged over each word's frames; (layers + 1, words, dim) float32.

    Raises InputError for a word shorter than a frame or longer than its window.
    """
    middle, means = WINDOW_SECONDS / 2, []
    frames = (np.arange(encoder.n_frames(round(WINDOW_SECONDS * SAMPLE_RATE))) + 0.5) * encoder.frame_seconds
    for start in range(0, len(said), batch_size):
        batch = said[start : start + batch_size]
        for word in batch:
            if not encoder.frame_seconds <= word.seconds <= WINDOW_SECONDS:
                found = f"{word.word} by {word.speaker}: {word.seconds:.3f} s long"
                raise InputError(f"{found}, expected between {encoder.frame_seconds} s and {WINDOW_SECONDS} s")
        inside = np.array([np.abs(frames - middle) <= word.seconds / 2 for word in batch])
        with autocast(device):
            hidden = encoder(torch.from_numpy(np.stack([word.audio for word in batch])).to(device))
        weights = torch.from_numpy(inside / inside.sum(axis=1, keepdims=True)).to(device, hidden.dtype)
        means.append(torch.einsum("lbfd,bf->lbd", hidden, weights).float().cpu().numpy())
    return np.concatenate(means, axis=1)


def pair_similarities(states: np.ndarray, said: Sequence[SpokenWord], pairs: pd.DataFrame) -> np.ndarray:
    """Cosine similarity of the two words of each pair, as different speakers say them, after centring by speaker.

    Without centring nearly all states of speech models are similar (Choi et al. 2024); centring over all speakers would
    leave each a direction of their own, which would push all pairs apart. With n words the error of a speaker's mean is
    1/n of the variance of a word, independent between speakers, so that all types of pairs lose about that share of
    their similarity and none is shifted. Averaging over all tokens by two different speakers ensures that no pair, not
    even a word with itself, is similar because of a voice.

    Parameters
    ----------
    states : (layers, words, dim) float32
    pairs : DataFrame
        Columns a and b.

    Returns
    -------
    similarities : (layers, pairs) float64
        NaN for a pair that no two speakers say.
    """
    speakers, centred = np.array([word.speaker for word in said]), states.astype(np.float64)
    for speaker in set(speakers):
        centred[:, speakers == speaker] -= centred[:, speakers == speaker].mean(axis=1, keepdims=True)
    unit = centred / np.maximum(np.linalg.norm(centred, axis=2, keepdims=True), 1e-12)
    tokens = defaultdict(list)
    for number, word in enumerate(said):
        tokens[word.word].append(number)
    similarities = np.full((len(states), len(pairs)), np.nan)
    for column, (a, b) in enumerate(zip(pairs["a"], pairs["b"], strict=True)):
        one, other = tokens[a], tokens[b]
        allowed = speakers[one][:, None] != speakers[other][None, :]
        if allowed.any():
            similarities[:, column] = (unit[:, one] @ unit[:, other].transpose(0, 2, 1))[:, allowed].mean(axis=1)
    return similarities


def preference_table(similarities: np.ndarray, pairs: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Similarity of each type of pairs and semantic preference by layer, with 95 % bootstrap intervals over pairs.

    Preference is `(synonyms - near homophones) / (same word - random)`: 1 if synonyms are as similar as a word by two
    speakers and near homophones only as similar as random pairs, -1 if it is the other way round. It is undefined, and
    NaN, in a layer where the same word is not more similar than random pairs in every resample.

    Returns
    -------
    DataFrame
        layer, pair_type, n_pairs, similarity, similarity_low, similarity_high, preference, low, high, reason; the last
        four are the layer's, the same for each type. `reason` says why preference is NaN, and is otherwise empty.

    Raises
    ------
    InputError
        A type without a pair said by two speakers.
    """
    n_pairs, means, resampled, defined = _bootstrap(similarities, pairs, rng)
    low, high = np.percentile(resampled, [2.5, 97.5], axis=2)
    limits = np.percentile(_preference(resampled), [2.5, 97.5], axis=1)
    preference = np.where(defined, [_preference(means), *limits], np.nan)
    columns = {"n_pairs": np.tile(n_pairs, len(defined)), "similarity": means.T.ravel()}
    columns |= {"similarity_low": low.T.ravel(), "similarity_high": high.T.ravel()}
    of_layer = dict(zip(("preference", "low", "high"), preference, strict=True))
    of_layer["reason"] = np.where(defined, "", UNDEFINED)
    index = pd.MultiIndex.from_product([range(len(defined)), PAIR_TYPES], names=["layer", "pair_type"])
    columns |= {name: np.repeat(values, len(PAIR_TYPES)) for name, values in of_layer.items()}
    return pd.DataFrame(columns, index).reset_index()


def preference_change(
    before: np.ndarray, after: np.ndarray, pairs: pd.DataFrame, rng: np.random.Generator
) -> pd.DataFrame:
    """Semantic preference of one model minus another's, by layer, with 95 % intervals from resampling the same pairs.

    Columns layer, difference, low, high, reason; NaN with a reason where either model's preference is undefined.
    """
    n_layers = len(before)
    _, means, resampled, defined = _bootstrap(np.concatenate([before, after]), pairs, rng)
    defined = defined[:n_layers] & defined[n_layers:]
    change, drawn = (p[n_layers:] - p[:n_layers] for p in map(_preference, (means, resampled)))
    found = np.where(defined, [change, *np.percentile(drawn, [2.5, 97.5], axis=1)], np.nan)
    columns = {"layer": np.arange(n_layers), **dict(zip(("difference", "low", "high"), found, strict=True))}
    return pd.DataFrame({**columns, "reason": np.where(defined, "", UNDEFINED)})


def _bootstrap(
    similarities: np.ndarray, pairs: pd.DataFrame, rng: np.random.Generator
) -> tuple[list[int], np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of each type, mean similarities, means of resampled pairs, and whether preference is defined.

    (types,), (types, layers), (types, layers, resamples) and (layers,); all layers share the resamples.
    """
    n_pairs, means, resampled = [], [], []
    for pair_type in PAIR_TYPES:
        values = similarities[:, (pairs["pair_type"] == pair_type).to_numpy()]
        values = values[:, np.isfinite(values).all(axis=0)]
        n_pairs.append(values.shape[1])
        if not n_pairs[-1]:
            raise InputError(f"semantic preference: found no pair of type {pair_type!r} by two speakers, expected some")
        means.append(values.mean(axis=1))
        resampled.append(values[:, rng.integers(n_pairs[-1], size=(N_RESAMPLES, n_pairs[-1]))].mean(axis=2))
    same, *_, random = resampled
    return n_pairs, np.array(means), np.array(resampled), (same > random).all(axis=1)


def _preference(similarities: np.ndarray) -> np.ndarray:
    same, synonyms, near, random = similarities
    scale = same - random
    return (synonyms - near) / np.where(scale == 0, np.nan, scale)
