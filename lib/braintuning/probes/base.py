"""Task interface, and tasks that classify whole utterances."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.errors import InputError
from braintuning.probes.features import Store, states
from braintuning.probes.linear import FEWEST_EXAMPLES, Fitted, fit_classes
from braintuning.probes.scores import F1, Metric, Score, interval_over_speakers, sums_of_speakers
from braintuning.probes.utterance import PARTS, Parts, Utterance
from braintuning.results import generator
from braintuning.timing import SAMPLE_RATE

log = logging.getLogger(__name__)

RANDOM_DIM = 64
QUIETEST = 1e-12


class Result(NamedTuple):
    """Score of one layer on the test part, with its 95 % interval over speakers, and on the `validation` part.

    `baseline`, `random_features` and `duration_loudness` are scores of the most frequent answer, and of the probe on
    random numbers and on the duration and loudness of utterances (NaN for tasks that are not about whole utterances).
    `penalty`, `at_edge` and `converged` are those of `linear.Fitted`, and `sums` (speakers, ...) is what each test
    speaker, in alphabetical order, adds to the score.
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


def result(
    layer: int, fitted: Fitted, score: Score, totals: np.ndarray, baselines: tuple[float, float, float]
) -> Result:
    """A layer's `Result` from what each test speaker adds to the score."""
    value, interval = float(score(totals.sum(axis=0))), interval_over_speakers(score, totals)
    chosen = (fitted.penalty, fitted.at_edge, fitted.converged)
    return Result(layer, fitted.validation, value, *interval, *baselines, *chosen, totals)


def layer_results(
    features: Sequence[np.ndarray],
    answers: Sequence[np.ndarray],
    constant: np.ndarray,
    speakers: Sequence[str],
    fit: Callable[[Sequence[np.ndarray], Sequence[np.ndarray]], Fitted],
    metric: Metric,
    seed: int,
    controls: Sequence[np.ndarray] | None = None,
) -> list[Result]:
    """Results of a linear probe on every layer.

    `features` (layers, samples, dim), `answers` (samples, ...) and `controls` (duration and loudness) are of the
    training, validation and test part, `constant` (answers of the baseline) and `speakers` of the test part.
    """
    rng = generator(seed, "random features")
    random = [rng.standard_normal((len(some), RANDOM_DIM)) for some in answers]
    baselines = (
        metric(answers[2], constant),
        metric(answers[2], fit(random, answers).predicted),
        metric(answers[2], fit(controls, answers).predicted) if controls else np.nan,
    )
    results = []
    for layer, parts in enumerate(zip(*features, strict=True)):
        fitted = fit(parts, answers)
        totals = sums_of_speakers(metric.sums(answers[2], fitted.predicted), speakers)
        results.append(result(layer, fitted, metric.score, totals, baselines))
    return results


def label_of(utterance: Utterance) -> set[str]:
    """The label of an utterance as a set of one; `InputError` if it has none."""
    if utterance.label is None:
        raise InputError(f"{utterance.file}: found no label, expected the class of the utterance")
    return {utterance.label}


