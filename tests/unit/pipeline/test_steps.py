import shutil

import pytest
import torch
from braintuning.datasets import open_dataset
from braintuning.pipeline import align as align_step
from braintuning.pipeline import extract as extract_step
from braintuning.pipeline import tune as tune_step
from braintuning.pipeline.align import align
from braintuning.pipeline.ceiling import measure_ceiling
from braintuning.pipeline.extract import extract_layers
from braintuning.pipeline.probe import store_of
from braintuning.pipeline.steps import load_encoder, model_recipe, require_device
from braintuning.pipeline.tune import tune_model, tuning_recipe
from braintuning.study import Run
from tiny import forbid, refused

PRETRAINED = Run("small", "pretrained")
TUNED = Run("small", "brain-tuned", "P1")
RANDOM = Run("small", "random-brain-tuned", "P1")


@pytest.mark.parametrize("stage", ["tune", "extract", "align"])
def test_cuda_without_a_gpu_is_refused_before_anything_is_read(study, monkeypatch, stage):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for module in (tune_step, extract_step, align_step):
        forbid(monkeypatch, module, "open_dataset")
    calls = {
        "tune": lambda: tune_model(study, TUNED, "cuda"),
        "extract": lambda: extract_layers(study, [PRETRAINED], "cuda"),
        "align": lambda: align(study, "P1", PRETRAINED, "cuda"),
    }
    refused(calls[stage], "found no CUDA GPU", "expected", "cpu")


def test_devices_are_cpu_and_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [require_device(name) for name in ("cpu", "cuda")] == ["cpu", "cuda"]
    refused(lambda: require_device("gpu"), "found 'gpu'", "expected 'cpu' or 'cuda'")


def test_a_model_that_was_not_tuned_is_named(study):
    refused(lambda: load_encoder(study, TUNED), study.model_folder(TUNED), "not there", "expected")


def test_other_weights_in_the_same_folder_make_other_results(make_study, pristine, tmp_path):
    folder = shutil.copytree(pristine.root.parent / "backbone", tmp_path / "backbone")
    study = make_study({"backbones.small.name": str(folder)})
    dataset = open_dataset(study)
    measure_ceiling(study, "P1")
    before = tuning_recipe(study, TUNED, dataset), model_recipe(study, TUNED)
    weights = folder / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    after = tuning_recipe(study, TUNED, dataset), model_recipe(study, TUNED)
    weights.write_bytes(kept)
    assert [a != b for a, b in zip(after, before, strict=True)] == [True, True]
    assert tuning_recipe(study, TUNED, dataset) == before[0]


def test_a_model_tuned_anew_to_other_weights_makes_other_results_and_other_activations(study):
    measure_ceiling(study, "P1")
    weights = tune_model(study, TUNED) / "model.safetensors"
    before, states = model_recipe(study, TUNED), store_of(study, TUNED, "phonemes").file("mean", [], "cpu")
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    assert model_recipe(study, TUNED) != before
    assert store_of(study, TUNED, "phonemes").file("mean", [], "cpu") != states
    weights.write_bytes(kept)
    assert model_recipe(study, TUNED) == before
