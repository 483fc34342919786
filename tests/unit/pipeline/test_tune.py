import shutil
from fractions import Fraction

import h5py
import numpy as np
import pandas as pd
import pytest
import steps
import tiny
import torch
from braintuning import timing
from braintuning.alignment.mask import used_voxels
from braintuning.datasets import open_dataset
from braintuning.datasets.lebel import LebelDataset
from braintuning.pipeline import tune as tune_step
from braintuning.pipeline.ceiling import measure_ceiling
from braintuning.pipeline.tune import learning_material, presentations, responses_of, tuning_recipe
from braintuning.results import load_arrays, provenance_of
from braintuning.study import Run
from braintuning.tuning.joint import CommonCortex
from safetensors.torch import load_file
from tiny import N_ROWS, N_VOXELS, TRAIN, forbid, halve
from transformers import AutoModel

PRETRAINED = Run("small", "pretrained")
TUNED = Run("small", "brain-tuned", "P1")
RANDOM = Run("small", "random-brain-tuned", "P1")


def test_trap_control_hears_what_the_treatment_hears_and_sees_its_volumes_in_another_order(study, files):
    dataset, used = LebelDataset(files.root, tiny.TR), np.arange(N_VOXELS) % 2 == 0
    common = CommonCortex(np.flatnonzero(used))
    seen = [responses_of(study, run, dataset, "harbour", common) for run in (TUNED, RANDOM)]
    (treated,), (control,) = seen
    with h5py.File(files.hf5("P1", "harbour")) as file:
        np.testing.assert_array_equal(treated, file["data"][:, used].astype(np.float32))
    origin = [int(np.flatnonzero((treated == row).all(axis=1))[0]) for row in control]
    assert sorted(origin) == list(range(N_ROWS))
    assert all(now != was for now, was in enumerate(origin))
    assert all((np.diff(origin[start : start + 4]) == 1).all() for start in range(0, N_ROWS, 4))
    (again,) = responses_of(study, RANDOM, dataset, "harbour", common)
    np.testing.assert_array_equal(again, control)
    measure_ceiling(study, "P1")
    material = [learning_material(study, run, dataset)[0]["harbour"] for run in (TUNED, RANDOM)]
    np.testing.assert_array_equal(material[0].audio, material[1].audio)
    np.testing.assert_array_equal(material[0].times, material[1].times)


def test_a_tuned_model_is_a_folder_that_transformers_loads_with_head_and_history(study):
    path = steps.tuned(study, TUNED)
    loaded, before = AutoModel.from_pretrained(path), AutoModel.from_pretrained(study.backbones["small"].name)
    changed = {n for n, p in loaded.state_dict().items() if not torch.equal(p, before.state_dict()[n])}
    assert any(name.startswith("encoder.layers") for name in changed)
    assert not any(name.startswith("feature_extractor") for name in changed)
    head, used = load_file(path / "head.safetensors"), used_voxels(study, "P1")
    np.testing.assert_array_equal(head["voxels"].numpy(), np.flatnonzero(used))
    assert head["weight"].shape == (used.sum(), 16) and head["bias"].shape == (used.sum(),)
    history = pd.read_csv(path / "history.csv")
    assert list(history["epoch"]) == [0, 1, 2] and np.isfinite(history[["train_loss", "validation_loss"]][1:]).all(
        axis=None
    )
    assert np.isnan(history["train_loss"][0])
    np.testing.assert_allclose(history["share_of_untuned"], history["validation_loss"] / history["validation_loss"][0])
    carried = provenance_of(path)
    assert carried["device"] == "cpu, float32" and carried["recipe"]["train"] == list(TRAIN)
    assert [p.name for p in path.parent.iterdir()] == [path.name], "a checkpoint or a half-written folder was left"


def test_a_whole_model_is_kept_and_a_half_written_one_is_tuned_again(study, monkeypatch):
    path = steps.tuned(study, TUNED)
    weights = (path / "model.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        forbid(patch, tune_step, "brain_tune")
        assert steps.tuned(study, TUNED) == path
    halve(path / "model.safetensors")
    (path / "provenance.json").unlink()
    steps.tuned(study, TUNED)
    assert (path / "model.safetensors").read_bytes() == weights


def test_a_killed_tuning_goes_on_where_it_was(study, monkeypatch):
    path = steps.tuned(study, TUNED)
    weights = (path / "model.safetensors").read_bytes()
    shutil.rmtree(path)

    def killed_in_second_epoch(line):
        if '"epoch": 2' in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), tiny.listening(killed_in_second_epoch):
        steps.tuned(study, TUNED)
    assert not path.exists()
    (path.parent / f".partial-0-{path.name}").mkdir()
    lines = []
    with tiny.listening(lines.append):
        steps.tuned(study, TUNED)
    assert lines[0] == "resumed after epoch 1"
    assert (path / "model.safetensors").read_bytes() == weights


