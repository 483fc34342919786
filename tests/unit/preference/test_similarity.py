import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from braintuning.preference.pairs import choose_pairs
from braintuning.preference.similarity import (
    UNDEFINED,
    pair_similarities,
    preference_change,
    preference_table,
    word_error,
    word_states,
)
from braintuning.preference.words import WINDOW_SECONDS, SpokenWord
from braintuning.timing import SAMPLE_RATE
from tiny import refused

N_SAMPLES = round(WINDOW_SECONDS * SAMPLE_RATE)
N_PAIRS = 40
VOICES = ("clara", "edmund", "rosa", "tobias")


def said(word, speaker="a", seconds=0.4, seed=0):
    audio = np.random.default_rng([seed, *map(ord, word + speaker)]).standard_normal(N_SAMPLES).astype(np.float32)
    return SpokenWord(word, speaker, audio, seconds)


@pytest.fixture(scope="module")
def planted():
    """Words a0, b0, a1, ... in four voices: the pairs of each type, and where meaning and sound put them."""
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
    words = [said(word, voice) for word in meaning for voice in VOICES]
    return pd.DataFrame(rows, columns=["pair_type", "a", "b"]), words, meaning, sound


def states(words, of_word, common=3.0, voices=None):
    """States of one layer: the word's own direction, one that all share, and one of each voice."""
    voices = voices or dict.fromkeys(VOICES, 0.0)
    return np.array([of_word[word.word] + common + voices[word.speaker] for word in words], np.float32)[None]


@pytest.mark.parametrize(("space", "expected"), [("meaning", 1.0), ("sound", -1.0)])
def test_a_space_of_meaning_prefers_it_and_a_space_of_sound_does_not(planted, space, expected):
    pairs, words, meaning, sound = planted
    similarities = pair_similarities(states(words, {"meaning": meaning, "sound": sound}[space]), words, pairs)
    table = preference_table(similarities, pairs)
    assert table["preference"].to_numpy() == pytest.approx(expected, abs=0.05)
    assert (table["low"] <= table["preference"]).all() and (table["preference"] <= table["high"]).all()
    of_type = table.set_index("pair_type")["similarity"]
    assert of_type["same word"] == pytest.approx(1) and abs(of_type["random"]) < 0.05


def test_half_meaning_and_half_sound_prefer_neither(planted):
    pairs, words, meaning, sound = planted
    both = {word: np.concatenate([meaning[word], sound[word]]) for word in meaning}
    table = preference_table(pair_similarities(states(words, both), words, pairs), pairs)
    assert abs(table["preference"].iloc[0]) < 0.1 and table["low"].iloc[0] < 0 < table["high"].iloc[0]


@pytest.mark.parametrize(("space", "expected"), [("meaning", 1.0), ("sound", -1.0)])
def test_a_direction_of_each_voice_changes_nothing(planted, space, expected):
    pairs, words, meaning, sound = planted
    of_word, rng = {"meaning": meaning, "sound": sound}[space], np.random.default_rng(2)
    strong = {voice: 20 * rng.standard_normal(200) for voice in VOICES}
    both = [pair_similarities(states(words, of_word, voices=voices), words, pairs) for voices in (None, strong)]
    without, found = (preference_table(similarities, pairs) for similarities in both)
    assert found["similarity"].to_numpy() == pytest.approx(without["similarity"].to_numpy(), abs=1e-4)
    assert found["preference"].to_numpy() == pytest.approx(expected, abs=0.05)
    assert abs(found.set_index("pair_type")["similarity"]["random"]) < 0.05


def test_few_words_a_speaker_do_not_shift_random_pairs(planted):
    """Each of many speakers says eight words: his mean is known badly, but random pairs still lie at zero."""
    _, _, meaning, _ = planted
    rng, names = np.random.default_rng(3), list(meaning)
    words = [said(str(word), f"s{n}") for n in range(60) for word in rng.choice(names, 8, replace=False)]
    voices = {f"s{n}": 20 * rng.standard_normal(200) for n in range(60)}
    drawn = [rng.choice(names, 2, replace=False) for _ in range(400)]
    pairs = pd.DataFrame([("random", *pair) for pair in drawn], columns=["pair_type", "a", "b"])
    same = pd.DataFrame([("same word", word, word) for word in names], columns=["pair_type", "a", "b"])
    random, alike = (pair_similarities(states(words, meaning, voices=voices), words, p)[0] for p in (pairs, same))
    assert abs(np.nanmean(random)) < 3 * np.nanstd(random) / np.sqrt(np.isfinite(random).sum())
    assert np.nanmean(alike) == pytest.approx(1 - 1 / 8, abs=0.03)


