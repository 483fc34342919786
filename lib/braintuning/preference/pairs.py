"""Pairs of words that mean the same, sound nearly the same, or have nothing in common.

The candidates are facts of WordNet 3.0 (Princeton University) and of the CMU Pronouncing Dictionary, found by
`candidates` and kept in `data/words`; which of them are used depends on the words that can be heard.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from braintuning.errors import InputError
from braintuning.lowlevel.phones import without_stress
from braintuning.results import REPOSITORY, require_file, save_table

CANDIDATES = REPOSITORY / "data" / "words"
PAIR_TYPES = ("same word", "synonyms", "near homophones", "random")
FEWEST_PHONES, FEWEST_TAGS, COMMONEST = 3, 1, 15_000
UNALIKE = 0.6
SAME_START = 3
USES = 3
TRIES = 100
ADJECTIVES = {"3": "a", "5": "a"}

Phones = tuple[str, ...]
Pair = tuple[str, str]


@dataclass(frozen=True)
class Sense:
    """One meaning of a word in WordNet.

    Attributes
    ----------
    word : str
    synset : str
        The set of synonyms it belongs to: part of speech and offset.
    rank, tags : int
        Its place among the word's meanings of that part of speech, and how often it was tagged in text.
    """

    word: str
    synset: str
    rank: int
    tags: int


def read_senses(path: Path) -> list[Sense]:
    """Read WordNet's `index.sense`: a line `lemma%type:... offset rank tags` a sense.

    Raises
    ------
    InputError
        A line of another form.
    """
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


def edit_distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Fewest phones to insert, delete or replace to get from one word to the other (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, phone in enumerate(a, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (phone != other))
    return row[-1]


def unalike(a: Phones, b: Phones) -> bool:
    """Whether most phones of two words differ: edit distance at least `UNALIKE` of the longer word's length."""
    return edit_distance(a, b) >= UNALIKE * max(len(a), len(b))


