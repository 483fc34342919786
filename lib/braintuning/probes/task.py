"""What a downstream task is, and the tasks that are linear classification of whole utterances."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from braintuning.backbones import SpeechEncoder
from braintuning.errors import InputError
from braintuning.probes.linear import Fitted, fit_classes
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
    """

    title: str
    metric: str
    corpora: tuple[str, ...]
    stand_in: str
    measure: Measure
    keep: Callable[[Utterance], bool] = lambda utterance: True
    by_prompt: bool = True


def labels_of(utterances: Sequence[Utterance]) -> list[set[str]]:
    """The label of each utterance, as a set of one; `InputError` for one without."""
    for utterance in utterances:
        if utterance.label is None:
            raise InputError(f"{utterance.file}: found no label, expected the class of the utterance")
    return [{utterance.label} for utterance in utterances]


def truth_of(labels: Mapping[str, Sequence[set[str]]], classes: Sequence[str] | None) -> dict[str, np.ndarray]:
    """Which classes are true of each utterance, part by part; (utterances, classes) bool.

    Raises
    ------
    InputError
        A label outside the classes; without classes, those of the training part.
    """
    known = list(classes) if classes else sorted(set().union(*labels["train"]))
    for part, found in labels.items():
        if outside := sorted(set().union(*found) - set(known)):
            raise InputError(f"probe: label {outside[0]!r} in {part}, expected one of {', '.join(known)}")
    return {part: np.array([[name in one for name in known] for one in found]) for part, found in labels.items()}


def classification(
    label_sets: Callable[[Sequence[Utterance]], list[set[str]]] = labels_of,
    classes: Sequence[str] | None = None,
    one_of_many: bool = True,
) -> Measure:
    """How well logistic regression names the classes of utterances from the mean over their frames, layer by layer."""

    def measure(parts: Parts, encoder: SpeechEncoder, device: str, seed: int) -> list[Result]:
        truth = truth_of({part: label_sets(parts[part]) for part in PARTS}, classes)
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

    def score(predicted: np.ndarray) -> float:
        return float(macro_f1(f1_counts(truth["test"], predicted).sum(axis=0)))

    rng = generator(seed, "random features")
    drawn = [rng.standard_normal((len(rows), RANDOM_DIM)) for rows in answers]
    random_features = score(fit_classes(drawn, answers, one_of_many).predicted)
    baseline = score(np.broadcast_to(commonest(truth["train"], one_of_many), truth["test"].shape))
    results = []
    for layer in range(len(pooled["train"])):
        fitted: Fitted = fit_classes([pooled[part][layer] for part in PARTS], answers, one_of_many)
        counts = f1_counts(truth["test"], fitted.predicted)
        interval = interval_over_speakers(macro_f1, counts, speakers, generator(seed, "speakers", layer))
        chosen = (baseline, random_features, fitted.penalty, fitted.converged)
        results.append(Result(layer, fitted.validation, *interval, *chosen))
    return results


def commonest(truth: np.ndarray, one_of_many: bool) -> np.ndarray:
    """The answer that is given most often, (classes,) bool; without one of many, every class true of most rows."""
    share = truth.mean(axis=0)
    return np.arange(len(share)) == share.argmax() if one_of_many else share > 0.5
