"""English text as the sentences, words and phonetic symbols that the speaking network reads."""

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from hibari import Hibari
from hibari.g2p import G2P
from hibari.tts import ASSETS

from braintuning.errors import InputError
from braintuning.lowlevel.phones import CONSONANT_SYMBOLS, VOWEL_SYMBOLS

PHONE_OF_SYMBOL = VOWEL_SYMBOLS | CONSONANT_SYMBOLS

_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*|[^\W\d_]{1,2}(?:\.[^\W\d_]{1,2})+")
_EDGE_PUNCTUATION = "\"'.,;:!?()[]“”‘’…"
_DASH = re.compile(r"\s*(?:—|–|--+)\s*|\s-\s")
_ELLIPSIS = re.compile(r"(?:…|\.{2,})(?=\w)")
_PARAGRAPH = re.compile(r"\n\s*\n|(?<=[.!?…\"”’'])\s*\n")


@cache
def vocabulary() -> dict[str, int]:
    """Number under which hibari-tts's network reads each symbol."""
    return json.loads((Path(ASSETS) / "vocab.json").read_text(encoding="utf-8"))


@cache
def _g2p() -> G2P:
    return G2P()


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFC", text).replace("’", "'").replace("‘", "'")
    return _ELLIPSIS.sub("… ", _DASH.sub(" — ", text))


def words_of(text: str) -> list[str]:
    """Words of a text as `braintuning.speech.speak` labels them.

    Whatever stands between spaces or dashes is a word: lower case, without the punctuation around it, so that `can't`
    and `well-known` are one word each.

    Raises
    ------
    InputError
        If a word holds anything but letters, apostrophes and hyphens (or the full stops of `p.m.`), naming it: numbers
        and signs are spoken as several words and have to be spelled out.
    """
    words = []
    for token in _plain(text).split():
        word = token.strip(_EDGE_PUNCTUATION)
        if word in ("", "—"):
            continue
        if not _WORD.fullmatch(word):
            raise InputError(f"text: {token!r} found, expected words of letters only (spell out numbers and signs)")
        words.append(word.lower())
    return words


def pronounce(sentence: str) -> tuple[list[tuple[str, int | None]], list[str]]:
    """Say how a sentence is pronounced.

    Returns
    -------
    symbols
        What the network reads, each with the index of its word (None: space or punctuation).
    words
        Words of the sentence, as `words_of` gives them.

    Raises
    ------
    InputError
        If a word is not spoken as one word (see `words_of`) or has no English pronunciation.
    """
    words = words_of(sentence)
    symbols: list[tuple[str, int | None]] = []
    word, letters = -1, False
    for token in _g2p().phonemize_tokens(_g2p().tokenize(sentence)):
        if not letters and any(character.isalpha() for character in token.text):
            word, letters = word + 1, True
        for symbol in token.phonemes or "":
            if symbol in vocabulary():
                symbols.append((symbol, word if unicodedata.category(symbol)[0] in "LM" else None))
        if token.whitespace:
            symbols.append((" ", None))
            letters = False
    if word + 1 != len(words):
        raise InputError(f"text: {sentence!r} is spoken as {word + 1} words, expected {len(words)}")
    unspoken = set(range(len(words))) - {index for symbol, index in symbols if symbol in PHONE_OF_SYMBOL}
    if unspoken:
        raise InputError(f"text: {words[min(unspoken)]!r} has no pronunciation, expected an English word")
    return symbols, words


def sentences_of(text: str) -> Iterator[tuple[bool, str]]:
    """Sentences that have words, each with whether a paragraph opens with it."""
    for paragraph in _PARAGRAPH.split(text.strip()):
        sentences = Hibari.split_sentences(_plain(" ".join(paragraph.split())))
        for number, sentence in enumerate(filter(words_of, sentences)):
            yield number == 0, sentence
