import re

import pytest
from braintuning.errors import InputError
from braintuning.lowlevel.pronunciation import PHONE_OF_SYMBOL, pronounce, sentences_of, vocabulary, words_of
from hibari import Hibari


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
    assert symbol in vocabulary()
