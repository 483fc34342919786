import re

import numpy as np
import pytest
from braintuning.errors import InputError
from braintuning.lowlevel.phones import (
    FEATURES,
    PHONE_OF_SYMBOL,
    PHONES,
    articulation,
    pronounce,
    pronunciation,
    sentences_of,
    symbol_numbers,
    without_stress,
    words_of,
)
from hibari import Hibari

CMU_PHONES = (
    "AA AE AH AO AW AY B CH D DH EH ER EY F G HH IH IY JH K L M N NG OW OY P R S SH T TH UH UW V W Y Z ZH".split()
)
VOWELS = "AA AE AH AO AW AY EH ER EY IH IY OW OY UH UW".split()
VOICELESS = "P T K CH F TH S SH HH".split()


def has(phone, feature):
    return articulation(phone)[FEATURES.index(feature)] == 1


def test_table_covers_exactly_the_cmu_phones():
    assert sorted(PHONES) == sorted(CMU_PHONES)
    assert len(FEATURES) == len(set(FEATURES)) == 22


def test_pronunciation_says_whether_the_dictionary_has_the_word():
    assert pronunciation("cat") == (("K", "AE", "T"), True)
    assert pronunciation("don't") == (("D", "OW", "N", "T"), True)
    assert pronunciation("--") == ((), True)
    phones, listed = pronunciation("zzqx")
    assert phones and not listed


def test_vectors_are_binary_distinct_and_every_feature_is_used():
    table = np.array([articulation(phone) for phone in PHONES])
    assert table.shape == (39, 22)
    assert table.dtype == np.float32
    assert set(np.unique(table)) == {0.0, 1.0}
    assert len(np.unique(table, axis=0)) == 39
    assert (table.sum(axis=0) > 0).all()


def test_voicing_follows_the_classes_of_english():
    for phone in CMU_PHONES:
        assert has(phone, "unvoiced") == (phone in VOICELESS)
        assert has(phone, "voiced") == (phone not in VOICELESS)


def test_vowels_have_height_and_frontness_and_consonants_have_place_and_manner():
    for phone in CMU_PHONES:
        features = {feature for feature in FEATURES if has(phone, feature)}
        vowel = bool(features & {"low", "mid", "high"}) and bool(features & {"front", "central", "back"})
        consonant = bool(features & set(FEATURES[:8])) and bool(features & set(FEATURES[8:14]))
        assert (vowel, consonant) == (phone in VOWELS, phone not in VOWELS)


@pytest.mark.parametrize(
    ("feature", "phones"),
    [
        ("bilabial", "P B M W"),
        ("labiodental", "F V"),
        ("dental", "TH DH"),
        ("alveolar", "T D S Z N L R"),
        ("postalveolar", "CH JH SH ZH"),
        ("velar", "K G NG W"),
        ("palatal", "Y"),
        ("glottal", "HH"),
        ("plosive", "P B T D K G"),
        ("affricate", "CH JH"),
        ("fricative", "F V TH DH S Z SH ZH HH"),
        ("nasal", "M N NG"),
        ("lateral", "L"),
    ],
)
def test_natural_classes(feature, phones):
    assert {phone for phone in PHONES if has(phone, feature)} == set(phones.split())


@pytest.mark.parametrize("label", ["AH0", "ah1", "AH2", " Ah "])
def test_stress_case_and_spaces_do_not_matter(label):
    assert without_stress(label) == "AH"
    np.testing.assert_array_equal(articulation(label), articulation("AH"))


@pytest.mark.parametrize("label", ["sp", "", "AH3", "AX", "0"])
def test_unknown_symbol_is_named(label):
    with pytest.raises(InputError, match=repr(label)):
        articulation(label)


def test_caller_cannot_change_the_table():
    articulation("S")[:] = 7
    assert articulation("S").max() == 1


def test_words_of_strips_punctuation_and_keeps_what_is_within_a_word():
    text = """"We can't stay," said Doctor Moss — she never did.\nThe well-known men were gone... and nobody minded."""
    expected = "we can't stay said doctor moss she never did the well-known men were gone and nobody minded"
    assert words_of(text) == expected.split()
    assert words_of("‘Tis Rosa’s; “o’clock” (PhD), Mr. Café…") == ["tis", "rosa's", "o'clock", "phd", "mr", "café"]
    assert words_of("one—two – three - four -- five...six") == ["one", "two", "three", "four", "five", "six"]
    assert words_of(' — "..." ') == []


@pytest.mark.parametrize("token", ["1990", "$5", "50%", "and/or", "B2", "end.Then,", "a_b", "me@home", "&"])
def test_token_that_is_not_one_spoken_word_is_named(token):
    with pytest.raises(InputError, match=re.escape(repr(token))):
        pronounce(f"In the year {token} it rained.")


def test_symbols_are_those_that_hibari_reads():
    sentence = "Doctor Moss never stayed, she said, because the well-known rocks weren't safe."
    hibari = Hibari()
    (expected,) = hibari.phonemize(sentence)
    assert "".join(symbol for symbol, _ in pronounce(sentence)[0]) == "".join(s for s in expected if s in hibari.vocab)


def test_each_symbol_is_given_to_its_word_and_spaces_and_punctuation_to_none():
    symbols, words = pronounce("See, me go.")
    assert words == ["see", "me", "go"]
    spoken = ["".join(symbol for symbol, word in symbols if word == index) for index in range(3)]
    assert [text.strip("ˈˌ")[0] for text in spoken] == ["s", "m", "ɡ"]
    assert "".join(symbol for symbol, word in symbols if word is None) == ",  ."


def test_sentences_are_those_with_words_and_the_first_of_each_paragraph_is_marked():
    text = "We ran. We\nfell.\n\n— ... !\n\n“Who?” she said.\nNobody knew."
    assert list(sentences_of(text)) == [
        (True, "We ran."),
        (False, "We fell."),
        (True, "“Who?” she said."),
        (True, "Nobody knew."),
    ]


@pytest.mark.parametrize(("symbol", "phone"), [("ʃ", "SH"), ("ŋ", "NG"), ("ɡ", "G"), ("ð", "DH")])
def test_symbols_that_are_phones_of_english_are_read_by_the_network(symbol, phone):
    assert PHONE_OF_SYMBOL[symbol] == phone
    assert symbol in symbol_numbers()
