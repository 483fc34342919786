import numpy as np
import pytest
from braintuning.probes import scores
from scipy.stats import binomtest, norm, t
from sklearn.metrics import f1_score, r2_score

RNG = np.random.default_rng


def test_macro_f1_is_that_of_scikit_learn():
    rng = RNG(0)
    truth, predicted = rng.random((2, 60, 5)) < 0.4
    found = scores.macro_f1(scores.f1_counts(truth, predicted).sum(axis=0))
    assert found == pytest.approx(f1_score(truth, predicted, average="macro"))
    truth[:, 2] = predicted[:, 2] = False
    found = scores.macro_f1(scores.f1_counts(truth, predicted).sum(axis=0))
    assert found == pytest.approx(f1_score(truth, predicted, average=None, zero_division=0)[[0, 1, 3, 4]].mean())


def test_r2_is_that_of_scikit_learn():
    truth, predicted = RNG(0).standard_normal((2, 50, 3))
    found = scores.mean_r2(scores.r2_sums(truth, predicted).sum(axis=0))
    assert found == pytest.approx(r2_score(truth, predicted))


def interval(counts, speakers):
    return scores.interval_over_speakers(scores.word_accuracy, scores.sums_of_speakers(counts, speakers))


def test_interval_covers_as_a_normal_one_would_where_speakers_are_many():
    hits = RNG(0).random(400) < 0.7
    counts = np.stack([~hits, np.ones(400)], axis=1).astype(float)
    low, high = interval(counts, np.arange(400).astype(str))
    half = norm.ppf(0.975) * np.sqrt(hits.mean() * (1 - hits.mean()) / 400)
    assert [low, high] == pytest.approx([hits.mean() - half, hits.mean() + half], rel=0.01)


def test_interval_is_over_speakers_and_not_over_utterances():
    hits = np.repeat([1, 0, 1, 0, 1, 0], 100)
    counts = np.stack([1 - hits, np.ones(600)], axis=1).astype(float)
    speakers = np.repeat([f"s{i}" for i in range(6)], 100)
    low, high = interval(counts, speakers)
    assert low == pytest.approx(0.5 - t.ppf(0.975, 5) * np.std([1, 0] * 3, ddof=1) / np.sqrt(6)) and high == 1
    assert np.isnan(interval(counts, ["one"] * 600)).all()


def test_of_few_speakers_who_said_equally_much_the_interval_is_students():
    right = np.array([5, 7, 2, 6, 8.0])
    counts = np.stack([10 - right, np.full(5, 10.0)], axis=1)
    half = t.ppf(0.975, 4) * right.std(ddof=1) / 10 / np.sqrt(5)
    of_one = interval(counts, list("abcde"))
    assert of_one == pytest.approx((right.mean() / 10 - half, right.mean() / 10 + half))
    perfect = np.stack([np.array([0, 0, 0, 0, 2.0]), np.full(5, 10.0)], axis=1)
    assert interval(perfect, list("abcde"))[1] == 1
    never = np.stack([np.full(5, 10.0), np.full(5, 10.0)], axis=1)
    assert scores.paired_difference(scores.word_accuracy, counts, never, RNG(0))[1:3] == pytest.approx(of_one)


def sums_of_a_pair(hits, speakers):
    counts = [np.stack([~h, np.ones(len(h))], axis=1).astype(float) for h in hits]
    return [scores.sums_of_speakers(one, speakers) for one in counts]


def test_a_paired_difference_is_that_of_a_normal_test_where_speakers_are_many():
    rng = RNG(0)
    hits = rng.random((2, 500)) < np.array([[0.7], [0.64]])
    first, second = sums_of_a_pair(hits, [f"s{i:03}" for i in range(500)])
    difference, low, high, p = scores.paired_difference(scores.word_accuracy, first, second, RNG(1))
    gaps = hits[0].astype(float) - hits[1]
    error = gaps.std() / np.sqrt(500)
    assert difference == pytest.approx(gaps.mean())
    assert [low, high] == pytest.approx(gaps.mean() + error * norm.ppf([0.025, 0.975]), abs=0.01)
    only_first, only_second = int((gaps > 0).sum()), int((gaps < 0).sum())
    assert p == pytest.approx(binomtest(only_first, only_first + only_second).pvalue, abs=0.04)


def test_few_speakers_cannot_make_a_small_p():
    hits = np.array([[True] * 60, [False] * 60])
    pair = sums_of_a_pair(hits, np.repeat(list("abcdef"), 10))
    *_, p = scores.paired_difference(scores.word_accuracy, *pair, RNG(0))
    assert p == pytest.approx(2 / 2**6)
    pair = sums_of_a_pair(hits, np.repeat(list("abcde"), 12))
    assert np.isnan(scores.paired_difference(scores.word_accuracy, *pair, RNG(0))[3])


def test_equal_models_do_not_differ_more_often_than_they_may():
    rng, ps = RNG(0), []
    for _ in range(200):
        pair = sums_of_a_pair(rng.random((2, 80)) < 0.5, np.repeat(list("abcdefgh"), 10))
        ps.append(scores.paired_difference(scores.word_accuracy, *pair, rng)[3])
    assert np.mean(np.array(ps) < 0.05) < 0.1