def candidates(
    senses: Sequence[Sense], pronunciations: Mapping[str, Phones], ranks: Mapping[str, int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every pair of synonyms and of near homophones among common words.

    A word counts if it is among the 15,000 commonest, has a pronunciation of three phones or more, is written in
    lower-case letters only, and has a sense that was tagged in text. Synonyms: both words' first sense of a part of
    speech is the same set of synonyms, tagged at least once for either; they sound unalike and do not start with the
    same three letters, so that they are no forms of one word. Near homophones: the phones differ in exactly one
    place, and the words share no set of synonyms and are not each other's beginning.

    Parameters
    ----------
    senses : sequence of Sense
    pronunciations : mapping of word to phones
    ranks : mapping of word to int
        0 is the commonest word.

    Returns
    -------
    words : DataFrame
        word, rank, phones (separated by spaces).
    pairs : DataFrame
        pair_type (`synonyms` or `near homophones`), a, b.
    """
    usable = {
        word
        for word in {sense.word for sense in senses if sense.tags >= FEWEST_TAGS}
        if word.isalpha()
        and ranks.get(word, COMMONEST) < COMMONEST
        and len(pronunciations.get(word, ())) >= FEWEST_PHONES
    }
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


def write_candidates(senses: Path, dictionary: Path, folder: Path = CANDIDATES) -> None:
    """Write `words.csv` and `pairs.csv` from WordNet's `index.sense` and `cmudict.dict`; ranks are those of GloVe."""
    from braintuning.tuning.controls import glove_table

    words, pairs = candidates(read_senses(senses), read_pronunciations(dictionary), glove_table()[0])
    save_table(folder / "words.csv", words)
    save_table(folder / "pairs.csv", pairs)


def _one_phone_apart(pronunciations: Mapping[str, Phones]) -> set[Pair]:
    """Pairs of words of equal length that differ in one phone; words with a phone blanked out meet at what is left."""
    alike = defaultdict(set)
    for word, phones in pronunciations.items():
        for place in range(len(phones)):
            alike[(*phones[:place], None, *phones[place + 1 :])].add(word)
    pairs = {pair for words in alike.values() for pair in combinations(sorted(words), 2)}
    return {(a, b) for a, b in pairs if pronunciations[a] != pronunciations[b]}


@cache
def known_words() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The candidates that this project carries, as `candidates` gave them."""
    return tuple(
        pd.read_csv(require_file(CANDIDATES / name), keep_default_na=False) for name in ("words.csv", "pairs.csv")
    )


def choose_pairs(n_pairs: int, seed: int, heard: Mapping[str, Collection[str]] | None = None) -> pd.DataFrame:
    """Choose pairs of each type among words that can be heard.

    Synonyms and near homophones are drawn from the candidates, no word more than three times a type. All types are
    as long: each pair of synonyms comes with a pair of near homophones, and with a word for itself, of half as many
    phones as both synonyms have together (an odd number is halved up or down by chance), and with a random pair whose
    two words have as many phones as the synonyms. Near homophones among words that have synonyms come first. The words
    of both types make up the other two; a random pair sounds unalike and is no candidate for either type.

    Parameters
    ----------
    n_pairs : int
        Of each type; fewer where there are not as many.
    seed : int
    heard : mapping of word to speakers, optional
        Words to choose from, in pairs that two speakers can say; every known word in every pair by default.

    Returns
    -------
    pairs : DataFrame
        pair_type, a, b.

    Raises
    ------
    InputError
        Fewer than two synonyms or near homophones among the words.
    """
    words, known = known_words()
    phones = {word: tuple(labels.split()) for word, labels in zip(words["word"], words["phones"], strict=True)}
    rng = np.random.default_rng([seed, n_pairs])
    within = known[[_said_by_two(pair, heard) for pair in zip(known["a"], known["b"], strict=True)]]
    of_type = {
        pair_type: list(map(tuple, rng.permutation(within.loc[within["pair_type"] == pair_type, ["a", "b"]]).tolist()))
        for pair_type in ("synonyms", "near homophones")
    }
    chosen = _matched(of_type["synonyms"], of_type["near homophones"], phones, n_pairs, rng)
    for pair_type, pairs in chosen.items():
        if len(pairs) < 2:
            raise InputError(f"word pairs: found {len(pairs)} pairs of {pair_type}, expected at least 2")
    vocabulary = sorted({word for pairs in chosen.values() for pair in pairs for word in pair})
    vocabulary = rng.permutation(vocabulary).tolist()
    taken = set(map(tuple, known[["a", "b"]].to_numpy()))
    chosen["random"] = _random_pairs(chosen["synonyms"], vocabulary, phones, taken, heard, rng)
    twice = [word for word in vocabulary if _said_by_two((word, word), heard)]
    chosen["same word"] = _same_words(chosen["near homophones"], twice, phones)
    rows = [(pair_type, *pair) for pair_type in PAIR_TYPES for pair in chosen[pair_type]]
    return pd.DataFrame(rows, columns=["pair_type", "a", "b"])


def _matched(
    synonyms: Sequence[Pair], near: Sequence[Pair], phones: Mapping[str, Phones], n_pairs: int, rng: np.random.Generator
) -> dict[str, list[Pair]]:
    """Leading pairs of synonyms, each with near homophones of the same length, no word over `USES` times a type."""
    have_synonyms, by_length = {word for pair in synonyms for word in pair}, defaultdict(list)
    for pair in sorted(near, key=lambda pair: -len(have_synonyms & set(pair))):
        by_length[len(phones[pair[0]])].append(pair)
    uses = {"synonyms": Counter(), "near homophones": Counter()}
    chosen = {pair_type: [] for pair_type in uses}
    for pair in synonyms:
        length = (sum(len(phones[word]) for word in pair) + int(rng.integers(2))) // 2
        partner = next((p for p in by_length[length] if max(uses["near homophones"][word] for word in p) < USES), None)
        if partner and len(chosen["synonyms"]) < n_pairs and max(uses["synonyms"][word] for word in pair) < USES:
            by_length[length].remove(partner)
            for pair_type, taken in (("synonyms", pair), ("near homophones", partner)):
                uses[pair_type].update(taken)
                chosen[pair_type].append(taken)
    return chosen


def _by_length(words: Sequence[str], phones: Mapping[str, Phones]) -> dict[int, list[str]]:
    by_length = defaultdict(list)
    for word in words:
        by_length[len(phones[word])].append(word)
    return by_length


def _same_words(like: Sequence[Pair], vocabulary: Sequence[str], phones: Mapping[str, Phones]) -> list[Pair]:
    """For each pair a word as long as its first, each word once, where there is one left."""
    by_length, pairs = _by_length(vocabulary, phones), []
    for word, _ in like:
        if left := by_length[len(phones[word])]:
            pairs.append((left[-1], left.pop()))
    return pairs


def _random_pairs(
    like: Sequence[Pair],
    vocabulary: Sequence[str],
    phones: Mapping[str, Phones],
    taken: Collection[Pair],
    heard: Mapping[str, Collection[str]] | None,
    rng: np.random.Generator,
) -> list[Pair]:
    """For each pair one of the same lengths at random, where `TRIES` find one."""
    pairs, by_length = {}, _by_length(vocabulary, phones)
    for pair in like:
        for _ in range(TRIES):
            a, b = sorted(str(rng.choice(by_length[len(phones[word])])) for word in pair)
            usable = (a, b) not in taken and (a, b) not in pairs and _said_by_two((a, b), heard)
            if usable and a[:SAME_START] != b[:SAME_START] and unalike(phones[a], phones[b]):
                pairs[a, b] = None
                break
    return list(pairs)


def _said_by_two(pair: Pair, heard: Mapping[str, Collection[str]] | None) -> bool:
    """Whether two different speakers can say the two words of a pair."""
    if heard is None:
        return True
    a, b = (set(heard.get(word, ())) for word in pair)
    return bool(a and b and len(a | b) > 1)
