"""Semantic preference: whether a model's space holds words together by what they mean or by how they sound."""

from collections.abc import Mapping, Sequence

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

    Raises
    ------
    InputError
        A word shorter than a frame, or longer than the window it is heard in.
    """
    middle, pieces = WINDOW_SECONDS / 2, []
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
        pieces.append(torch.einsum("lbfd,bf->lbd", hidden, weights).float().cpu().numpy())
    return np.concatenate(pieces, axis=1)


def pair_similarities(states: np.ndarray, said: Sequence[SpokenWord], pairs: pd.DataFrame) -> np.ndarray:
    """Cosine similarity of the two words of each pair, after centring, as different speakers say them.

    Each speaker's mean over his words is taken off first: states of speech models point mostly one way (Choi et al.
    2024), and after a mean over all speakers each would keep a direction of his own, which would push all pairs apart.
    With n words a speaker's mean is wrong by 1/n of the variance of a word; the errors of two speakers are independent,
    so that all types of pairs lose about that part of their similarity and none is shifted.
    A pair's similarity is the mean over all its tokens by two different speakers, so that no pair, not even a word with
    itself, is held together by a voice. Where every speaker says every word, all pairs compare the same voices.

    Parameters
    ----------
    states : (layers, words, dim) float32
        From `word_states`.
    said : sequence of SpokenWord
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
    tokens: dict[str, list[int]] = {}
    for number, word in enumerate(said):
        tokens.setdefault(word.word, []).append(number)
    found = np.full((len(states), len(pairs)), np.nan)
    for column, (a, b) in enumerate(zip(pairs["a"], pairs["b"], strict=True)):
        one, other = tokens.get(a, []), tokens.get(b, [])
        allowed = speakers[one][:, None] != speakers[other][None, :]
        if allowed.any():
            found[:, column] = (unit[:, one] @ unit[:, other].transpose(0, 2, 1))[:, allowed].mean(axis=1)
    return found


def preference_table(similarities: np.ndarray, pairs: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Similarity of each type of pairs and semantic preference by layer, with 95 % bootstrap intervals over pairs.

    How far synonyms lie above random pairs compared with near homophones, on the scale of the same word by another
    speaker: `(synonyms - near homophones) / (same word - random)`. 1 if synonyms were as alike as a word and itself and
    near homophones no more than random pairs; -1 if it were the other way round. It is not defined, and NaN, in a layer
    where the same word is not more alike than random pairs in every resample: the space then holds no words.

    Parameters
    ----------
    similarities : (layers, pairs) float
        From `pair_similarities`.
    pairs : DataFrame
        Column pair_type.
    rng : numpy Generator

    Returns
    -------
    DataFrame
        layer, pair_type, n_pairs, similarity, similarity_low, similarity_high, preference, low, high, reason; the last
        four are the layer's, the same for each type. `reason` says why preference is NaN, and is else empty.

    Raises
    ------
    InputError
        A type of which no pair was said by two speakers.
    """
    by_type = _by_type(similarities, pairs)
    means = {pair_type: values.mean(axis=1) for pair_type, values in by_type.items()}
    resampled = _resampled(by_type, rng)
    defined = _defined(resampled)
    limits = np.percentile(_preference(resampled), [2.5, 97.5], axis=1)
    preference = np.where(defined, [_preference(means), *limits], np.nan)
    rows = []
    for layer in range(len(similarities)):
        for pair_type, values in by_type.items():
            low, high = np.percentile(resampled[pair_type][layer], [2.5, 97.5])
            similarity = (pair_type, values.shape[1], means[pair_type][layer], low, high)
            rows.append((layer, *similarity, *preference[:, layer], "" if defined[layer] else UNDEFINED))
    columns = ["layer", "pair_type", "n_pairs", "similarity", "similarity_low", "similarity_high"]
    return pd.DataFrame(rows, columns=[*columns, "preference", "low", "high", "reason"])


def preference_change(
    before: np.ndarray, after: np.ndarray, pairs: pd.DataFrame, rng: np.random.Generator
) -> pd.DataFrame:
    """Semantic preference of one model minus another's, by layer, with 95 % intervals from resampling the same pairs.

    Parameters
    ----------
    before, after : (layers, pairs) float
        From `pair_similarities`, of the same pairs.
    pairs : DataFrame
        Column pair_type.
    rng : numpy Generator

    Returns
    -------
    DataFrame
        layer, difference, low, high, reason; NaN with a reason where either model's preference is not defined.
    """
    n_layers = len(before)
    by_type = _by_type(np.concatenate([before, after]), pairs)
    both = _preference({pair_type: values.mean(axis=1) for pair_type, values in by_type.items()})
    resampled = _resampled(by_type, rng)
    drawn, defined = _preference(resampled), _defined(resampled).reshape(2, n_layers).all(axis=0)
    limits = np.percentile(drawn[n_layers:] - drawn[:n_layers], [2.5, 97.5], axis=1)
    found = np.where(defined, [both[n_layers:] - both[:n_layers], *limits], np.nan)
    table = pd.DataFrame(found.T, columns=["difference", "low", "high"])
    table.insert(0, "layer", np.arange(n_layers))
    return table.assign(reason=np.where(defined, "", UNDEFINED))


def _by_type(similarities: np.ndarray, pairs: pd.DataFrame) -> dict[str, np.ndarray]:
    """Similarities of each type of pairs, without those that no two speakers said; (layers, pairs)."""
    by_type = {}
    for pair_type in PAIR_TYPES:
        of_type = similarities[:, (pairs["pair_type"] == pair_type).to_numpy()]
        by_type[pair_type] = of_type[:, np.isfinite(of_type).all(axis=0)]
        if not by_type[pair_type].shape[1]:
            raise InputError(f"semantic preference: found no pair of type {pair_type!r} by two speakers, expected some")
    return by_type


def _resampled(by_type: Mapping[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Mean similarity of each type in resampled pairs, the same for all layers; (layers, resamples)."""
    return {
        pair_type: values[:, rng.integers(values.shape[1], size=(N_RESAMPLES, values.shape[1]))].mean(axis=2)
        for pair_type, values in by_type.items()
    }


def _preference(similarity: Mapping[str, np.ndarray]) -> np.ndarray:
    scale = similarity["same word"] - similarity["random"]
    return (similarity["synonyms"] - similarity["near homophones"]) / np.where(scale == 0, np.nan, scale)


def _defined(resampled: Mapping[str, np.ndarray]) -> np.ndarray:
    """Whether the scale of preference is above zero in every resample; (layers,) bool."""
    return (resampled["same word"] > resampled["random"]).all(axis=1)
