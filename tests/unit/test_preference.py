import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from braintuning.preference import pair_similarities, preference_change, preference_table, word_states
from braintuning.spoken_words import WINDOW_SECONDS, SpokenWord
from braintuning.timing import SAMPLE_RATE
from tiny import refused

N_SAMPLES = round(WINDOW_SECONDS * SAMPLE_RATE)
N_PAIRS = 40


def said(word, speaker="a", seconds=0.4, seed=0):
    audio = np.random.default_rng([seed, *map(ord, word + speaker)]).standard_normal(N_SAMPLES).astype(np.float32)
    return SpokenWord(word, speaker, audio, seconds)


@pytest.fixture(scope="module")
def planted():
    """Words a0, b0, a1, ... in two voices: the pairs of each type, and where meaning and sound put them."""
    rows, meaning, sound, rng = [], {}, {}, np.random.default_rng(0)
    for pair_type in ("synonyms", "near homophones", "random"):
        for k in range(N_PAIRS):
            a, b = f"{pair_type}-a{k}", f"{pair_type}-b{k}"
            rows.append((pair_type, a, b))
            for word in (a, b):
                meaning[word], sound[word] = rng.standard_normal((2, 200))
            if pair_type == "synonyms":
                meaning[b] = meaning[a]
            if pair_type == "near homophones":
                sound[b] = sound[a]
    rows += [("same word", word, word) for word in list(meaning)[:N_PAIRS]]
    words = [said(word, voice) for word in meaning for voice in ("clara", "edmund")]
    return pd.DataFrame(rows, columns=["pair_type", "a", "b"]), words, meaning, sound


def states(words, of_word, common=3.0):
    """States of one layer: the word's own direction, and one that all share."""
    return np.array([of_word[word.word] + common for word in words], np.float32)[None]


@pytest.mark.parametrize(("space", "expected"), [("meaning", 1.0), ("sound", -1.0)])
def test_a_space_of_meaning_prefers_it_and_a_space_of_sound_does_not(planted, space, expected):
    pairs, words, meaning, sound = planted
    similarities = pair_similarities(states(words, {"meaning": meaning, "sound": sound}[space]), words, pairs)
    table = preference_table(similarities, pairs, np.random.default_rng(1))
    assert table["preference"].to_numpy() == pytest.approx(expected, abs=0.05)
    assert (table["low"] <= table["preference"]).all() and (table["preference"] <= table["high"]).all()
    of_type = table.set_index("pair_type")["similarity"]
    assert of_type["same word"] == pytest.approx(1) and abs(of_type["random"]) < 0.05


def test_half_meaning_and_half_sound_prefer_neither(planted):
    pairs, words, meaning, sound = planted
    both = {word: np.concatenate([meaning[word], sound[word]]) for word in meaning}
    table = preference_table(pair_similarities(states(words, both), words, pairs), pairs, np.random.default_rng(1))
    assert abs(table["preference"].iloc[0]) < 0.1 and table["low"].iloc[0] < 0 < table["high"].iloc[0]


def test_similarity_is_the_cosine_after_centring_between_voices(planted):
    pairs, words, _, _ = planted
    drawn = np.random.default_rng(5).standard_normal((2, len(words), 12)).astype(np.float32)
    found = pair_similarities(drawn, words, pairs)
    centred = drawn - drawn.mean(axis=1, keepdims=True)
    place = {(word.word, word.speaker): number for number, word in enumerate(words)}

    def cosine(layer, one, other):
        x, y = centred[layer, place[one]], centred[layer, place[other]]
        return x @ y / np.sqrt(x @ x * (y @ y))

    for layer, column in ((0, 0), (1, 50), (0, len(pairs) - 1)):
        a, b = pairs["a"][column], pairs["b"][column]
        crossed = [cosine(layer, (a, "clara"), (b, "edmund")), cosine(layer, (a, "edmund"), (b, "clara"))]
        assert found[layer, column] == pytest.approx(np.mean(crossed), abs=1e-5)


def test_a_pair_that_one_speaker_alone_said_is_not_counted(planted):
    pairs, words, meaning, _ = planted
    one_voice = [word for word in words if word.speaker == "clara" or not word.word.startswith("random-a0")]
    found = pair_similarities(states(one_voice, meaning), one_voice, pairs)
    kept = [word for word in one_voice if not (word.word == "random-b0" and word.speaker == "edmund")]
    missing = pair_similarities(states(kept, meaning), kept, pairs)
    column = pairs.index[pairs["a"] == "random-a0"][0]
    assert np.isfinite(found[:, column]).all() and np.isnan(missing[:, column]).all()
    counted = preference_table(missing, pairs, np.random.default_rng(0)).set_index("pair_type")["n_pairs"]
    assert counted["random"] == N_PAIRS - 1
    alone = [word for word in words if word.speaker == "clara"]
    similarities = pair_similarities(states(alone, meaning), alone, pairs)
    refused(lambda: preference_table(similarities, pairs, np.random.default_rng(0)), "same word", "two speakers")


def test_change_is_the_difference_of_two_preferences_over_the_same_pairs(planted):
    pairs, words, meaning, sound = planted
    before, after = (pair_similarities(states(words, space), words, pairs) for space in (sound, meaning))
    change = preference_change(before, after, pairs, np.random.default_rng(0)).iloc[0]
    tables = [preference_table(s, pairs, np.random.default_rng(0))["preference"][0] for s in (before, after)]
    assert change["difference"] == pytest.approx(tables[1] - tables[0]) and change["low"] > 1
    none = preference_change(before, before, pairs, np.random.default_rng(0)).iloc[0]
    assert none["difference"] == none["low"] == none["high"] == 0


@pytest.mark.parametrize("family", ["hubert", "whisper"])
def test_a_word_is_the_mean_of_its_frames_alone(family):
    encoder, words = tiny.encoder(family), [said("one"), said("two", seconds=0.19), said("three", "b")]
    found = word_states(encoder, words, batch_size=2)
    with torch.no_grad():
        hidden = encoder(torch.from_numpy(words[1].audio)[None])[:, 0].numpy()
    times = (np.arange(hidden.shape[1]) + 0.5) * 0.02
    inside = np.abs(times - WINDOW_SECONDS / 2) < 0.19 / 2
    np.testing.assert_allclose(found[:, 1], hidden[:, inside].mean(axis=1), atol=2e-5)
    np.testing.assert_allclose(found, word_states(encoder, words, batch_size=1), atol=2e-5)


@pytest.mark.parametrize("seconds", [0.001, 2.6])
def test_a_word_too_short_or_too_long_is_named(seconds):
    refused(lambda: word_states(tiny.encoder(), [said("odd", seconds=seconds)]), "odd by a", f"{seconds:.3f} s long")
