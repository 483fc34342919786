"""Word pairs: synonyms, near homophones, unrelated words, and words with themselves.

Synonyms come from WordNet 3.0 (Princeton University), near homophones from the CMU Pronouncing Dictionary. `candidates`
found those in `data/words`; `choose_pairs` draws a study's pairs from them.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from rapidfuzz.distance import Levenshtein

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
Speakers = Mapping[str, Collection[str]]


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


def unalike(a: Phones, b: Phones) -> bool:
    """Whether most phones of two words differ: Levenshtein distance at least `UNALIKE` of the longer word's length."""
    return Levenshtein.distance(a, b) >= UNALIKE * max(len(a), len(b))


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


def write_candidates(senses: Path, dictionary: Path, folder: Path = CANDIDATES) -> None:
    """Write `words.csv` and `pairs.csv` from WordNet's `index.sense` and `cmudict.dict`, with GloVe's ranks."""
    from braintuning.tuning.controls import glove_table

    words, pairs = candidates(read_senses(senses), read_pronunciations(dictionary), glove_table()[0])
    save_table(folder / "words.csv", words)
    save_table(folder / "pairs.csv", pairs)


def _one_phone_apart(pronunciations: Mapping[str, Phones]) -> set[Pair]:
    """Pairs of words that differ in one replaced phone: those that are the same with a phone blanked out."""
    alike = defaultdict(set)
    for word, phones in pronunciations.items():
        for place in range(len(phones)):
            alike[(*phones[:place], None, *phones[place + 1 :])].add(word)
    pairs = {pair for words in alike.values() for pair in combinations(sorted(words), 2)}
    return {(a, b) for a, b in pairs if pronunciations[a] != pronunciations[b]}


@cache
def known_words() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Words and pairs in `data/words`, as `candidates` returned them."""
    return tuple(
        pd.read_csv(require_file(CANDIDATES / f"{name}.csv"), keep_default_na=False) for name in ("words", "pairs")
    )


def choose_pairs(n_pairs: int, seed: int, speakers: Speakers | None = None) -> pd.DataFrame:
    """Choose up to `n_pairs` of each type.

    Synonyms and near homophones are drawn from the candidates, each word at most three times a type. The types are
    matched in length: each pair of synonyms comes with a random pair whose words have as many phones as the synonyms,
    and with a pair of near homophones and a word paired with itself, of half the phones of both synonyms (odd totals
    are rounded up or down by chance). Near homophones that also have synonyms come first. The words of both types make
    up the other two; a random pair is `unalike` and a candidate for neither type.

    Parameters
    ----------
    speakers : mapping of word to speakers, optional
        Restricts the choice to these words, in pairs that two different speakers can say.

    Returns
    -------
    pairs : DataFrame
        pair_type, a, b.

    Raises
    ------
    InputError
        Fewer than two pairs of synonyms or near homophones.
    """
    words, known = known_words()
    phones = {word: tuple(labels.split()) for word, labels in zip(words["word"], words["phones"], strict=True)}
    if speakers is None:
        speakers = dict.fromkeys(phones, ("anyone", "anyone else"))
    rng = np.random.default_rng([seed, n_pairs])
    within = known[[_two_speakers(pair, speakers) for pair in zip(known["a"], known["b"], strict=True)]]
    synonyms, near = (
        list(map(tuple, rng.permutation(within.loc[within["pair_type"] == pair_type, ["a", "b"]]).tolist()))
        for pair_type in ("synonyms", "near homophones")
    )
    chosen = _matched(synonyms, near, phones, n_pairs, rng)
    for pair_type, pairs in chosen.items():
        if len(pairs) < 2:
            raise InputError(f"word pairs: found {len(pairs)} pairs of {pair_type}, expected at least 2")
    vocabulary = sorted({word for pairs in chosen.values() for pair in pairs for word in pair})
    vocabulary = rng.permutation(vocabulary).tolist()
    taken = set(map(tuple, known[["a", "b"]].to_numpy()))
    chosen["random"] = _random_pairs(chosen["synonyms"], vocabulary, taken, phones, speakers, rng)
    left = _by_length([word for word in vocabulary if _two_speakers((word, word), speakers)], phones)
    lengths = [len(phones[word]) for word, _ in chosen["near homophones"]]
    chosen["same word"] = [(left[length].pop(),) * 2 for length in lengths if left[length]]
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


def _random_pairs(
    like: Sequence[Pair],
    vocabulary: Sequence[str],
    taken: Collection[Pair],
    phones: Mapping[str, Phones],
    speakers: Speakers,
    rng: np.random.Generator,
) -> list[Pair]:
    """For each pair a random one of the same lengths, if `TRIES` draws find one."""
    pairs, by_length = {}, _by_length(vocabulary, phones)
    for pair in like:
        for _ in range(TRIES):
            a, b = sorted(str(rng.choice(by_length[len(phones[word])])) for word in pair)
            usable = (a, b) not in taken and (a, b) not in pairs and _two_speakers((a, b), speakers)
            if usable and a[:SAME_START] != b[:SAME_START] and unalike(phones[a], phones[b]):
                pairs[a, b] = None
                break
    return list(pairs)


def _two_speakers(pair: Pair, speakers: Speakers) -> bool:
    """Whether two different speakers can say the two words of a pair."""
    a, b = (set(speakers.get(word, ())) for word in pair)
    return bool(a and b and len(a | b) > 1)
