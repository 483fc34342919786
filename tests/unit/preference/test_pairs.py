from itertools import product
from runpy import run_path
from types import SimpleNamespace

import numpy as np
import pytest
from braintuning.preference.pairs import CANDIDATES, PAIR_TYPES, UNALIKE, USES, choose_pairs, known_words, unalike
from rapidfuzz.distance import Levenshtein
from tiny import refused

make_pairs = SimpleNamespace(**run_path(str(CANDIDATES / "make_pairs.py")))
Sense, candidates = make_pairs.Sense, make_pairs.candidates

PHONES = {
    "huge": "HH Y UW JH", "immense": "IH M EH N S", "vast": "V AE S T", "last": "L AE S T", "lasts": "L AE S T S",
    "end": "EH N D", "finish": "F IH N IH SH", "ending": "EH N D IH NG", "to": "T UW", "cast": "K AE S T",
    "worst": "W ER S T",
}  # fmt: skip
PHONES = {word: tuple(phones.split()) for word, phones in PHONES.items()}
RANKS = {word: number for number, word in enumerate(PHONES)}
SENSES = [
    Sense("huge", "a1", 1, 5), Sense("immense", "a1", 1, 2), Sense("vast", "a1", 2, 4), Sense("last", "v2", 1, 3),
    Sense("lasts", "v2", 1, 3), Sense("end", "v3", 1, 2), Sense("finish", "v3", 1, 2), Sense("ending", "v3", 1, 1),
    Sense("to", "v3", 1, 9), Sense("cast", "n4", 1, 1), Sense("vast", "n4", 1, 1), Sense("worst", "a1", 1, 0),
]  # fmt: skip


def of_type(pairs, pair_type):
    return set(map(tuple, pairs.loc[pairs["pair_type"] == pair_type, ["a", "b"]].to_numpy()))


def test_synonyms_share_their_first_sense_and_nothing_in_sound():
    _, pairs = candidates(SENSES, PHONES, RANKS)
    assert of_type(pairs, "synonyms") == {("huge", "immense"), ("end", "finish"), ("ending", "finish")}


def test_near_homophones_differ_in_one_phone_and_in_meaning():
    _, pairs = candidates(SENSES, PHONES, RANKS)
    assert of_type(pairs, "near homophones") == {("cast", "last"), ("last", "vast")}


def test_rare_words_are_left_out():
    words, pairs = candidates(SENSES, PHONES, {**RANKS, "immense": make_pairs.COMMONEST})
    assert "immense" not in set(words["word"]) and of_type(pairs, "synonyms") == {
        ("end", "finish"),
        ("ending", "finish"),
    }


def brute_force_distance(a, b):
    """Recursion over the definition."""
    if not a or not b:
        return len(a) + len(b)
    return min(
        brute_force_distance(a[1:], b) + 1,
        brute_force_distance(a, b[1:]) + 1,
        brute_force_distance(a[1:], b[1:]) + (a[0] != b[0]),
    )


def test_unalike_words_differ_by_most_phones_in_the_edit_distance_of_its_definition():
    words = [tuple(word) for word in ("a", "ab", "ba", "abc", "cab", "bbca", "bcaab", "acaab", "bbaac")]
    distances = {(a, b): brute_force_distance(a, b) for a, b in product(words, words)}
    assert {pair: unalike(*pair) for pair in distances} == {
        (a, b): distance >= UNALIKE * max(len(a), len(b)) for (a, b), distance in distances.items()
    }


def test_the_project_carries_pairs_by_its_rule():
    words, pairs = known_words()
    phones = {word: tuple(labels.split()) for word, labels in zip(words["word"], words["phones"], strict=True)}
    for a, b in of_type(pairs, "near homophones"):
        assert len(phones[a]) == len(phones[b]) and Levenshtein.distance(phones[a], phones[b]) == 1
    for a, b in of_type(pairs, "synonyms"):
        assert Levenshtein.distance(phones[a], phones[b]) >= 0.6 * max(len(phones[a]), len(phones[b]))


