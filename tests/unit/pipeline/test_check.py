import h5py
import numpy as np
import pytest
import tiny
from braintuning.datasets.lebel import LebelDataset
from braintuning.datasets.textgrid import Interval
from braintuning.demo.textgrid_writer import write_textgrid
from braintuning.pipeline import align as align_stage
from braintuning.pipeline import steps as stages
from braintuning.pipeline import tune as tune_stage
from braintuning.pipeline.check import check
from braintuning.results import load_arrays
from braintuning.study import Run, load_study
from safetensors.torch import load_file
from tiny import refused

BROKEN = {("harbour", "data"): 2, ("winter", "individual_repeats"): 4, ("kitchen", "data"): 7}


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pristine")
    tiny.encoder("hubert").save_pretrained(folder / "backbone")
    tiny.encoder("whisper").save_pretrained(folder / "whisper")
    return tiny.write_dataset(folder / "ds")


@pytest.fixture
def files(tmp_path, pristine):
    return tiny.copy_dataset(pristine, tmp_path / "ds")


@pytest.fixture
def make_study(tmp_path, files, pristine, monkeypatch):
    """Load the tiny study with dotted keys changed."""
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(LebelDataset, "cortex", lambda *_: tiny.cortex())

    def make(changes=None):
        content = tiny.study_content(files.root, pristine.root.parent / "backbone")
        for dotted, value in (changes or {}).items():
            section, *parents, key = content, *dotted.split(".")
            for parent in parents:
                section = section.setdefault(parent, {})
            section[key] = value
        return load_study(tiny.write_yaml(tmp_path / "tiny.yaml", content))

    return make


def spoil(files):
    """One voxel of three files becomes NaN at one time, or stays at nought."""
    for number, ((story, name), voxel) in enumerate(BROKEN.items()):
        with h5py.File(files.hf5("P1", story), "r+") as file:
            if number:
                file[name][..., 3, voxel] = np.nan
            else:
                file[name][..., voxel] = 0


def test_broken_voxels_are_reported_masked_everywhere_and_stop_nothing(make_study, files):
    study = make_study()
    whole = load_arrays(stages.measure_ceiling(study, "P1"))["ceiling"]
    assert (whole[list(BROKEN.values())] > 0.4).all()
    spoil(files)
    lines = []
    with tiny.listening(lines.append):
        check(study)
    assert len([line for line in lines if "1 of 30 voxels are NaN or constant" in line]) == 2
    stored = load_arrays(stages.measure_ceiling(study, "P1"))
    assert np.flatnonzero(stored["broken"]).tolist() == sorted(BROKEN.values())
    np.testing.assert_allclose(stored["ceiling"], np.where(stored["broken"], np.nan, whole), rtol=1e-6)
    scores = load_arrays(align_stage.align(study, "P1", Run("small", "pretrained")))
    assert np.isnan(scores["r"][:, stored["broken"]]).all()
    assert np.isfinite(scores["r"][:, stages.used_voxels(study, "P1")]).all()
    model = tune_stage.tune_model(study, Run("small", "brain-tuned", "P1"))
    head = load_file(model / "head.safetensors")
    assert not set(head["voxels"].tolist()) & set(BROKEN.values())
    assert all(np.isfinite(array.numpy()).all() for array in head.values())


def test_responses_that_are_not_the_mean_of_their_repeats_are_refused(make_study, files):
    repeats = tiny.planted_repeats(np.random.default_rng(5))
    mean = repeats.mean(axis=0)
    files.write_responses("P2", "winter", (mean - mean.mean(axis=0)) / mean.std(axis=0), repeats)
    check(make_study())
    files.write_responses("P2", "winter", np.roll(mean, 1, axis=0), repeats)
    refused(lambda: check(make_study()), files.hf5("P2", "winter"), "the 4 repeats", "at least 0.9")


def test_one_presentation_gives_no_ceiling(make_study, files):
    repeats = tiny.planted_repeats(np.random.default_rng(5), n_repeats=1)
    files.write_responses("P2", "winter", repeats[0], repeats)
    refused(lambda: check(make_study()), files.hf5("P2", "winter"), "found 1 presentation", "at least 2")


SILENCES = ("sp", "sil", "SIL", "SP", "{NS}", "{LG}", "{BR}", "{CG}", "{SL}", "ns", "br", "lg", "cg", "")


def write_phones(files, story, labels):
    words = [Interval("and", float(s), s + 0.5) for s in range(1, 58)]
    phones = [Interval(label, s + 1.0, s + 1.5) for s, label in enumerate(labels)]
    write_textgrid(files.grid(story), {"phone": phones, "word": words}, tiny.SECONDS)


def test_silences_stress_and_lower_case_are_phones_that_figure_3_takes(make_study, files):
    write_phones(files, "orchard", [*SILENCES, "AH0", "ah1", "t", "ER2", "iy"])
    check(make_study({"figures.notebooks": ["fig3"]}))
    assert len(LebelDataset(files.root, tiny.TR).phones("orchard")) == 5


def test_an_unknown_phone_is_named_with_its_story_and_time_before_anything_is_tuned(make_study, files):
    write_phones(files, "orchard", ["AH0", "T", "TSH"])
    study = make_study({"figures.notebooks": ["fig2", "fig3"]})
    refused(lambda: check(study), "story orchard", "at 3.00 s", "'TSH'", "39 ARPAbet")
    check(make_study())


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"figures.layer": 40}, ("small has no layer 40 of `figures: layer`", "expected -3 to 2")),
        ({"figures.layer": -4}, ("no layer -4", "expected -3 to 2")),
        ({"low_level.layers": [0, 3]}, ("no layer 3 of `low_level: layers`", "expected -3 to 2")),
        (
            {"features.window_seconds": 0.01, "features.step_seconds": 0.01},
            ("`features: window_seconds`", "too short for one frame"),
        ),
        ({"tuning.clip_seconds": 0.01}, ("`clip_seconds of brain-tuned`", "too short for one frame")),
        ({"probes.corpora": {"phonemes": "nowhere/TIMIT"}}, ("nowhere/TIMIT", "'phonemes'", "no such folder")),
        ({"conditions": ["pretrained", "lm-tuned"], "controls.text_models": ["/no/gpt"]}, ("/no/gpt", "cannot be")),
        (
            {"conditions": ["pretrained", "bigslm-tuned"], "backbones.small.teacher": "/no/big"},
            ("/no/big", "no folder"),
        ),
    ],
)
def test_what_a_study_says_and_no_model_or_folder_has_is_found_before_any_response_is_read(
    make_study, monkeypatch, changes, parts
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(LebelDataset, "check", lambda *_: pytest.fail("responses were read first"))
    refused(lambda: check(make_study(changes)), *parts)


def test_layers_that_every_model_has_pass(make_study):
    for layer in (-3, 2):
        check(make_study({"figures.layer": layer}))


def test_a_window_longer_than_whisper_hears_is_refused(make_study, pristine):
    changes = {"backbones.small.name": str(pristine.root.parent / "whisper"), "features.window_seconds": 5.0}
    refused(lambda: check(make_study(changes)), "`features: window_seconds`", "5.00 s", "at most 4 s")