@pytest.mark.parametrize("kind", ["constant", "unlike itself"])
def test_a_layer_without_word_identity_has_no_preference(planted, kind):
    pairs, words, meaning, _ = planted
    whole = states(words, meaning)
    sign = np.array([1 if word.speaker in ("clara", "rosa") else -1 for word in words])
    empty = np.full_like(whole, 3) if kind == "constant" else whole * sign[None, :, None]
    similarities = pair_similarities(np.concatenate([whole, empty]), words, pairs)
    table = preference_table(similarities, pairs)
    nothing = table[table["layer"] == 1]
    assert nothing[["preference", "low", "high"]].isna().all(axis=None) and set(nothing["reason"]) == {UNDEFINED}
    there = table[table["layer"] == 0]
    assert there[["preference", "low", "high"]].notna().all(axis=None) and set(there["reason"]) == {""}
    change = preference_change(similarities[:1], similarities[1:], pairs).iloc[0]
    assert np.isnan(change["difference"]) and np.isnan(change["low"]) and change["reason"] == UNDEFINED


@pytest.mark.parametrize("family", ["hubert", "whisper"])
def test_a_word_as_short_as_a_frame_is_the_mean_of_the_frames_nearest_to_its_middle(family):
    encoder, word = tiny.encoder(family), said("a", seconds=0.02)
    with torch.no_grad():
        hidden = encoder(torch.from_numpy(word.audio)[None])[:, 0]
    nearest = hidden[:, 29:31].mean(dim=1)
    torch.testing.assert_close(torch.from_numpy(word_states(encoder, [word])[:, 0]), nearest, atol=1e-5, rtol=1e-5)


def test_similarity_is_the_cosine_after_centring_between_voices(planted):
    pairs, words, _, _ = planted
    drawn = np.random.default_rng(5).standard_normal((2, len(words), 12)).astype(np.float32)
    found = pair_similarities(drawn, words, pairs)
    centred = drawn.copy()
    for voice in VOICES:
        of_voice = [number for number, word in enumerate(words) if word.speaker == voice]
        centred[:, of_voice] -= drawn[:, of_voice].mean(axis=1, keepdims=True)
    place = {(word.word, word.speaker): number for number, word in enumerate(words)}

    def cosine(layer, one, other):
        x, y = centred[layer, place[one]], centred[layer, place[other]]
        return x @ y / np.sqrt(x @ x * (y @ y))

    for layer, column in ((0, 0), (1, 50), (0, len(pairs) - 1)):
        a, b = pairs["a"][column], pairs["b"][column]
        crossed = [cosine(layer, (a, one), (b, other)) for one in VOICES for other in VOICES if one != other]
        assert len(crossed) == 12
        assert found[layer, column] == pytest.approx(np.mean(crossed), abs=1e-5)


def test_a_pair_that_one_speaker_alone_said_is_not_counted(planted):
    pairs, words, meaning, _ = planted
    one_voice = [word for word in words if word.speaker == "clara" or not word.word.startswith("random-a0")]
    found = pair_similarities(states(one_voice, meaning), one_voice, pairs)
    kept = [word for word in one_voice if word.word != "random-b0" or word.speaker == "clara"]
    missing = pair_similarities(states(kept, meaning), kept, pairs)
    column = pairs.index[pairs["a"] == "random-a0"][0]
    assert np.isfinite(found[:, column]).all() and np.isnan(missing[:, column]).all()
    counted = preference_table(missing, pairs).set_index("pair_type")["n_pairs"]
    assert counted["random"] == N_PAIRS - 1
    alone = [word for word in words if word.speaker == "clara"]
    similarities = pair_similarities(states(alone, meaning), alone, pairs)
    refused(lambda: preference_table(similarities, pairs), "same word", "two speakers")


def test_change_is_the_difference_of_two_preferences_over_the_same_pairs(planted):
    pairs, words, meaning, sound = planted
    before, after = (pair_similarities(states(words, space), words, pairs) for space in (sound, meaning))
    change = preference_change(before, after, pairs).iloc[0]
    tables = [preference_table(s, pairs)["preference"][0] for s in (before, after)]
    assert change["difference"] == pytest.approx(tables[1] - tables[0]) and change["low"] > 1
    none = preference_change(before, before, pairs).iloc[0]
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


MEANS = {"same word": 0.9, "synonyms": 0.3, "near homophones": 0.5, "random": 0.0}
TRUE_PREFERENCE = -0.2 / 0.9


