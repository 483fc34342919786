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
    speaker belongs to another part are left out.

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
    part_of = drawn({utterance.speaker for utterance in utterances}, rng, shares)
    said = Counter(prompt for prompt, _ in {(u.prompt, u.speaker) for u in utterances} if prompt not in together)
    prompts = drawn({prompt for prompt, n_speakers in said.items() if n_speakers > 1}, rng, shares)
    return [
        replace(utterance, part=part_of[utterance.speaker])
        for utterance in utterances
        if prompts.get(utterance.prompt, part_of[utterance.speaker]) == part_of[utterance.speaker]
    ]


def drawn(names: set[str], rng: np.random.Generator, shares: Mapping[str, float] = SHARES) -> dict[str, str]:
    """A part for each name, drawn in the given shares."""
    ends = np.rint(np.cumsum(list(shares.values())) * len(names)).astype(int)
    places = np.searchsorted(ends, np.arange(len(names)), side="right")
    return dict(zip(rng.permutation(sorted(names)).tolist(), np.array(list(shares))[places].tolist(), strict=True))


def require_disjoint(
    parts: Parts, by_prompt: bool = False, said_by_all: frozenset[str] = frozenset(), source: object = "corpus"
) -> None:
    """Raise `InputError` for an empty part, or for a speaker (with `by_prompt` a prompt) that is in two parts."""
    for part, utterances in parts.items():
        if not utterances:
            raise InputError(f"{source}: found no utterance in the {part} part, expected some in each part")
    for what in ("speaker", "prompt") if by_prompt else ("speaker",):
        seen: dict[str, str] = {}
        allowed = said_by_all if what == "prompt" else ()
        for part, utterances in parts.items():
            for name in {getattr(utterance, what) for utterance in utterances if utterance.prompt not in allowed}:
                if seen.setdefault(name, part) != part:
                    found = f"{what} {name!r} is in {seen[name]} and in {part}"
                    raise InputError(f"{source}: {found}, expected one of them")