def test_other_settings_tune_again(study, make_study):
    path = steps.tuned(study, TUNED)
    before = (path / "model.safetensors").read_bytes()
    steps.tuned(make_study({"tuning.seed": 5}), TUNED)
    assert (path / "model.safetensors").read_bytes() != before


def test_features_are_made_anew_when_rows_are_read_later_and_models_are_not(make_study):
    results = {}
    for offset in (0.0, 1.0):
        changed = make_study({"dataset.row_offset": offset})
        when = (steps.tuned(changed, TUNED) / "model.safetensors").stat().st_mtime_ns
        results[offset] = when, load_arrays(steps.extracted(changed, PRETRAINED))["winter"]
    (tuned, rows), (tuned_later, later_rows) = results[0.0], results[1.0]
    np.testing.assert_allclose(later_rows[:, :-1], rows[:, 1:], atol=1e-5)
    assert tuned == tuned_later


def test_models_are_made_anew_when_clips_end_earlier_and_features_are_not(make_study):
    results = {}
    for ends in (0.0, 1.0):
        changed = make_study({"tuning.clip_ends": ends})
        head = load_file(steps.tuned(changed, TUNED) / "head.safetensors")["weight"].numpy()
        results[ends] = head, steps.extracted(changed, PRETRAINED).stat().st_mtime_ns
    assert not np.array_equal(results[0.0][0], results[1.0][0])
    assert results[0.0][1] == results[1.0][1]


@pytest.mark.parametrize("row_offset", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("clip_ends", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("tr", ["2.0045", "1.49"])
def test_trap_a_clip_ends_as_far_into_its_volume_as_the_study_says_wherever_rows_are_read(
    make_study, tr, clip_ends, row_offset
):
    study = make_study({"dataset.tr": float(tr), "dataset.row_offset": row_offset, "tuning.clip_ends": clip_ends})
    measure_ceiling(study, "P1")
    treated, control = (learning_material(study, run, open_dataset(study))[0]["orchard"] for run in (TUNED, RANDOM))
    volumes = range(10, 10 + N_ROWS)
    exact = [(volume + Fraction(clip_ends)) * Fraction(tr) - Fraction("10.028") for volume in volumes]
    expected = [round(end * timing.SAMPLE_RATE) for end in exact]
    assert timing.to_samples(treated.times).tolist() == timing.to_samples(control.times).tolist() == expected


def test_another_tr_tunes_another_model(make_study):
    recipes = []
    for tr in (2.0, 1.99):
        study = make_study({"dataset.tr": tr})
        measure_ceiling(study, "P1")
        recipes.append(tuning_recipe(study, TUNED, open_dataset(study)))
    assert recipes[0]["clips"] != recipes[1]["clips"]


def test_presentations_are_those_of_the_story_that_the_noise_ceiling_is_measured_on(make_study, files):
    """A second validation story may have been presented once, and then has none."""
    study = make_study({"encoding.mask_from": "validation"})
    measure_ceiling(study, "P1")
    (whole,) = learning_material(study, TUNED, open_dataset(study))[1].values()
    assert whole.repeats[0].shape[0] == 4
    dataset, common = open_dataset(study), CommonCortex(np.arange(9))
    assert presentations(study, TUNED, dataset, "orchard", common) == ()


def test_another_text_model_in_the_same_folder_is_learnt_from_anew(make_study, tmp_path):
    folder = tiny.save_bert(tmp_path / "texts")
    changes = {"conditions": ["pretrained", "lm-tuned"], "controls": {"text_models": [str(folder)], "n_targets": 3}}
    run, recipes = Run("small", "lm-tuned"), []
    for name in ("model.safetensors", "tokenizer.json"):
        with open(folder / name, "ab") as file:
            file.write(b" ")
        study = make_study(changes)
        recipes.append(tuning_recipe(study, run, open_dataset(study)))
    assert recipes[0]["texts"] != recipes[1]["texts"]
    plain = make_study(changes | {"controls": {"text_models": ["glove-6b-50d"], "n_targets": 3}})
    assert "texts" not in tuning_recipe(plain, run, open_dataset(plain))
