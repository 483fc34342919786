import warnings

import numpy as np
import pytest
import soundfile
import tiny
import torch
from braintuning.probes import asr, linear, mfcc, scores
from braintuning.probes import base as task
from braintuning.probes import features as heard
from braintuning.probes.utterance import PARTS, Utterance
from scipy.stats import binomtest, norm
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

RNG = np.random.default_rng


def noisy_classes(n=60, dim=8, n_classes=3, seed=0):
    rng = RNG(seed)
    centres = rng.standard_normal((n_classes, dim))
    labels = [rng.integers(n_classes, size=n) for _ in PARTS]
    features = [centres[some] + 1.5 * rng.standard_normal((n, dim)) for some in labels]
    return features, [some[:, None] == np.arange(n_classes) for some in labels]


@pytest.mark.parametrize("dim", [8, 200])
@pytest.mark.parametrize("one_of_many", [True, False])
def test_a_probe_predicts_as_scikit_learn_does_from_a_cold_start_with_all_columns(dim, one_of_many):
    features, truth = noisy_classes(dim=dim)
    found = linear.fit_classes(features, truth, one_of_many)
    scaler = StandardScaler().fit(features[0])
    train, test = scaler.transform(features[0]), scaler.transform(features[2])
    model = LogisticRegression(C=1 / found.penalty, max_iter=5000, tol=1e-8)
    if one_of_many:
        alone = model.fit(train, truth[0].argmax(axis=1)).predict(test)[:, None] == np.arange(3)
    else:
        alone = np.stack([model.fit(train, column).predict(test) for column in truth[0].T], axis=1)
    assert (found.predicted == alone).mean() > 0.99 and found.converged


def test_ridge_predicts_as_scikit_learn_does():
    rng = RNG(0)
    features = [rng.standard_normal((50, 20)) for _ in PARTS]
    targets = [x[:, :3] + rng.standard_normal((50, 3)) for x in features]
    found = linear.fit_regression(features, targets)
    scaler = StandardScaler().fit(features[0])
    alone = Ridge(alpha=found.penalty).fit(scaler.transform(features[0]), targets[0])
    np.testing.assert_allclose(found.predicted, alone.predict(scaler.transform(features[2])), atol=1e-8)


def test_a_class_that_is_only_in_the_test_part_counts_as_missed():
    features, truth = noisy_classes(n_classes=3, n=200)
    features = [np.where(rows.argmax(axis=1)[:, None] == np.arange(8), 9.0, 0.0) for rows in truth]
    wider = [np.pad(rows, ((0, 0), (0, 1))) for rows in truth]
    wider[2][:50] = np.array([False, False, False, True])
    found = linear.fit_classes(features, wider, True)
    assert not found.predicted[:, 3].any()
    counts = scores.f1_counts(wider[2], found.predicted).sum(axis=0)
    assert counts[2, 3] == 50
    rest = [2 * h / (2 * h + f + m) for h, f, m in counts.T[:3]]
    assert scores.macro_f1(counts) == pytest.approx(np.sum(rest) / 4)


def test_an_edge_is_told_only_where_more_penalty_or_less_would_do_better():
    assert not linear._at_edge([1, 1, 0.5]) and linear._at_edge([1, 0.9, 0.5])
    assert linear._at_edge([0.1, 0.2, 0.3]) and not linear._at_edge([0.1, 0.3, 0.3])


def test_duration_and_loudness_alone_can_tell_loud_from_quiet(tmp_path):
    parts, truth = {}, {}
    for part in PARTS:
        parts[part] = []
        for number in range(12):
            file, gain = tmp_path / f"{part}{number}.wav", (0.02, 0.2)[number % 2]
            soundfile.write(file, gain * RNG(number).standard_normal(8000), 16_000)
            parts[part].append(Utterance(f"{part}{number % 3}", "x", file, label=str(number % 2)))
        truth[part] = np.arange(12)[:, None] % 2 == np.arange(2)
    sound = {part: task.duration_and_loudness(some) for part, some in parts.items()}
    assert sound["train"][0] == pytest.approx([0.5, 20 * np.log10(0.02)], abs=0.3)
    (result, *_) = task.classification()(parts, tiny.encoder(), "cpu", 0)
    assert result.duration_loudness == 1 and result.baseline == pytest.approx(1 / 3)
    assert result.sums.shape == (3, 3, 2) and result.value == scores.macro_f1(result.sums.sum(axis=0))


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


def written(folder, lengths):
    made = []
    for number, length in enumerate(lengths):
        soundfile.write(folder / f"{number}.wav", 0.1 * RNG(number).standard_normal(length), 16_000)
        made.append(Utterance(f"s{number % 2}", str(number), folder / f"{number}.wav"))
    return made


def test_a_model_hears_each_set_of_utterances_once_for_all_kinds_and_divisions(tmp_path, monkeypatch):
    everything, encoder = written(tmp_path, (8000, 12_345, 8000, 16_000, 9000)), tiny.encoder()
    store = heard.Store(tmp_path / "store", {"model": 1}, tuple(heard.KINDS))
    divided = {"train": everything[:3], "test": everything[3:]}
    other = {"train": everything[2:], "test": everything[:2]}
    plain = {kind: heard.states(encoder, divided, kind) for kind in heard.KINDS}
    first = heard.states(encoder, divided, "mean", store=store)
    monkeypatch.setattr(heard, "passes", None)
    for kind, expected in plain.items():
        found = heard.states(encoder, divided, kind, store=store)
        for part in divided:
            for one, another in zip(found[part], expected[part], strict=True):
                np.testing.assert_array_equal(one, another)
    swapped = heard.states(encoder, other, "mean", store=store)
    np.testing.assert_array_equal(swapped["test"][1], first["train"][1])
    with pytest.raises(TypeError):
        heard.states(encoder, divided, store=heard.Store(tmp_path / "store", {"model": 2}))
    soundfile.write(everything[0].file, np.zeros(8001), 16_000)
    with pytest.raises(TypeError):
        heard.states(encoder, divided, "mean", store=store)


