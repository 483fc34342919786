"""What a downstream task is, and the tasks that are linear classification of whole utterances."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.datasets.audio import RATE
from braintuning.errors import InputError
from braintuning.probes.features import Store, states
from braintuning.probes.linear import FEWEST_EXAMPLES, Fitted, fit_classes
from braintuning.probes.scores import Score, f1_counts, interval_over_speakers, macro_f1, sums_of_speakers
from braintuning.probes.utterance import PARTS, Parts, Utterance
from braintuning.results import generator

RANDOM_DIM = 64
QUIETEST = 1e-12


class Result(NamedTuple):
    """Score of one layer on the test part.

    Attributes
    ----------
    layer : int
    validation : float
        The same score on the validation part, by which a layer can be chosen.
    value, low, high : float
        On the test part, with a 95 % interval over its speakers.
    baseline, random_features, duration_loudness : float
        Score of the commonest answer, and of the probe on random numbers and on how long and loud an utterance is
        (NaN where a task is not about whole utterances).
    penalty : float
    at_edge : bool
        Whether the penalty is the first or last of those tried and its neighbour is worse.
    converged : bool
    sums : (speakers, ...) float64
        What each speaker of the test part, in alphabetical order, adds to the score.
    """

    layer: int
    validation: float
    value: float
    low: float
    high: float
    baseline: float
    random_features: float
    duration_loudness: float
    penalty: float
    at_edge: bool
    converged: bool
    sums: np.ndarray


Measure = Callable[[Parts, SpeechEncoder, str, int, Store | None], list[Result]]


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
        From parts, encoder, device, seed and where states are kept to a result a layer.
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

    def measure(
        parts: Parts, encoder: SpeechEncoder, device: str, seed: int, store: Store | None = None
    ) -> list[Result]:
        names, truth = truth_of(parts, label_sets, classes)
        rare = rare_classes(names, truth["train"])
        if one_of_many and (len(names) - len(rare) < 2 or (rare and not rare_allowed)):
            found = f"class {rare[0]!r} with fewer than two examples" if rare else f"{len(names)} class"
            raise InputError(f"probe: found {found} to train on, expected two classes or more with two examples each")
        heard = states(encoder, {part: parts[part] for part in PARTS}, "mean", device, store)
        pooled = {part: np.concatenate(list(found), axis=1) for part, found in heard.items()}
        sound = {part: duration_and_loudness(parts[part]) for part in PARTS}
        return classified(pooled, truth, [u.speaker for u in parts["test"]], one_of_many, seed, sound)

    return measure


def classified(
    pooled: Mapping[str, np.ndarray],
    truth: Mapping[str, np.ndarray],
    speakers: Sequence[str],
    one_of_many: bool,
    seed: int,
    sound: Mapping[str, np.ndarray] | None = None,
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
    sound : mapping of part to (utterances, 2) float, optional
        From `duration_and_loudness`, for that baseline.
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
    of_sound = [sound["train"][learnt], *(sound[part] for part in PARTS[1:])] if sound else None
    baselines = (
        score(np.broadcast_to(commonest(truth["train"], one_of_many), truth["test"].shape)),
        score(fit_classes(drawn, answers, one_of_many).predicted),
        score(fit_classes(of_sound, answers, one_of_many).predicted) if sound else np.nan,
    )
    results = []
    for layer in range(len(pooled["train"])):
        fitted = fit_classes(
            [pooled["train"][layer][learnt], *(pooled[part][layer] for part in PARTS[1:])], answers, one_of_many
        )
        counts = f1_counts(truth["test"], fitted.predicted)
        results.append(result(layer, fitted, macro_f1, counts, speakers, baselines, seed))
    return results


def result(
    layer: int,
    fitted: Fitted,
    score: Score,
    counts: np.ndarray,
    speakers: Sequence[str],
    baselines: tuple[float, float, float],
    seed: int,
) -> Result:
    """A layer's `Result` from what each row of the test part, said by `speakers`, adds to the score."""
    interval = interval_over_speakers(score, counts, speakers, generator(seed, "speakers", layer))
    chosen = (fitted.penalty, fitted.at_edge, fitted.converged)
    return Result(layer, fitted.validation, *interval, *baselines, *chosen, sums_of_speakers(counts, speakers))


def duration_and_loudness(utterances: Sequence[Utterance]) -> np.ndarray:
    """Seconds, and root mean square in decibels of full scale, of each utterance; (utterances, 2) float64."""
    rows = []
    for utterance in utterances:
        audio = utterance.audio().astype(np.float64)
        rows.append((len(audio) / RATE, 10 * np.log10(max(np.square(audio).mean(), QUIETEST))))
    return np.array(rows)


def commonest(truth: np.ndarray, one_of_many: bool) -> np.ndarray:
    """The answer that is given most often, (classes,) bool; without one of many, every class true of most rows."""
    share = truth.mean(axis=0)
    return np.arange(len(share)) == share.argmax() if one_of_many else share > 0.5
