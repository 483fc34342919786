"""What a corpus is made of, and how it is divided so that nobody is heard in two parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from braintuning.audio import read_audio
from braintuning.errors import InputError
from braintuning.textgrid import Interval

PARTS = ("train", "validation", "test")
SHARES = (0.6, 0.15, 0.25)
Parts = Mapping[str, Sequence["Utterance"]]


@dataclass(frozen=True)
class Utterance:
    """Something said once.

    Attributes
    ----------
    speaker : str
    prompt : str
        What was to be said: two utterances with the same prompt have the same words.
    file : Path
    part : str, optional
        One of `PARTS`, where the corpus says so.
    label : str, optional
        Class, where the corpus has one.
    text : str
    phones : tuple of Interval
        With silences; empty where the corpus has none.
    """

    speaker: str
    prompt: str
    file: Path
    part: str | None = None
    label: str | None = None
    text: str = ""
    phones: tuple[Interval, ...] = ()

    def audio(self) -> np.ndarray:
        """Sound at 16 kHz, (samples,) float32."""
        return read_audio(self.file)


def divide(utterances: Sequence[Utterance], rng: np.random.Generator, by_prompt: bool = False) -> Parts:
    """Utterances to train, to validate and to test on: where the corpus does not say, 60, 15 and 25 % of the speakers.

    Parameters
    ----------
    utterances : sequence of Utterance
    rng : numpy Generator
        Draws which speakers and prompts go where.
    by_prompt : bool
        Divide prompts that several speakers say in the same way, and leave out what a speaker of one part says of
        another part's prompts.

    Returns
    -------
    parts : dict of `PARTS` to tuple of Utterance

    Raises
    ------
    InputError
        A part without utterances, or a speaker or, with `by_prompt`, a prompt in two parts.
    """
    if not any(utterance.part for utterance in utterances):
        part_of = _drawn({utterance.speaker for utterance in utterances}, rng)
        prompts = _drawn(_said_by_several(utterances), rng) if by_prompt else {}
        utterances = [
            replace(utterance, part=part_of[utterance.speaker])
            for utterance in utterances
            if prompts.get(utterance.prompt, part_of[utterance.speaker]) == part_of[utterance.speaker]
        ]
    parts = {part: tuple(u for u in utterances if u.part == part) for part in PARTS}
    require_disjoint(parts, by_prompt)
    return parts


def _said_by_several(utterances: Sequence[Utterance]) -> set[str]:
    speakers: dict[str, set[str]] = {}
    for utterance in utterances:
        speakers.setdefault(utterance.prompt, set()).add(utterance.speaker)
    return {prompt for prompt, known in speakers.items() if len(known) > 1}


def _drawn(names: set[str], rng: np.random.Generator) -> dict[str, str]:
    ends = np.rint(np.cumsum(SHARES) * len(names)).astype(int)
    places = np.searchsorted(ends, np.arange(len(names)), side="right")
    return {name: PARTS[place] for name, place in zip(rng.permutation(sorted(names)).tolist(), places, strict=True)}


def require_disjoint(parts: Parts, by_prompt: bool = False) -> None:
    """Raise `InputError` for an empty part, or for a speaker (with `by_prompt` a prompt) that is in two parts."""
    for part, utterances in parts.items():
        if not utterances:
            raise InputError(f"corpus: found no utterance to {part} on, expected some")
    for what in ("speaker", "prompt") if by_prompt else ("speaker",):
        seen: dict[str, str] = {}
        for part, utterances in parts.items():
            for name in {getattr(utterance, what) for utterance in utterances}:
                if seen.setdefault(name, part) != part:
                    raise InputError(f"corpus: {what} {name!r} is in {seen[name]} and in {part}, expected one of them")
