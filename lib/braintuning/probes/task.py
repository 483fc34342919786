"""What a downstream task is, and the tasks that are linear classification of whole utterances."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from braintuning.backbones import SpeechEncoder
from braintuning.errors import InputError
from braintuning.probes.linear import FEWEST_EXAMPLES, Fitted, fit_classes
from braintuning.probes.scores import f1_counts, interval_over_speakers, macro_f1
from braintuning.probes.states import states
from braintuning.probes.utterance import PARTS, Parts, Utterance
from braintuning.seeding import generator

RANDOM_DIM = 64


class Result(NamedTuple):
    """Score of one layer on the test part.

    Attributes
    ----------
    layer : int
    validation : float
        The same score on the validation part, by which a layer can be chosen.
    value, low, high : float
        On the test part, with a 95 % interval over its speakers.
    baseline, random_features : float
        Score of the commonest answer, and of the probe on random numbers.
    penalty : float
    converged : bool
    """

    layer: int
    validation: float
    value: float
    low: float
    high: float
    baseline: float
    random_features: float
    penalty: float
    converged: bool


Measure = Callable[[Parts, SpeechEncoder, str, int], list[Result]]


@dataclass(frozen=True)
class Task:
    """A downstream task.

    Attributes
    ----------
    title, metric : str
    corpora : tuple of str
        Corpora that a user can give, names in `corpora.CORPORA`.
    stand_in : str
        Spoken corpus (`spoken.SPOKEN`) that is used without one.
    measure : callable
        From parts, encoder, device and seed to a result a layer.
    keep : callable
        Which utterances take part.
    by_prompt : bool
        Whether prompts are divided as well.
    said_by_all : frozenset of str
        Prompts that are not divided nevertheless.
    rare_allowed : bool
        Whether a class may have fewer than two examples to train on, in a corpus whose classes are of all sizes.
    """

    title: str
    metric: str
    corpora: tuple[str, ...]
    stand_in: str
    measure: Measure
    keep: Callable[[Utterance], bool] = lambda utterance: True
    by_prompt: bool = True
    said_by_all: frozenset[str] = frozenset()
    rare_allowed: bool = False


def labels_of(utterances: Sequence[Utterance]) -> list[set[str]]:
    """The label of each utterance, as a set of one; `InputError` for one without."""
    for utterance in utterances:
        if utterance.label is None:
            raise InputError(f"{utterance.file}: found no label, expected the class of the utterance")
    return [{utterance.label} for utterance in utterances]


def truth_of(
    parts: Parts,
    label_sets: Callable[[Sequence[Utterance]], list[set[str]]] = labels_of,
    classes: Sequence[str] | None = None,
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Names of the classes, and which are true of each utterance, part by part; (utterances, classes) bool.

    Parameters
    ----------
    parts : dict of part to sequence of Utterance
    label_sets : callable
        From utterances to the labels of each.
    classes : sequence of str, optional
        All that there are; by default those that occur in any part.

    Raises
    ------
    InputError
        A label outside the classes.
    """
    labels = {part: label_sets(parts[part]) for part in PARTS}
    names = list(classes) if classes else sorted(set().union(*(one for found in labels.values() for one in found)))
    for part, found in labels.items():
        for utterance, one in zip(parts[part], found, strict=True):
            if outside := sorted(one - set(names)):
                expected = f"expected one of {', '.join(names)}"
                raise InputError(f"{utterance.file}: label {outside[0]!r} in the {part} part, {expected}")
    return names, {part: np.array([[name in one for name in names] for one in found]) for part, found in labels.items()}


def rare_classes(names: Sequence[str], truth: np.ndarray) -> list[str]:
    """Classes with fewer than two examples in truth (utterances, classes) bool: they cannot be learnt."""
    return [name for name, examples in zip(names, truth.sum(axis=0), strict=True) if examples < FEWEST_EXAMPLES]


def classification(
    label_sets: Callable[[Sequence[Utterance]], list[set[str]]] = labels_of,
    classes: Sequence[str] | None = None,
    one_of_many: bool = True,
    rare_allowed: bool = False,
) -> Measure:
    """How well logistic regression names the classes of utterances from the mean over their frames, layer by layer.

    A class with fewer than two examples to train on is refused before anything is extracted where the classes of a
    corpus are known to have many. With `rare_allowed` it stays in the score and is never predicted: its F1 is 0.
    """

    def measure(parts: Parts, encoder: SpeechEncoder, device: str, seed: int) -> list[Result]:
        names, truth = truth_of(parts, label_sets, classes)
        rare = rare_classes(names, truth["train"])
        if one_of_many and (len(names) - len(rare) < 2 or (rare and not rare_allowed)):
            found = f"class {rare[0]!r} with fewer than two examples" if rare else f"{len(names)} class"
            raise InputError(f"probe: found {found} to train on, expected two classes or more with two examples each")
        pooled = {part: np.stack(states(encoder, parts[part], device=device), axis=1) for part in PARTS}
        return classified(pooled, truth, [u.speaker for u in parts["test"]], one_of_many, seed)

    return measure


def classified(
    pooled: Mapping[str, np.ndarray],
    truth: Mapping[str, np.ndarray],
    speakers: Sequence[str],
    one_of_many: bool,
    seed: int,
) -> list[Result]:
    """Results of every layer.

    Where one class is true of each utterance, those of a class with a single example are not trained on.

    Parameters
    ----------
    pooled : mapping of part to (layers + 1, utterances, dim) float32
    truth : mapping of part to (utterances, classes) bool
    speakers : sequence of str
        Of the test part.
    one_of_many : bool
        Whether exactly one class is true of each utterance.
    seed : int
    """
    answers = [truth[part] for part in PARTS]
    learnt = np.ones(len(answers[0]), bool)
    if one_of_many:
        learnt = answers[0] @ (answers[0].sum(axis=0) >= FEWEST_EXAMPLES)
    answers[0] = answers[0][learnt]

    def score(predicted: np.ndarray) -> float:
        return float(macro_f1(f1_counts(truth["test"], predicted).sum(axis=0)))

    rng = generator(seed, "random features")
    drawn = [rng.standard_normal((len(rows), RANDOM_DIM)) for rows in answers]
    random_features = score(fit_classes(drawn, answers, one_of_many).predicted)
    baseline = score(np.broadcast_to(commonest(truth["train"], one_of_many), truth["test"].shape))
    results = []
    for layer in range(len(pooled["train"])):
        fitted: Fitted = fit_classes(
            [pooled["train"][layer][learnt], *(pooled[part][layer] for part in PARTS[1:])], answers, one_of_many
        )
        counts = f1_counts(truth["test"], fitted.predicted)
        interval = interval_over_speakers(macro_f1, counts, speakers, generator(seed, "speakers", layer))
        chosen = (baseline, random_features, fitted.penalty, fitted.converged)
        results.append(Result(layer, fitted.validation, *interval, *chosen))
    return results


def commonest(truth: np.ndarray, one_of_many: bool) -> np.ndarray:
    """The answer that is given most often, (classes,) bool; without one of many, every class true of most rows."""
    share = truth.mean(axis=0)
    return np.arange(len(share)) == share.argmax() if one_of_many else share > 0.5