def with_word_effects(effect, own, n=600, seed=0, apart=False):
    """Pairs as a study draws them, and `n` draws of similarities to which each word adds its own, as layers.

    `apart`: what a word adds to near homophones, it takes from the others.
    """
    pairs, rng = choose_pairs(300, 0), np.random.default_rng(seed)
    words = sorted({*pairs["a"], *pairs["b"]})
    of_word = pd.Series(range(len(words)), words)
    effects = effect * rng.standard_normal((n, len(words)))
    shared = effects[:, of_word[pairs["a"]]] + effects[:, of_word[pairs["b"]]]
    sign = np.where(apart & (pairs["pair_type"] == "near homophones"), -1, 1)
    noise = own * rng.standard_normal((n, len(pairs)))
    return pairs, pairs["pair_type"].map(MEANS).to_numpy() + sign * shared + noise


def as_if_independent(pairs):
    return pairs.assign(a=[f"a{k}" for k in range(len(pairs))], b=[f"b{k}" for k in range(len(pairs))])


def coverage(similarities, pairs):
    """How often intervals hold what was planted: the similarity of each type, and preference."""
    table, held = preference_table(similarities, pairs), {}
    for pair_type, mean in MEANS.items():
        of_type = table[table["pair_type"] == pair_type]
        held[pair_type] = of_type["similarity_low"].le(mean) & of_type["similarity_high"].ge(mean)
    held["preference"] = of_type["low"].le(TRUE_PREFERENCE) & of_type["high"].ge(TRUE_PREFERENCE)
    return {what: values.mean() for what, values in held.items()}


@pytest.mark.parametrize(("effect", "own", "apart"), [(0.1, 0.0, False), (0.1, 0.1, True), (0.0, 0.15, False)])
def test_intervals_over_words_cover_whether_or_not_pairs_of_a_word_are_alike(effect, own, apart):
    pairs, similarities = with_word_effects(effect, own, apart=apart)
    assert all(0.925 < share < 0.975 for share in coverage(similarities, pairs).values())


def test_intervals_over_pairs_would_cover_too_seldom_where_words_differ():
    pairs, similarities = with_word_effects(0.1, 0.02, seed=1, apart=True)
    over_pairs, over_words = coverage(similarities, as_if_independent(pairs)), coverage(similarities, pairs)
    for what in ("near homophones", "random", "preference"):
        assert over_pairs[what] < 0.92 < over_words[what]


def test_interval_of_a_change_covers_too():
    pairs, before = with_word_effects(0.1, 0.03, seed=2)
    _, more = with_word_effects(0.1, 0.03, seed=3)
    gain = np.where(pairs["pair_type"] == "synonyms", 0.1, 0.0)
    change = preference_change(before, before + gain + 0.3 * (more - more.mean(axis=0)), pairs)
    assert 0.92 < ((change["low"] <= 0.1 / 0.9) & (0.1 / 0.9 <= change["high"])).mean() < 0.97


def test_standard_error_over_words_is_the_sum_over_all_pairs_that_share_one():
    rng = np.random.default_rng(0)
    drawn = rng.integers(8, size=(40, 2))
    pairs = pd.DataFrame(drawn.astype(str), columns=["a", "b"])
    influences = rng.random((5, 40))
    share = np.array([[bool(set(p) & set(q)) for q in drawn] for p in drawn])
    expected = np.sqrt(np.einsum("lp,pq,lq->l", influences, share, influences))
    np.testing.assert_allclose(word_error(influences, pairs), expected)
    np.testing.assert_allclose(word_error(influences, as_if_independent(pairs)), np.sqrt((influences**2).sum(axis=1)))


def test_few_pairs_have_wider_intervals_and_one_has_none():
    pairs, similarities = with_word_effects(0.0, 0.1, n=3)
    few = pairs.groupby("pair_type").head(4).index
    table = preference_table(similarities[:, few], pairs.loc[few].reset_index(drop=True))
    half = table["similarity_high"] - table["similarity"]
    random = similarities[0, few][(pairs.loc[few, "pair_type"] == "random").to_numpy()]
    of_random = half[(table["layer"] == 0) & (table["pair_type"] == "random")].item()
    assert of_random >= 3.182446 * random.std(ddof=1) / 2 - 1e-6
    one = pairs.groupby("pair_type").head(1).index
    alone = preference_table(similarities[:, one], pairs.loc[one].reset_index(drop=True))
    assert alone["similarity_low"].isna().all() and alone["low"].isna().all()