def test_what_was_read_longest_ago_makes_room(tmp_path, monkeypatch):
    encoder = tiny.encoder()
    store = heard.Store(tmp_path / "store", 0)
    for number in range(3):
        (tmp_path / str(number)).mkdir()
    sets = [{"test": written(tmp_path / str(number), (8000 + number,) * 3)} for number in range(3)]
    heard.states(encoder, sets[0], store=store)
    size = store.file("mean", sets[0]["test"], "cpu").stat().st_size
    monkeypatch.setattr(heard, "MOST_BYTES", 2 * size)
    for utterances in (sets[1], sets[0], sets[2]):
        heard.states(encoder, utterances, store=store)
    assert [store.file("mean", some["test"], "cpu").is_file() for some in sets] == [True, False, True]


def test_no_more_than_a_batch_of_sound_is_read_at_a_time(tmp_path, monkeypatch):
    read, everything = [], written(tmp_path, (8000, 9000, 10_000))
    monkeypatch.setattr(heard.Utterance, "audio", lambda self: read.append(self) or np.zeros(8000, np.float32))
    for number, _ in enumerate(heard.passes(tiny.encoder(), everything), 1):
        assert len(read) == number


def frames_of_text(text, directions, rng, noise=0.05):
    """Each character is a direction in two frames, with a blank after them."""
    numbers = [n for number in asr.encoded(text).tolist() for n in (number, number, asr.BLANK)]
    return torch.from_numpy(directions[numbers] + noise * rng.standard_normal((len(numbers), 40))).float()


def fitted_head(noise, epochs=60):
    texts = {part: ["the cat sat", "a hat", "that chat", "eat the heat"] * 4 for part in PARTS}
    rng = RNG(0)
    directions = rng.standard_normal((len(asr.CHARACTERS) + 1, 40))
    frames = {part: [frames_of_text(t, directions, rng, noise) for t in some] for part, some in texts.items()}
    look_up = {part: some.__getitem__ for part, some in frames.items()}
    head, settled = asr.fit_head(look_up, texts, 40, [], epochs, 0, "cpu")
    return head, settled, look_up, texts


def test_characters_that_a_line_can_read_are_recognised():
    head, _, frames, texts = fitted_head(0.05)
    assert scores.word_accuracy(asr._recognised(head, frames["test"], texts["test"]).sum(axis=0)) > 0.9


def test_only_the_order_of_utterances_is_drawn():
    directions = RNG(0).standard_normal((len(asr.CHARACTERS) + 1, 40))
    frames = dict.fromkeys(PARTS, [frames_of_text("the cat", directions, RNG(1))].__getitem__)
    texts = {part: ["the cat"] for part in PARTS}
    heads = [asr.fit_head(frames, texts, 40, [], 5, seed, "cpu")[0] for seed in (0, 1)]
    torch.testing.assert_close(heads[0].weight, heads[1].weight, rtol=0, atol=0)
    assert heads[0].weight.abs().sum() > 0


def test_what_cannot_be_read_is_no_worse_than_silence_where_it_is_chosen():
    head, settled, frames, texts = fitted_head(30.0, epochs=5)
    assert not settled
    assert scores.word_accuracy(asr._recognised(head, frames["validation"], texts["validation"]).sum(axis=0)) >= 0


def test_a_bias_of_the_blank_counts_errors_as_the_biased_layer_makes_them():
    head, _, frames, texts = fitted_head(2.0, epochs=5)
    numbers = [asr.encoded(text) for text in texts["validation"]]
    _, errors = asr._validated(head, frames["validation"], texts["validation"], numbers)
    assert len(set(errors.values())) > 1
    for bias, found in errors.items():
        with torch.no_grad():
            head.bias[asr.BLANK] += bias
            assert asr._recognised(head, frames["validation"], texts["validation"])[:, 0].sum() == found
            head.bias[asr.BLANK] -= bias if bias < 1e3 else 0
            if bias >= 1e3:
                break


def test_a_dead_dimension_is_left_finite_and_the_others_are_standard():
    rng = RNG(0)
    utterances = [rng.standard_normal((1, n, 3)).astype(np.float32) * [2, 0, 1] + [5, 1, 0] for n in (30, 50)]
    mean, scale = asr.standardisation([one.astype(np.float32) for one in utterances])
    together = np.concatenate([one[0] for one in utterances])
    np.testing.assert_allclose(mean, together.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(scale, [together[:, 0].std(), 1, together[:, 2].std()], rtol=1e-5)


def test_every_task_has_its_baselines(tmp_path, monkeypatch):
    monkeypatch.setattr(asr, "EPOCHS", 3)
    parts = {}
    for number, part in enumerate(PARTS):
        (tmp_path / part).mkdir()
        made = written(tmp_path / part, (8000,) * 4)
        parts[part] = [Utterance(f"{number}{u.speaker}", u.prompt, u.file, text="no on") for u in made]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for measure in (asr.measure, mfcc.measure):
            result = measure(parts, tiny.encoder(), "cpu", 0)[-1]
            assert np.isfinite([result.baseline, result.random_features]).all() and np.isnan(result.duration_loudness)
            if measure is asr.measure:
                assert result.sums[:, 1].sum() == asr.ORDERS * 4 * 2
