from pathlib import Path

import corpus_files
import jiwer
import numpy as np
import pandas as pd
import pytest
import soundfile
import tiny
import torch
from braintuning.pipeline import probe as probe_stage
from braintuning.probes import asr, linear, scores, tasks
from braintuning.probes.base import classified, truth_of
from braintuning.probes.features import states
from braintuning.probes.utterance import PARTS, Utterance
from braintuning.study import Run, load_study
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, r2_score
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


def test_interval_covers_as_a_normal_one_would_where_speakers_are_many():
    hits = RNG(0).random(400) < 0.7
    counts = np.stack([~hits, np.ones(400)], axis=1).astype(float)
    value, low, high = scores.interval_over_speakers(scores.word_accuracy, counts, np.arange(400).astype(str), RNG(1))
    width = 2 * norm.ppf(0.975) * np.sqrt(hits.mean() * (1 - hits.mean()) / 400)
    assert value == pytest.approx(hits.mean()) and high - low == pytest.approx(width, rel=0.1)


def test_interval_is_over_speakers_and_not_over_utterances():
    hits = np.repeat([1, 0, 1, 0, 1, 0], 100)
    counts = np.stack([1 - hits, np.ones(600)], axis=1).astype(float)
    speakers = np.repeat([f"s{i}" for i in range(6)], 100)
    value, low, high = scores.interval_over_speakers(scores.word_accuracy, counts, speakers, RNG(1))
    assert value == 0.5 and high - low > 0.5
    alone = scores.interval_over_speakers(scores.word_accuracy, counts, ["one"] * 600, RNG(1))
    assert np.isnan(alone[1]) and np.isnan(alone[2])


def test_a_regression_that_is_exact_is_found_and_its_penalty_small():
    rng = RNG(0)
    weights = rng.standard_normal((6, 3))
    features = [rng.standard_normal((200, 6)) for _ in PARTS]
    targets = [x @ weights for x in features]
    fitted = linear.fit_regression(features, targets)
    np.testing.assert_allclose(fitted.predicted, targets[2], atol=0.1)
    assert fitted.penalty == min(linear.RIDGE_PENALTIES)


def test_too_little_to_learn_from_is_named():
    truth = np.eye(3, dtype=bool)[[0, 0, 1, 1, 2]]
    refused(lambda: linear.fit_classes([np.zeros((5, 2))] * 3, [truth] * 3, True), "class number 2 has one example")
    one = np.eye(3, dtype=bool)[[0, 0, 0]]
    refused(lambda: linear.fit_classes([np.zeros((3, 2))] * 3, [one] * 3, True), "1 class to train on")


def labelled(*labels):
    return [Utterance("s", label, Path(f"{label}.wav"), label=label) for label in labels]


def test_a_label_outside_the_set_is_named_with_its_file():
    parts = {part: labelled("yes", "no") for part in PARTS} | {"test": labelled("maybe")}
    refused(lambda: truth_of(parts, classes=("yes", "no")), "maybe.wav", "'maybe' in the test part", "yes, no")
    names, truth = truth_of(parts)
    assert names == ["maybe", "no", "yes"] and truth["test"].tolist() == [[True, False, False]]
    parts["train"] = [Utterance("s", "p", Path("bare.wav"))]
    refused(lambda: truth_of(parts), "bare.wav", "no label")


@pytest.mark.parametrize(
    ("task", "labels", "said"),
    [
        ("emotion", ("a", "a", "b"), "class 'b' with fewer than two"),
        ("intent", ("a", "a"), "1 class"),
        ("intent", ("a", "a", "b"), "class 'b' with fewer than two"),
        ("word_identity", ("yes", "yes", "no", "no"), "class 'backward' with fewer than two"),
    ],
)
def test_a_class_with_one_example_is_refused_before_the_model_hears_anything(task, labels, said):
    parts = {part: labelled(*labels) for part in PARTS}
    refused(lambda: tasks.TASKS[task].measure(parts, None, "cpu", 0), said)


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


def test_a_rare_action_of_slurp_is_reported_and_stops_nothing(tmp_path):
    folder = corpus_files.write_slurp(tmp_path, 8)
    path = folder / "dataset" / "slurp" / "test.jsonl"
    path.write_text(path.read_text().replace('"action": "remove"', '"action": "dance"'))
    said = []
    with tiny.listening(said.append):
        _, parts = tasks.material("intent", folder)
    assert said == ["SLURP: fewer than two examples to train on, so never predicted: dance"]
    found = tasks.TASKS["intent"].measure(parts, tiny.encoder(), "cpu", 0)
    assert all(0 <= result.value < 1 for result in found)