def truth_of(
    parts: Parts, labels_of: Callable[[Utterance], set[str]] = label_of, classes: Sequence[str] | None = None
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Class names, by default those that occur, and which are true in each part, (utterances, classes) bool."""
    labels = {part: [labels_of(utterance) for utterance in parts[part]] for part in PARTS}
    names = list(classes or sorted(set().union(*chain.from_iterable(labels.values()))))
    return names, {part: np.array([[name in one for name in names] for one in found]) for part, found in labels.items()}


def require_classes(parts: Parts, corpus: str | Path, rare_allowed: bool = False) -> None:
    """Raise `InputError` where a corpus has not two classes or more, each with two training examples.

    With `rare_allowed` a class with fewer stays in the score and is never predicted, so that its F1 is 0.
    """
    names, truth = truth_of(parts)
    rare = [name for name, n in zip(names, truth["train"].sum(axis=0), strict=True) if n < FEWEST_EXAMPLES]
    if len(names) - len(rare) < 2 or (rare and not rare_allowed):
        found = f"class {rare[0]!r} with fewer than two examples" if rare else f"{len(names)} class"
        raise InputError(f"{corpus}: found {found} to train on, expected two classes or more with two examples each")
    if rare:
        log.info(f"{corpus}: fewer than two examples to train on, so never predicted: {', '.join(rare)}")


def classify(
    parts: Parts,
    encoder: SpeechEncoder,
    device: str,
    seed: int,
    store: Store | None = None,
    labels_of: Callable[[Utterance], set[str]] = label_of,
    classes: Sequence[str] | None = None,
    one_of_many: bool = True,
) -> list[Result]:
    """Macro F1 of logistic regression from each layer's mean over frames to an utterance's class, or to several."""
    _, truth = truth_of(parts, labels_of, classes)
    found = states(encoder, parts, "mean", device, store)
    pooled = {part: np.concatenate(list(some), axis=1) for part, some in found.items()}
    controls = {part: duration_and_loudness(parts[part]) for part in PARTS}
    return classified(pooled, truth, [u.speaker for u in parts["test"]], one_of_many, seed, controls)


def classified(
    pooled: Mapping[str, np.ndarray],
    truth: Mapping[str, np.ndarray],
    speakers: Sequence[str],
    one_of_many: bool,
    seed: int,
    controls: Mapping[str, np.ndarray] | None = None,
) -> list[Result]:
    """Results of every layer from pooled (layers, utterances, dim) and truth (utterances, classes) bool of each part.

    With `one_of_many`, training utterances whose class has a single example are left out.
    """
    known = truth["train"]
    learnt = known @ (known.sum(axis=0) >= FEWEST_EXAMPLES) if one_of_many else np.ones(len(known), bool)
    share = known.mean(axis=0)
    commonest = np.arange(len(share)) == share.argmax() if one_of_many else share > 0.5
    return layer_results(
        [pooled["train"][:, learnt], pooled["validation"], pooled["test"]],
        [known[learnt], truth["validation"], truth["test"]],
        np.broadcast_to(commonest, truth["test"].shape),
        speakers,
        partial(fit_classes, one_of_many=one_of_many),
        F1,
        seed,
        controls and [controls["train"][learnt], controls["validation"], controls["test"]],
    )


def duration_and_loudness(utterances: Sequence[Utterance]) -> np.ndarray:
    """Seconds, and root mean square in dB relative to full scale, of each utterance; (utterances, 2) float64."""
    levels = []
    for utterance in utterances:
        audio = utterance.audio().astype(np.float64)
        levels.append((len(audio) / SAMPLE_RATE, 10 * np.log10(max(np.square(audio).mean(), QUIETEST))))
    return np.array(levels)


Measure = Callable[[Parts, SpeechEncoder, str, int, Store | None], list[Result]]
"""From parts, encoder, device, seed and the store of layer activations to results."""


@dataclass(frozen=True)
class Task:
    """A downstream task on one of `corpora` (keys of `corpora.CORPORA`) or else the synthesised `stand_in`.

    `metric` is a key of `scores.SCORES`, and `keep` says which utterances take part. With `by_prompt` the parts share
    no prompt, apart from those `said_by_all`; `kind` is what it reads of activations (`features.KINDS`), None if they
    change while it is measured; `rare_allowed` as for `require_classes`.
    """

    title: str
    corpora: tuple[str, ...]
    stand_in: str
    measure: Measure = classify
    metric: str = "macro F1"
    keep: Callable[[Utterance], bool] = lambda utterance: utterance.label is not None
    by_prompt: bool = True
    said_by_all: frozenset[str] = frozenset()
    kind: str | None = "mean"
    rare_allowed: bool = False
