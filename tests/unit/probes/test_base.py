from pathlib import Path

import numpy as np
import pytest
import soundfile
import tiny
from braintuning.probes import base, scores
from braintuning.probes.base import classified, truth_of
from braintuning.probes.utterance import PARTS, Utterance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tiny import refused

RNG = np.random.default_rng


def planted(n=240, dim=8, n_classes=4, noise=0.1, seed=0):
    """Features in which a class is a direction; three parts of (1 layer, n, dim), their truth and test speakers."""
    rng = RNG(seed)
    centres = 3 * np.linalg.qr(rng.standard_normal((dim, n_classes)))[0].T
    pooled, truth = {}, {}
    for part in PARTS:
        labels = rng.integers(n_classes, size=n)
        pooled[part] = (centres[labels] + noise * rng.standard_normal((n, dim)))[None].astype(np.float32)
        truth[part] = labels[:, None] == np.arange(n_classes)
    return pooled, truth, [f"s{i % 12}" for i in range(n)]


@pytest.mark.parametrize("one_of_many", [True, False])
def test_planted_classes_that_a_line_can_tell_apart_are_all_found(one_of_many):
    (result,) = classified(*planted(), one_of_many, seed=0)
    assert result.value == result.low == result.high == result.validation == 1 and result.converged


def test_shuffled_labels_give_the_chance_level_within_the_interval():
    pooled, truth, speakers = planted()
    shuffled = {part: rows[RNG(3).permutation(len(rows))] for part, rows in truth.items()}
    (result,) = classified(pooled, shuffled, speakers, True, seed=0)
    assert result.low < 0.25 < result.high and result.baseline < result.low + 0.15
    assert abs(result.random_features - 0.25) < 0.1


def test_a_probe_is_the_same_every_time():
    (first,), (second,) = (classified(*planted(noise=4.0), True, seed=0) for _ in range(2))
    assert np.array_equal(first.sums, second.sums)
    np.testing.assert_array_equal(first[:-1], second[:-1])


@pytest.mark.parametrize("examples", [0, 1])
def test_a_rare_class_stays_in_the_score_and_is_never_predicted(examples):
    pooled, truth, speakers = planted(n_classes=4)
    rows = np.flatnonzero(truth["train"][:, 3])[examples:]
    pooled["train"], truth["train"] = np.delete(pooled["train"], rows, axis=1), np.delete(truth["train"], rows, axis=0)
    (result,) = classified(pooled, truth, speakers, True, seed=0)
    learnt = ~truth["train"][:, 3]
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=1 / result.penalty, max_iter=2000))
    probe.fit(pooled["train"][0][learnt], truth["train"][learnt].argmax(axis=1))
    predicted = probe.predict(pooled["test"][0])
    expected = f1_score(truth["test"].argmax(axis=1), predicted, average="macro", labels=range(4), zero_division=0)
    assert result.value == pytest.approx(expected) and expected < 0.75


def labelled(*labels):
    return [Utterance("s", label, Path(f"{label}.wav"), label=label) for label in labels]


def test_an_utterance_without_a_label_is_named():
    parts = {part: labelled("yes", "no") for part in PARTS} | {"test": labelled("maybe")}
    names, truth = truth_of(parts)
    assert names == ["maybe", "no", "yes"] and truth["test"].tolist() == [[True, False, False]]
    parts["train"] = [Utterance("s", "p", Path("bare.wav"))]
    refused(lambda: truth_of(parts), "bare.wav", "no label")


def test_duration_and_loudness_alone_can_tell_loud_from_quiet(tmp_path):
    parts, truth = {}, {}
    for part in PARTS:
        parts[part] = []
        for number in range(12):
            file, gain = tmp_path / f"{part}{number}.wav", (0.02, 0.2)[number % 2]
            soundfile.write(file, gain * RNG(number).standard_normal(8000), 16_000)
            parts[part].append(Utterance(f"{part}{number % 3}", "x", file, label=str(number % 2)))
        truth[part] = np.arange(12)[:, None] % 2 == np.arange(2)
    sound = {part: base.duration_and_loudness(some) for part, some in parts.items()}
    assert sound["train"][0] == pytest.approx([0.5, 20 * np.log10(0.02)], abs=0.3)
    (result, *_) = base.classify(parts, tiny.encoder(), "cpu", 0)
    assert result.duration_loudness == 1 and result.baseline == pytest.approx(1 / 3)
    assert result.sums.shape == (3, 3, 2) and result.value == scores.macro_f1(result.sums.sum(axis=0))