def test_a_study_gets_300_pairs_of_each_type():
    pairs = choose_pairs(300, seed=1)
    assert pairs["pair_type"].value_counts().to_dict() == dict.fromkeys(PAIR_TYPES, 300)
    assert not pairs.duplicated().any()
    same = of_type(pairs, "same word")
    assert all(a == b for a, b in same) and not any(
        a == b for a, b in set(map(tuple, pairs[["a", "b"]].to_numpy())) - same
    )
    known = set(map(tuple, known_words()[1][["a", "b"]].to_numpy()))
    assert not of_type(pairs, "random") & known
    for pair_type in ("synonyms", "near homophones"):
        chosen = pairs[pairs["pair_type"] == pair_type]
        assert np.unique(chosen[["a", "b"]].to_numpy(), return_counts=True)[1].max() <= USES


def test_all_types_are_as_long():
    words, _ = known_words()
    n_phones = {word: len(labels.split()) for word, labels in zip(words["word"], words["phones"], strict=True)}
    pairs = choose_pairs(300, seed=1)
    lengths = {kind: of[["a", "b"]].map(n_phones.get).to_numpy() for kind, of in pairs.groupby("pair_type")}
    both = {kind: np.sort(length.sum(axis=1)) for kind, length in lengths.items()}
    assert np.array_equal(both["near homophones"], both["same word"])
    assert np.array_equal(np.sort(lengths["random"], axis=None), np.sort(lengths["synonyms"], axis=None))
    assert np.array_equal(both["random"], both["synonyms"])
    assert np.abs(both["near homophones"] - both["synonyms"]).max() <= 1


def test_one_seed_gives_one_choice():
    assert choose_pairs(50, seed=1).equals(choose_pairs(50, seed=1))
    assert not choose_pairs(50, seed=1).equals(choose_pairs(50, seed=2))


def test_only_words_that_two_speakers_can_say_are_chosen():
    known = known_words()[0]["word"][:1500]
    speakers = {word: {"ann"} if number % 3 else {"ann", "bob"} for number, word in enumerate(known)}
    pairs = choose_pairs(40, seed=0, speakers=speakers)
    assert {*pairs["a"], *pairs["b"]} <= set(speakers) and set(pairs["pair_type"]) == set(PAIR_TYPES)
    assert all(len(speakers[a] | speakers[b]) > 1 for a, b in zip(pairs["a"], pairs["b"], strict=True))
    three = {word: {"ann", "bob"} for word in ("last", "vast", "cast")}
    refused(lambda: choose_pairs(40, seed=0, speakers=three), "0 pairs of synonyms")
    alone = {word: {"ann"} for word in known}
    refused(lambda: choose_pairs(40, seed=0, speakers=alone), "0 pairs of synonyms")


def test_files_of_wordnet_and_of_the_dictionary(tmp_path):
    index = tmp_path / "index.sense"
    index.write_text("last%2:42:00:: 02618867 1 14\nlasting%5:00:00:long:02 01436003 2 0\n")
    assert make_pairs.read_senses(index) == [Sense("last", "202618867", 1, 14), Sense("lasting", "a01436003", 2, 0)]
    index.write_text("last 1 2\n")
    refused(lambda: make_pairs.read_senses(index), index, "line 1", "expected a sense of WordNet")
    dictionary = tmp_path / "cmudict.dict"
    dictionary.write_text("last L AE1 S T\nlast(2) L AH0 S\nd'or D AO1 R # a name\nvast V AE1 S T # big\n")
    assert make_pairs.read_pronunciations(dictionary) == {"last": PHONES["last"], "vast": PHONES["vast"]}


@pytest.mark.parametrize("missing", ["index.sense", "cmudict.dict"])
def test_a_missing_file_is_named(tmp_path, missing):
    read = make_pairs.read_senses if missing == "index.sense" else make_pairs.read_pronunciations
    refused(lambda: read(tmp_path / missing), missing)
