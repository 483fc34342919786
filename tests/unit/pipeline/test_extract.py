import json

import numpy as np
import steps
import tiny
from braintuning.alignment.features import extract_features
from braintuning.datasets.lebel import LebelDataset
from braintuning.pipeline import extract as extract_step
from braintuning.pipeline.extract import extract_layers
from braintuning.pipeline.steps import load_encoder
from braintuning.results import load_arrays, provenance_of
from braintuning.study import Run
from tiny import N_ROWS, TEST, TRAIN, forbid, halve

PRETRAINED = Run("small", "pretrained")
TUNED = Run("small", "brain-tuned", "P1")
RANDOM = Run("small", "random-brain-tuned", "P1")


def test_features_start_as_many_rows_early_as_the_longest_delay(study, files):
    found = load_arrays(steps.extracted(study, PRETRAINED))
    assert set(found) == {*TRAIN, *TEST}
    dataset, encoder = LebelDataset(files.root, tiny.TR), load_encoder(study, PRETRAINED)
    for story in found:
        assert found[story].shape == (3, 2 + N_ROWS, 16) and found[story].dtype == np.float32
        times = np.array([(i + 10.5) * 2.0 - 10.028 for i in range(-2, N_ROWS)])
        expected = extract_features(encoder, dataset.audio(story), times, tiny.TR, study.features)
        np.testing.assert_allclose(found[story], expected, atol=1e-5)


def test_features_of_a_tuned_model_are_read_from_the_tuned_model(study):
    steps.tuned(study, TUNED)
    tuned = load_arrays(steps.extracted(study, TUNED))
    before = load_arrays(steps.extracted(study, PRETRAINED))
    assert np.abs(tuned["winter"][-1] - before["winter"][-1]).max() > 1e-4
    for run in (TUNED, PRETRAINED):
        assert provenance_of(study.features_file(run))["weights"] == str(load_encoder(study, PRETRAINED).weights_from)


def test_features_are_kept_when_whole_and_read_again_when_half_written(study, monkeypatch):
    path = steps.extracted(study, PRETRAINED)
    whole = load_arrays(path)
    with monkeypatch.context() as patch:
        forbid(patch, extract_step, "tokens")
        steps.extracted(study, PRETRAINED)
    halve(path)
    steps.extracted(study, PRETRAINED)
    assert all(np.array_equal(whole[story], again) for story, again in load_arrays(path).items())


def test_features_are_read_again_when_the_model_was_tuned_otherwise(study, make_study):
    steps.tuned(study, TUNED)
    before = load_arrays(steps.extracted(study, TUNED))
    other = make_study({"tuning.seed": 5})
    steps.tuned(other, TUNED)
    after = load_arrays(steps.extracted(other, TUNED))
    assert not np.array_equal(before["winter"], after["winter"])


def test_features_are_read_again_when_the_tr_or_the_number_of_rows_changed(study, make_study, files):
    path = steps.extracted(study, PRETRAINED)
    files.volumes.write_text(json.dumps(dict.fromkeys(tiny.STORIES, tiny.N_VOLUMES + 1)))
    steps.extracted(study, PRETRAINED)
    assert load_arrays(path)["winter"].shape[1] == 2 + N_ROWS + 1
    before = load_arrays(path)["winter"]
    steps.extracted(make_study({"dataset.tr": 1.9}), PRETRAINED)
    assert not np.array_equal(load_arrays(path)["winter"], before)


def test_a_sweep_gives_each_model_what_it_gets_alone(make_study, monkeypatch):
    study = make_study()
    steps.tuned(study, TUNED)
    runs = [PRETRAINED, TUNED]
    alone = [load_arrays(steps.extracted(study, run)) for run in runs]
    for run in runs:
        study.features_file(run).unlink()
    calls, plain = [], extract_step.tokens
    monkeypatch.setattr(
        extract_step, "tokens",
        lambda models, sounds, *rest: calls.append((len(models), len(sounds))) or plain(models, sounds, *rest),
    )  # fmt: skip
    paths = extract_layers(study, runs)
    assert calls == [(2, len(alone[0]))]
    for path, expected in zip(paths, alone, strict=True):
        for story, rows in load_arrays(path).items():
            np.testing.assert_allclose(rows, expected[story], rtol=1e-5, atol=1e-6)
    calls.clear()
    extract_layers(study, runs)
    assert calls == []
