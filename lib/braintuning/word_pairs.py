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
from braintuning.files import REPOSITORY, require_file
from braintuning.phones import without_stress
from braintuning.results import save_table

CANDIDATES = REPOSITORY / "data" / "words"
PAIR_TYPES = ("same word", "synonyms", "near homophones", "random")
FEWEST_PHONES, FEWEST_TAGS, COMMONEST = 3, 1, 15_000
UNALIKE = 0.6
SAME_START = 3
USES = 3
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
    from braintuning.teachers import glove_table

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


def choose_pairs(n_pairs: int, seed: int, heard: Collection[str] | None = None) -> pd.DataFrame:
    """Choose pairs of each type among words that can be heard.

    Synonyms and near homophones are drawn from the candidates, no word more than three times a type. The words of
    both make up the pairs of the other types: each with itself, and at random with one that sounds unalike and is no
    candidate for either type.

    Parameters
    ----------
    n_pairs : int
        Of each type; fewer where there are not as many.
    seed : int
    heard : collection of str, optional
        Words to choose from; every known one by default.

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
    within = known if heard is None else known[known["a"].isin(set(heard)) & known["b"].isin(set(heard))]
    chosen = {}
    for pair_type in ("synonyms", "near homophones"):
        of_type = within.loc[within["pair_type"] == pair_type, ["a", "b"]].to_numpy()
        chosen[pair_type] = _limited(of_type[rng.permutation(len(of_type))], n_pairs)
        if len(chosen[pair_type]) < 2:
            raise InputError(f"word pairs: found {len(chosen[pair_type])} pairs of {pair_type}, expected at least 2")
    vocabulary = sorted({word for pairs in chosen.values() for pair in pairs for word in pair})
    taken = set(map(tuple, known[["a", "b"]].to_numpy()))
    chosen["same word"] = [(word, word) for word in rng.permutation(vocabulary)[:n_pairs].tolist()]
    chosen["random"] = _random_pairs(vocabulary, phones, taken, n_pairs, rng)
    rows = [(pair_type, *pair) for pair_type in PAIR_TYPES for pair in chosen[pair_type]]
    return pd.DataFrame(rows, columns=["pair_type", "a", "b"])


def _limited(pairs: np.ndarray, n_pairs: int) -> list[Pair]:
    """Leading pairs in which no word comes more than `USES` times."""
    uses, kept = Counter(), []
    for a, b in pairs.tolist():
        if len(kept) < n_pairs and uses[a] < USES and uses[b] < USES:
            uses.update((a, b))
            kept.append((a, b))
    return kept


def _random_pairs(
    vocabulary: Sequence[str],
    phones: Mapping[str, Phones],
    taken: Collection[Pair],
    n_pairs: int,
    rng: np.random.Generator,
) -> list[Pair]:
    pairs = {}
    for _ in range(50):
        shuffled = rng.permutation(vocabulary).tolist()
        for a, b in zip(shuffled[::2], shuffled[1::2], strict=False):
            a, b = sorted((a, b))
            if (a, b) not in taken and a[:SAME_START] != b[:SAME_START] and unalike(phones[a], phones[b]):
                pairs[a, b] = None
        if len(pairs) >= n_pairs:
            break
    return list(pairs)[:n_pairs]
