"""Phones of American English: their articulation, and the pronunciation of words.

Each of the 39 phones is described by the 22 features of spoken-story encoding models (de Heer, Huth, Griffiths, Gallant
& Theunissen 2017, Journal of Neuroscience 37:6539-6557): eight places, six manners, voicing, and the height and
frontness of vowels. Which features a phone has follows the chart of the International Phonetic Alphabet (Handbook of
the International Phonetic Association, 1999) with these conventions: W is bilabial and velar; R is an alveolar
approximant; a diphthong has the features of the vowel that it starts from and of the one that it ends on; the lax IH
and UH lie between the front or back and the centre and have both; ER, the vowel coloured by r, is also an approximant.
No two phones have the same features. Words are pronounced by misaki's dictionary, which comes with hibari-tts; those
that it lacks by hibari-tts's network, which learnt espeak-ng's readings.
"""

import csv
import json
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from braintuning.datasets.labels import PHONES, without_stress, word_of
from braintuning.errors import InputError

if TYPE_CHECKING:
    from hibari.g2p import G2P

FEATURES = (
    *("bilabial", "labiodental", "dental", "alveolar", "postalveolar", "palatal", "velar", "glottal"),
    *("plosive", "affricate", "fricative", "nasal", "lateral", "approximant"),
    *("voiced", "unvoiced"),
    *("low", "mid", "high"),
    *("front", "central", "back"),
)

with open(Path(__file__).with_name("phones.csv"), encoding="utf-8", newline="") as _file:
    _ROWS = {row["phone"]: row for row in csv.DictReader(_file)}
"""Articulation of each phone, and its symbols in misaki, the dictionary of the Kokoro and hibari voices."""
_ARTICULATION = {phone: set(_ROWS[phone]["articulation"].split()) for phone in PHONES}
_TABLE = {phone: np.array([f in own for f in FEATURES], np.float32) for phone, own in _ARTICULATION.items()}
PHONE_OF_SYMBOL = {symbol: phone for phone in PHONES for symbol in _ROWS[phone]["symbols"].split()}
VOWEL_SYMBOLS = {symbol for symbol, phone in PHONE_OF_SYMBOL.items() if {"low", "mid", "high"} & _ARTICULATION[phone]}

_WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*|[^\W\d_]{1,2}(?:\.[^\W\d_]{1,2})+")
_PUNCTUATION = "\"'.,;:!?()[]“”‘’…—"
_DASH = re.compile(r"\s*(?:—|–|--+)\s*|\s-\s")
_ELLIPSIS = re.compile(r"(?:…|\.{2,})(?=\w)")
_GUESSED = 2
"""Rating of a pronunciation that the network made up; those of dictionaries have higher ones."""
_PARAGRAPH = re.compile(r"\n\s*\n|(?<=[.!?…\"”’'])\s*\n")


def articulation(label: str) -> np.ndarray:
    """Articulatory features of a phone, label and error as in `without_stress`; (22,) float32 of 0 and 1."""
    return _TABLE[without_stress(label)].copy()


@cache
def symbol_numbers() -> dict[str, int]:
    """Number of each symbol in the input of hibari-tts's network."""
    from hibari.tts import ASSETS

    return json.loads((Path(ASSETS) / "vocab.json").read_text(encoding="utf-8"))


@cache
def _g2p() -> "G2P":
    from hibari.g2p import G2P

    return G2P()


@cache
def pronunciation(word: str) -> tuple[tuple[str, ...], bool]:
    """Phones of a word by itself, of `PHONES`, and whether the dictionary has it; none for what cannot be spoken."""
    g2p = _g2p()
    tokens = g2p.phonemize_tokens(g2p.tokenize(word))
    symbols = (symbol for token in tokens for symbol in token.phonemes or "")
    listed = all((token.rating or 0) > _GUESSED for token in tokens)
    return tuple(PHONE_OF_SYMBOL[symbol] for symbol in symbols if symbol in PHONE_OF_SYMBOL), listed


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFC", text).replace("’", "'").replace("‘", "'")
    return _ELLIPSIS.sub("… ", _DASH.sub(" — ", text))


def words_of(text: str) -> list[str]:
    """Words of a text: what stands between spaces or dashes, each as `labels.word_of` gives it.

    `can't` and `well-known` are one word each. Raises `InputError` for a word with anything but letters, apostrophes
    and hyphens (or the full stops of `p.m.`): numbers and signs are spoken as several words and have to be spelled out.
    """
    words = []
    for token in _plain(text).split():
        word = word_of(token)
        if not token.strip(_PUNCTUATION):
            continue
        if not _WORD.fullmatch(word) or token.strip(_PUNCTUATION).lower() != word:
            raise InputError(f"text: {token!r} found, expected words of letters only (spell out numbers and signs)")
        words.append(word)
    return words


def pronounce(sentence: str) -> tuple[list[tuple[str, int | None]], list[str]]:
    """Symbols of a sentence, each with the index of its word (None: space or punctuation), and `words_of` it.

    Symbols are the input of hibari-tts's network. Raises `InputError` for a word that is not spoken as one (see
    `words_of`) or has no English pronunciation.
    """
    g2p, words = _g2p(), words_of(sentence)
    symbols: list[tuple[str, int | None]] = []
    word, letters = -1, False
    for token in g2p.phonemize_tokens(g2p.tokenize(sentence)):
        if not letters and any(character.isalpha() for character in token.text):
            word, letters = word + 1, True
        for symbol in token.phonemes or "":
            if symbol in symbol_numbers():
                symbols.append((symbol, word if unicodedata.category(symbol)[0] in "LM" else None))
        if token.whitespace:
            symbols.append((" ", None))
            letters = False
    if word + 1 != len(words):
        raise InputError(f"text: {sentence!r} is spoken as {word + 1} words, expected {len(words)}")
    if unspoken := set(range(len(words))) - {index for symbol, index in symbols if symbol in PHONE_OF_SYMBOL}:
        raise InputError(f"text: {words[min(unspoken)]!r} has no pronunciation, expected an English word")
    return symbols, words


def sentences_of(text: str) -> Iterator[tuple[bool, str]]:
    """Sentences that have words, each with whether it opens a paragraph."""
    from hibari import Hibari

    for paragraph in _PARAGRAPH.split(text.strip()):
        sentences = Hibari.split_sentences(_plain(" ".join(paragraph.split())))
        for number, sentence in enumerate(filter(words_of, sentences)):
            yield number == 0, sentence
