"""Pairs of synonyms and of near homophones, found in WordNet and the CMU Pronouncing Dictionary.

    python data/words/make_pairs.py index.sense cmudict.dict

Writes `words.csv` and `pairs.csv` beside this script, with the ranks of GloVe's word list.
"""

import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from braintuning.errors import InputError
from braintuning.lowlevel.phones import without_stress
from braintuning.preference.pairs import CANDIDATES, SAME_START, Pair, Phones, unalike
from braintuning.results import require_file, save_table
from braintuning.tuning.controls import glove_table

FEWEST_PHONES, FEWEST_TAGS, COMMONEST = 3, 1, 15_000
ADJECTIVES = {"3": "a", "5": "a"}


class Sense(NamedTuple):
    """A word's meaning in WordNet: its synset (part of speech and offset), rank among the word's, and tags in text."""

    word: str
    synset: str
    rank: int
    tags: int


def read_senses(path: Path) -> list[Sense]:
    """Read WordNet's `index.sense`, lines `lemma%type:... offset rank tags`; raises InputError for another line."""
    senses = []
    for number, line in enumerate(require_file(path).read_text().splitlines(), 1):
        try:
            key, offset, rank, tags = line.split()
            lemma, details = key.split("%")
            part = details.split(":")[0]
            senses.append(Sense(lemma, f"{ADJECTIVES.get(part, part)}{offset}", int(rank), int(tags)))
        except ValueError:
            found = f"{path}: line {number} is {line[:60]!r}"
            raise InputError(f"{found}, expected a sense of WordNet: key, offset, rank, tags") from None
    return senses


def read_pronunciations(path: Path) -> dict[str, Phones]:
    """Read the first pronunciation of every word of the CMU dictionary (`cmudict.dict`), without stress."""
    found = {}
    for line in require_file(path).read_text(encoding="utf-8").splitlines():
        word, *labels = line.split(" #")[0].split()
        if word.isalpha():
            found[word] = tuple(without_stress(label) for label in labels)
    return found


def candidates(
    senses: Sequence[Sense], pronunciations: Mapping[str, Phones], ranks: Mapping[str, int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find every pair of synonyms and of near homophones among frequent words.

    A word counts if it is among the 15,000 most frequent, has three phones or more, consists of letters only and has a
    sense that was tagged in text. Synonyms: the first sense of both words, in some part of speech, is the same synset,
    tagged at least once for each; they are `unalike` and do not share their first three letters, so that they are not
    forms of one word. Near homophones: exactly one phone is replaced, and the words share no synset and neither begins
    with the other.

    Parameters
    ----------
    ranks : mapping of word to int
        0 is the most frequent word.

    Returns
    -------
    words : DataFrame
        word, rank, phones (separated by spaces).
    pairs : DataFrame
        pair_type (`synonyms` or `near homophones`), a, b.
    """
    tagged = {sense.word for sense in senses if sense.tags >= FEWEST_TAGS and sense.word.isalpha()}
    common = {word for word in tagged if ranks.get(word, COMMONEST) < COMMONEST}
    usable = {word for word in common if len(pronunciations.get(word, ())) >= FEWEST_PHONES}
    synsets, first = defaultdict(set), defaultdict(set)
    for sense in (sense for sense in senses if sense.word in usable):
        synsets[sense.word].add(sense.synset)
        if sense.rank == 1 and sense.tags >= FEWEST_TAGS:
            first[sense.synset].add(sense.word)
    synonyms = {
        pair
        for words in first.values()
        for pair in combinations(sorted(words), 2)
        if pair[0][:SAME_START] != pair[1][:SAME_START] and unalike(*(pronunciations[word] for word in pair))
    }
    near = {
        (a, b)
        for a, b in _one_phone_apart({word: pronunciations[word] for word in usable})
        if not synsets[a] & synsets[b] and not a.startswith(b) and not b.startswith(a)
    }
    rows = [("synonyms", *pair) for pair in sorted(synonyms)] + [("near homophones", *pair) for pair in sorted(near)]
    used = sorted({word for _, *pair in rows for word in pair}, key=ranks.get)
    words = pd.DataFrame([(word, ranks[word], " ".join(pronunciations[word])) for word in used])
    return words.set_axis(["word", "rank", "phones"], axis=1), pd.DataFrame(rows, columns=["pair_type", "a", "b"])


def _one_phone_apart(pronunciations: Mapping[str, Phones]) -> set[Pair]:
    """Pairs of words that differ in one replaced phone: those that are the same with a phone blanked out."""
    alike = defaultdict(set)
    for word, phones in pronunciations.items():
        for place in range(len(phones)):
            alike[(*phones[:place], None, *phones[place + 1 :])].add(word)
    pairs = {pair for words in alike.values() for pair in combinations(sorted(words), 2)}
    return {(a, b) for a, b in pairs if pronunciations[a] != pronunciations[b]}


if __name__ == "__main__":
    index_sense, dictionary = map(Path, sys.argv[1:])
    tables = candidates(read_senses(index_sense), read_pronunciations(dictionary), glove_table()[0])
    for name, table in zip(("words", "pairs"), tables, strict=True):
        save_table(CANDIDATES / f"{name}.csv", table)
