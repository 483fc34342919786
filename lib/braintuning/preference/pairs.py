"""Word pairs: synonyms, near homophones, unrelated words, and words with themselves.

Synonyms come from WordNet 3.0 (Princeton University), near homophones from the CMU Pronouncing Dictionary;
`data/words/make_pairs.py` found them, and `choose_pairs` draws a study's pairs from them.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from functools import cache

import numpy as np
import pandas as pd
from rapidfuzz.distance import Levenshtein

from braintuning.errors import InputError
from braintuning.results import REPOSITORY, require_file

CANDIDATES = REPOSITORY / "data" / "words"
PAIR_TYPES = ("same word", "synonyms", "near homophones", "random")
UNALIKE = 0.6
SAME_START = 3
USES = 3
TRIES = 100

Phones = tuple[str, ...]
Pair = tuple[str, str]
Speakers = Mapping[str, Collection[str]]


def unalike(a: Phones, b: Phones) -> bool:
    """Whether most phones of two words differ: Levenshtein distance at least `UNALIKE` of the longer word's length."""
    return Levenshtein.distance(a, b) >= UNALIKE * max(len(a), len(b))


@cache
def known_words() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables in `data/words`: words (word, rank, phones), and pairs of them (pair_type, a, b)."""
    return tuple(
        pd.read_csv(require_file(CANDIDATES / f"{name}.csv"), keep_default_na=False) for name in ("words", "pairs")
    )


def choose_pairs(n_pairs: int, seed: int, speakers: Speakers | None = None) -> pd.DataFrame:
    """Choose up to `n_pairs` of each type: columns pair_type, a, b.

    Synonyms and near homophones are drawn from the candidates, each word at most three times a type. The types are
    matched in length: each pair of synonyms comes with a random pair whose words have as many phones as the synonyms,
    and with a pair of near homophones and a word paired with itself, of half the phones of both synonyms (odd totals
    are rounded up or down by chance). Near homophones that also have synonyms come first. The words of both types make
    up the other two; a random pair is `unalike` and a candidate for neither type.

    `speakers`, those of each word, restrict the choice to words and pairs that two different speakers can say.
    `InputError` for fewer than two pairs of synonyms or near homophones.
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