def utterances(folder, lengths, speaker="s"):
    made = []
    for number, length in enumerate(lengths):
        path = folder / f"{number}.wav"
        soundfile.write(path, 0.1 * RNG(number).standard_normal(length), 16_000)
        made.append(Utterance(speaker, str(number), path))
    return made


@pytest.mark.parametrize("family", ["hubert", "whisper"])
def test_an_utterance_is_the_mean_of_its_own_frames_whatever_else_is_in_the_batch(tmp_path, family):
    encoder, heard = tiny.encoder(family), utterances(tmp_path, (8000, 12_345, 8000, 16_000))
    found = states(encoder, {"test": heard})["test"]
    for utterance, state in zip(heard, found, strict=True):
        with torch.no_grad():
            alone = encoder(torch.from_numpy(utterance.audio())[None])[:, 0].mean(dim=1).numpy()
        np.testing.assert_allclose(state[:, 0], alone, atol=1e-5)


def test_an_utterance_shorter_than_a_frame_is_named(tmp_path):
    short = utterances(tmp_path, (300,))
    refused(lambda: states(tiny.encoder(), {"test": short}), "0.wav", "300 samples")


def test_text_is_written_encoded_and_decoded():
    assert asr.written("It's  half-past 7, Tom!") == "it's half past tom"
    numbers = asr.encoded("hello all").tolist()
    framed = [n for number in numbers for n in (number, number, asr.BLANK)]
    assert asr.decoded(framed) == "hello all"
    assert asr.decoded([n for n in framed if n != asr.BLANK]) == "helo al"


def test_word_errors_are_those_of_jiwer():
    truth, heard = ["one two three", "four five"], ["one too three four", "five"]
    counts = asr.errors_and_words(truth, heard)
    assert counts.tolist() == [[2, 3], [1, 2]]
    assert scores.word_accuracy(counts.sum(axis=0)) == pytest.approx(1 - jiwer.wer(truth, heard))


def test_a_trunk_is_tuned_without_changing_the_encoder_that_was_given(tmp_path, monkeypatch):
    monkeypatch.setattr(asr, "EPOCHS", 4)
    monkeypatch.setattr(asr, "TUNED_EPOCHS", 4)
    parts = {part: [] for part in PARTS}
    for number, utterance in enumerate(utterances(tmp_path, (8000,) * 6)):
        text = ("on", "no")[number % 2]
        parts[PARTS[number // 2]].append(Utterance(f"s{number}", text, utterance.file, text=text))
    encoder = tiny.encoder()
    before = {name: p.clone() for name, p in encoder.named_parameters()}
    (tuned,), (frozen,) = asr.measure_tuned(parts, encoder, "cpu", 0), asr.measure(parts, encoder, "cpu", 0)
    assert all(torch.equal(before[name], p) for name, p in encoder.named_parameters())
    assert tuned.layer == frozen.layer == encoder.n_layers and tuned.value <= 1


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / "results"))
    tiny.encoder("hubert").save_pretrained(tmp_path / "backbone")
    (tmp_path / "speech").mkdir()
    corpus_files.write_aligned(tmp_path / "speech", 20)
    content = tiny.study_content(tmp_path, tmp_path / "backbone") | {
        "probes": {
            "tasks": ["phonemes", "mfcc"],
            "corpora": {task: str(tmp_path / "speech") for task in ("phonemes", "mfcc")},
        }
    }
    return load_study(tiny.write_yaml(tmp_path / "tiny.yaml", content))


@pytest.mark.parametrize("task", ["phonemes", "mfcc"])
def test_the_stage_leaves_a_table_of_all_layers_and_keeps_it(study, task, monkeypatch):
    path = probe_stage.probe(study, Run("small", "pretrained"), task)
    table = pd.read_csv(path.with_suffix(".csv"))
    assert table["layer"].tolist() == [0, 1, 2] and set(table["corpus"]) == {"aligned speech"}
    wanted = "task corpus family condition participant layer metric value low high n_train n_test baseline".split()
    assert set(wanted) <= set(table.columns) and table["n_train"][0] == 12 and table["n_test"][0] == 5
    monkeypatch.setattr(probe_stage, "probed", None)
    assert probe_stage.probe(study, Run("small", "pretrained"), task) == path


def test_an_unknown_task_or_another_corpus_is_named(study, tmp_path):
    refused(lambda: tasks.material("phoneme"), "'phoneme'", "phonemes")
    refused(lambda: tasks.material("intent", study.probes.corpora["phonemes"]), "holds aligned speech", "SLURP")
    content = tiny.study_content(tmp_path, tmp_path) | {"probes": {"tasks": ["emotions"]}}
    refused(lambda: load_study(tiny.write_yaml(tmp_path / "bad.yaml", content)), "emotions")
