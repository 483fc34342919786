"""Utterances, and their division into parts that share no speaker."""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from braintuning.datasets.audio import read_audio
from braintuning.datasets.textgrid import Interval
from braintuning.errors import InputError

PARTS = ("train", "validation", "test")
SHARES = {"train": 0.6, "validation": 0.15, "test": 0.25}
OF_TRAINING = {"train": 0.8, "validation": 0.2}
OF_TWO_PROMPTS = {"train": 0.6, "test": 0.4}
DRAWS = 200
FEWEST_LABELLED = {"train": 2, "test": 1}
Parts = Mapping[str, Sequence["Utterance"]]


@dataclass(frozen=True)
class Utterance:
    """One utterance of a corpus.

    Utterances with the same `prompt` have the same words. `part` (one of `PARTS`), `label` (the class) and `phones`
    (including silences) are there where the corpus has them.
    """

    speaker: str
    prompt: str
    file: Path
    part: str | None = None
    label: str | None = None
    text: str = ""
    phones: tuple[Interval, ...] = ()

    def audio(self) -> np.ndarray:
        """Audio at 16 kHz, (samples,) float32."""
        return read_audio(self.file)


def divide(
    utterances: Sequence[Utterance],
    rng: np.random.Generator,
    by_prompt: bool = False,
    said_by_all: frozenset[str] = frozenset(),
    source: object = "corpus",
) -> Parts:
    """Training, validation and test utterances, as the corpus divides them or else 60, 15 and 25 % of its speakers.

    Where the corpus has a training and a test part only, a fifth of the training speakers go to validation. With
    `by_prompt`, each prompt that several speakers say also gets a part, but those `said_by_all`, and utterances whose
    speaker belongs to another part are left out; if there are only two prompts, validation shares that of training.
    The division is drawn again, up to `DRAWS` times, until every label has two training utterances and one to test; if
    no draw has, the first one counts.

    Raises
    ------
    InputError
        A part without utterances, a speaker or, with `by_prompt`, a prompt in two parts, or a part that is given for
        some utterances only. The sentence begins with `source` or the file.
    """
    known = {utterance.part for utterance in utterances}
    if len(known) > 1 and None in known:
        found = next(utterance for utterance in utterances if utterance.part is None)
        raise InputError(f"{found.file}: found no part, expected one as other recordings of this corpus have it")
    together = said_by_all if by_prompt else {utterance.prompt for utterance in utterances}
    if known == {None}:
        utterances = _apart(utterances, SHARES, rng, together)
    elif known == {"train", "test"}:
        training, tested = ([u for u in utterances if u.part == part] for part in ("train", "test"))
        utterances = [*_apart(training, OF_TRAINING, rng, together), *tested]
    parts = {part: tuple(u for u in utterances if u.part == part) for part in PARTS}
    require_disjoint(parts, by_prompt, said_by_all, source)
    return parts


def _apart(
    utterances: Sequence[Utterance], shares: Mapping[str, float], rng: np.random.Generator, together: Container[str]
) -> list[Utterance]:
    """Utterances with the part of their speaker, without those whose shared prompt belongs to another part."""
    said = Counter(prompt for prompt, _ in {(u.prompt, u.speaker) for u in utterances} if prompt not in together)
    shared, two = {prompt for prompt, n_speakers in said.items() if n_speakers > 1}, len(said) == 2 and "test" in shares
    heard, found = {"validation": "train"} if two else {}, []
    for _ in range(DRAWS):
        part_of = drawn({utterance.speaker for utterance in utterances}, rng, shares)
        prompts = drawn(shared, rng, OF_TWO_PROMPTS if two else shares)
        parts = (part_of[u.speaker] for u in utterances)
        kept = [replace(u, part=part) for u, part in zip(utterances, parts, strict=True)]
        kept = [u for u in kept if prompts.get(u.prompt, u.part) in (u.part, heard.get(u.part))]
        found = found or kept
        if _every_label_is_drawn(kept, shares):
            return kept
    return found


def _every_label_is_drawn(utterances: Sequence[Utterance], shares: Container[str]) -> bool:
    """Whether each label has as many utterances as `FEWEST_LABELLED` in each part that is drawn."""
    counts = Counter((utterance.label, utterance.part) for utterance in utterances)
    fewest = {part: n for part, n in FEWEST_LABELLED.items() if part in shares}
    return all(counts[label, part] >= n for label, _ in list(counts) for part, n in fewest.items())


def lacking_classes(utterances: Sequence[Utterance], source: object) -> str:
    """Line on speakers who have not said every label that occurs in a corpus; empty where all have."""
    spoken: dict[str, set[str | None]] = {}
    for utterance in utterances:
        spoken.setdefault(utterance.speaker, set()).add(utterance.label)
    labels = set().union(*spoken.values())
    lacking = {speaker: sorted(labels - said) for speaker, said in spoken.items() if said < labels}
    if not lacking:
        return ""
    speaker, absent = next(iter(lacking.items()))
    such = f"such as {speaker}, without {absent[0]!r}"
    return (
        f"{source}: {len(lacking)} of {len(spoken)} speakers lack some of {len(labels)} classes, {such}; all are kept"
    )


def drawn(names: set[str], rng: np.random.Generator, shares: Mapping[str, float] = SHARES) -> dict[str, str]:
    """A part for each name, drawn in the given shares."""
    ends = np.rint(np.cumsum(list(shares.values())) * len(names)).astype(int)
    places = np.searchsorted(ends, np.arange(len(names)), side="right")
    return dict(zip(rng.permutation(sorted(names)).tolist(), np.array(list(shares))[places].tolist(), strict=True))


def require_disjoint(
    parts: Parts, by_prompt: bool = False, said_by_all: frozenset[str] = frozenset(), source: object = "corpus"
) -> None:
    """Raise `InputError` for an empty part, or for a speaker (with `by_prompt` a prompt) that is in two parts.

    Where there are only two prompts, training and validation may have the same.
    """
    for part, utterances in parts.items():
        if not utterances:
            raise InputError(f"{source}: found no utterance in the {part} part, expected some in each part")
    for what in ("speaker", "prompt") if by_prompt else ("speaker",):
        seen: dict[str, str] = {}
        allowed = said_by_all if what == "prompt" else ()
        names_of = {
            part: {getattr(utterance, what) for utterance in some if utterance.prompt not in allowed}
            for part, some in parts.items()
        }
        together = {"train", "validation"} if what == "prompt" and len(set().union(*names_of.values())) == 2 else ()
        for part, names in names_of.items():
            for name in names:
                if seen.setdefault(name, part) != part and not {part, seen[name]} <= set(together):
                    found = f"{what} {name!r} is in {seen[name]} and in {part}"
                    raise InputError(f"{source}: {found}, expected one of them")
