"""Semantic preference: similarity of synonyms compared with near homophones, in every layer of a model."""

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_array
from scipy.stats import t

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.precision import autocast
from braintuning.errors import InputError
from braintuning.preference.pairs import PAIR_TYPES
from braintuning.preference.words import WINDOW_SECONDS, SpokenWord
from braintuning.timing import SAMPLE_RATE

SURE = 3.09
"""Standard errors by which a word must be more alike itself than others for preference to be defined (p < .001)."""
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
    nearest = np.abs(frames - middle).min()
    for start in range(0, len(said), batch_size):
        batch = said[start : start + batch_size]
        for word in batch:
            if not encoder.frame_seconds <= word.seconds <= WINDOW_SECONDS:
                found = f"{word.word} by {word.speaker}: {word.seconds:.3f} s long"
                raise InputError(f"{found}, expected between {encoder.frame_seconds} s and {WINDOW_SECONDS} s")
        inside = np.array([np.abs(frames - middle) <= max(word.seconds / 2, nearest) for word in batch])
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

    `states` are (layers, words, dim) float32; the result is (layers, pairs) float64, NaN for a pair that no two
    speakers say.
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


class _Similarities(NamedTuple):
    """Pairs of each type (types,), mean similarities (types, layers), and what each pair adds to the latter's error."""

    n_pairs: np.ndarray
    means: np.ndarray
    influences: np.ndarray

    def preference(self, pairs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Preference, (layers,), and what each pair adds to its error to first order, (layers, pairs).

        Both are NaN where the same word is not surely more similar than random words.
        """
        scale, of_scale = self.means[0] - self.means[3], self.influences[0] - self.influences[3]
        scale = np.where(scale > SURE * word_error(of_scale, pairs), scale, np.nan)
        preference = (self.means[1] - self.means[2]) / scale
        influences = self.influences[1] - self.influences[2] - preference[:, None] * of_scale
        return preference, influences / scale[:, None]


def preference_table(similarities: np.ndarray, pairs: pd.DataFrame) -> pd.DataFrame:
    """Similarity of each type of pairs and semantic preference by layer, with 95 % intervals over words.

    Preference is `(synonyms - near homophones) / (same word - random)`: 1 if synonyms are as similar as a word by two
    speakers and near homophones only as similar as random pairs, -1 if it is the other way round. It is undefined, and
    NaN, in a layer where the same word is not more similar than random pairs by `SURE` standard errors.

    Intervals are the estimate and `word_error` times Student's t of the pairs of a type less one, of preference of the
    type with the fewest; NaN where that is a single pair.

    `similarities` are those of `pair_similarities`, `pairs` of `choose_pairs`; `InputError` for a type without a pair
    said by two speakers.

    Returns
    -------
    DataFrame
        layer, pair_type, n_pairs, similarity, similarity_low, similarity_high, preference, low, high, reason; the last
        four are the layer's, the same for each type. `reason` says why preference is NaN, and is otherwise empty.
    """
    found = _of_types(similarities, pairs)
    low, high = np.array([
        _interval(mean, of_pairs, pairs, n)
        for mean, of_pairs, n in zip(found.means, found.influences, found.n_pairs, strict=True)
    ]).swapaxes(0, 1)  # fmt: skip
    preference, influences = found.preference(pairs)
    limits = _interval(preference, influences, pairs, found.n_pairs.min())
    columns = {"n_pairs": np.tile(found.n_pairs, len(preference)), "similarity": found.means.T.ravel()}
    columns |= {"similarity_low": low.T.ravel(), "similarity_high": high.T.ravel()}
    of_layer = dict(zip(("preference", "low", "high"), (preference, *limits), strict=True))
    of_layer["reason"] = np.where(np.isnan(preference), UNDEFINED, "")
    index = pd.MultiIndex.from_product([range(len(preference)), PAIR_TYPES], names=["layer", "pair_type"])
    columns |= {name: np.repeat(values, len(PAIR_TYPES)) for name, values in of_layer.items()}
    return pd.DataFrame(columns, index).reset_index()


def preference_change(before: np.ndarray, after: np.ndarray, pairs: pd.DataFrame) -> pd.DataFrame:
    """Semantic preference of one model minus another's, by layer, with 95 % intervals over the words of both.

    Columns layer, difference, low, high, reason; NaN with a reason where either model's preference is undefined.
    Arguments and intervals are as in `preference_table`.
    """
    models = [_of_types(similarities, pairs) for similarities in (before, after)]
    (was, of_was), (becomes, of_becomes) = (found.preference(pairs) for found in models)
    change, fewest = becomes - was, min(found.n_pairs.min() for found in models)
    low, high = _interval(change, of_becomes - of_was, pairs, fewest)
    columns = {"layer": np.arange(len(before)), "difference": change, "low": low, "high": high}
    return pd.DataFrame({**columns, "reason": np.where(np.isnan(change), UNDEFINED, "")})


def word_error(influences: np.ndarray, pairs: pd.DataFrame) -> np.ndarray:
    """Standard error of a sum over pairs of words, of which those that share a word depend on each other; (layers,).

    `influences`, (layers, pairs), are what each pair adds to the error. Its variance is the sum of the products of all
    pairs of them that share a word (dyadic cluster-robust: Fafchamps & Gubert 2007; Aronow, Samii & Assenova 2015):
    that from leaving out each word in turn, less that from leaving out each pair of two words, which the former counts
    twice. It is at least that of independent pairs. Resampling words and weighting a pair by the product of how often
    its words were drawn (Owen 2007) would give pairs up to three times their own variance where, as here, most words
    are in few pairs.
    """
    words, places = np.unique(pairs[["a", "b"]].to_numpy(str), return_inverse=True)
    places = np.sort(places.reshape(-1, 2), axis=1)
    couples, couple = np.unique(places, axis=0, return_inverse=True)
    rows = np.arange(len(pairs))
    of_word = csr_array((np.ones(places.size), (np.repeat(rows, 2), places.ravel())), (len(pairs), len(words)))
    of_word.data[:] = 1.0
    of_couple = csr_array((np.ones(len(pairs)), (rows, couple.ravel())), (len(pairs), len(couples)))
    two_words = couples[:, 0] != couples[:, 1]
    squares = (influences @ of_couple) ** 2
    dyadic = ((influences @ of_word) ** 2).sum(axis=1) - squares[:, two_words].sum(axis=1)
    return np.sqrt(np.maximum(dyadic, squares.sum(axis=1)))


def _interval(value: np.ndarray, influences: np.ndarray, pairs: pd.DataFrame, n_pairs: int) -> np.ndarray:
    """Ends of a 95 % interval, (2, layers)."""
    quantile = t.ppf(0.975, n_pairs - 1) if n_pairs > 1 else np.nan
    return value + np.array([[-1.0], [1.0]]) * quantile * word_error(influences, pairs)


def _of_types(similarities: np.ndarray, pairs: pd.DataFrame) -> _Similarities:
    """Means of each type and their errors' parts; a pair with a NaN in any layer is left out."""
    known = np.isfinite(similarities).all(axis=0)
    n_pairs, means, influences = [], [], []
    for pair_type in PAIR_TYPES:
        chosen = known & (pairs["pair_type"] == pair_type).to_numpy()
        n = int(chosen.sum())
        if not n:
            raise InputError(f"semantic preference: found no pair of type {pair_type!r} by two speakers, expected some")
        mean = similarities[:, chosen].mean(axis=1)
        deviations = np.where(chosen, similarities - mean[:, None], 0.0)
        n_pairs.append(n)
        means.append(mean)
        influences.append(deviations / np.sqrt(n * max(n - 1, 1)))
    return _Similarities(np.array(n_pairs), np.array(means), np.array(influences))
