"""Steps on people who listened to one recording or another, of parcellated responses."""

import shutil

import numpy as np
import pandas as pd
import pytest
import tiny
from braintuning.alignment.ceiling import leave_one_out_correlation, split_half_ceiling
from braintuning.alignment.encoding import correlation_in_folds, predict_folds
from braintuning.cli import listeners, main
from braintuning.datasets import open_dataset
from braintuning.datasets.recording import filtered
from braintuning.figures.real_brains import COLUMNS, gather
from braintuning.pipeline import check as check_stage
from braintuning.pipeline import recipes
from braintuning.pipeline.align import align, align_nuisance
from braintuning.pipeline.ceiling import measure_ceiling
from braintuning.pipeline.extract import extract_layers
from braintuning.pipeline.steps import features_of
from braintuning.pipeline.tune import _of_clips, learning_material, responses_of, tune_model
from braintuning.results import load_arrays
from braintuning.study import Run, load_study
from braintuning.study.recordings import Filter
from braintuning.timing import SAMPLE_RATE
from safetensors.torch import load_file
from tiny import refused
from tiny_people import PEOPLE, TR, content, courses

PRETRAINED, TUNED, PERMUTED = (
    Run("small", condition) for condition in ("pretrained", "multi-brain-tuned", "multi-random-brain-tuned")
)
TOGETHER, HELD_OUT = PEOPLE["pie"][:3], PEOPLE["pie"][3:]


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbone")
    tiny.encoder("hubert").save_pretrained(folder)
    return folder


@pytest.fixture
def make(tmp_path, monkeypatch, backbone, recordings):
    """A study whose responses and settings can be changed."""

    def study_with(name, change=lambda participant, values: values, **settings):
        root = shutil.copytree(recordings, tmp_path / name)
        for recording in PEOPLE:
            for seed, participant in enumerate(PEOPLE[recording]):
                values = change(participant, courses(recording, seed))
                np.save(root / recording / "responses" / f"{participant}.npy", values)
        monkeypatch.setenv("BRAINTUNING_RESULTS", str(root / "results"))
        made = content(root, backbone)
        for key, value in settings.items():
            made[key] = {**made[key], **value} if isinstance(value, dict) else value
        return load_study(tiny.write_yaml(tmp_path / f"{name}.yaml", made))

    return study_with


def tuned(study, run):
    for participant in study.tuned_together:
        measure_ceiling(study, participant)
    folder = tune_model(study, run)
    files = [load_file(folder / f"{file}.safetensors") for file in ("model", "head")]
    return {name: tensor.numpy() for file in files for name, tensor in file.items()}


def same(a, b):
    return a.keys() == b.keys() and all((a[name] == b[name]).all() for name in a)


def test_the_study_is_checked_and_every_step_runs(make):
    study = make("whole")
    lines = []
    with tiny.listening(lines.append):
        check_stage.check(study)
    tuned(study, TUNED)
    for listener in study.listeners:
        measure_ceiling(study, listener)
        align_nuisance(study, listener)
    for run in (PRETRAINED, TUNED):
        extract_layers(study, [run])
        for listener in study.listeners:
            align(study, listener, run)
    study = study.model_copy(update={"conditions": ("pretrained", "multi-brain-tuned")})
    dataset = open_dataset(study)
    table, means = gather(study, dataset), gather(study, dataset, means=True)
    assert tuple(table) == tuple(means) == COLUMNS
    n_used = {p: np.isfinite(load_arrays(study.ceiling_file(p))["ceiling"]).sum() for p in study.listeners}
    assert table.groupby("participant").size().to_dict() == {p: 2 * n_used[p] for p in study.participants}
    assert means.groupby("participant").size().to_dict() == {p: 2 * 3 * n_used[p] for p in study.groups}
    assert table["score"].between(-1, 1).all() and set(table["layer"]) == {2} and set(means["layer"]) == {0, 1, 2}
    assert set(table[table["story"] == "tale"]["participant"]) == set(PEOPLE["tale"])
    one = table[(table["participant"] == "s2") & (table["condition"] == "multi-brain-tuned")]
    stored = load_arrays(study.scores_file("s2", TUNED))["r"][2]
    np.testing.assert_allclose(one["score"], stored[np.isfinite(stored)])
    assert pd.read_csv(study.scores_file("s2", TUNED).with_suffix(".csv"))["n_voxels"].eq(0).all()


def test_ceilings_are_of_people_of_one_side_in_one_story(make):
    study = make("ceilings")
    dataset = open_dataset(study)
    for people, story in ((TOGETHER, "pie-1"), (HELD_OUT, "pie-1"), (PEOPLE["tale"], "tale")):
        responses = np.stack([dataset.responses(person, story) for person in people])
        expected = leave_one_out_correlation(responses)
        for number, person in enumerate(people):
            found = load_arrays(measure_ceiling(study, person))
            np.testing.assert_allclose(found["own"], expected[number], atol=1e-6)
            mean = expected.mean(axis=0)
            np.testing.assert_allclose(found["ceiling"], np.where(mean > 0, mean, np.nan), atol=1e-6)
    responses = np.stack([dataset.responses(person, "tale") for person in PEOPLE["tale"]])
    group = load_arrays(measure_ceiling(study, "group-tale"))
    expected = split_half_ceiling(responses, np.random.default_rng(1), 200)
    np.testing.assert_allclose(group["ceiling"], expected, atol=0.05)
    assert "own" not in group


def test_ceilings_and_models_are_made_again_where_other_rows_lie_in_a_part(make):
    study = make("offset")
    before = load_arrays(measure_ceiling(study, "sub-04"))["ceiling"]
    moved = study.model_copy(update={"dataset": study.dataset.model_copy(update={"row_offset": 1.0})})
    responses = np.stack([open_dataset(moved).responses(person, "pie-1") for person in HELD_OUT])
    assert responses.shape[1] == 79 == len(open_dataset(study).responses("sub-04", "pie-1")) - 1
    expected = leave_one_out_correlation(responses).mean(axis=0)
    found = load_arrays(measure_ceiling(moved, "sub-04"))["ceiling"]
    np.testing.assert_allclose(found, np.where(expected > 0, expected, np.nan), atol=1e-6)
    assert not np.allclose(found, before, equal_nan=True)
    for recipe in (lambda s: recipes.ceiling(s, "sub-04"), lambda s: recipes.tune(s, TUNED)):
        assert recipe(moved).fingerprint != recipe(study).fingerprint


def test_the_command_line_does_a_step_for_many_people(make, capsys):
    study = make("many")
    assert listeners(study, "tuned") == TOGETHER
    assert listeners(study, "held-out") == (*PEOPLE["tale"], *HELD_OUT, "group-pie", "group-tale")
    assert listeners(study, "everyone") == study.listeners and listeners(study, "sub-01") == ()
    assert main(["ceiling", "--study", str(study.source[0]), "--participant", "tuned"]) == 0
    assert sorted(path.stem for path in study.ceiling_file("x").parent.glob("*.h5")) == sorted(TOGETHER)
    assert main(["ceiling", "--study", str(study.source[0]), "--participant", "tunde"]) == 1
    assert "unknown participant 'tunde'" in capsys.readouterr().err


def test_a_person_alone_has_no_ceiling_in_one_sentence(make):
    study = make("alone", participants=["sub-01", "sub-02", "sub-03", "s1"])
    for step in (lambda: check_stage.check(study), lambda: measure_ceiling(study, "s1")):
        refused(step, "s1.npy", "no other participant who heard tale", "noise ceiling", "tuned_together: all")


def test_regions_that_lie_nowhere_are_refused_before_figures_that_need_them(make):
    check_stage.check(make("unmapped", figures={"notebooks": ["real_brains"]}))
    study = make("mapped", figures={"notebooks": ["fig2"]})
    refused(lambda: check_stage.check(study), "none of the 6 voxels of s1", "fig2", "atlas")


def test_a_participant_without_training_stories_is_predicted_in_folds_with_a_gap(make):
    how = {"high_pass": 0.02, "low_pass": 0.1}
    base = content("x", "y")["dataset"]["recordings"]
    study = make("folds", dataset={"recordings": {**base, "tale": {**base["tale"], "filter": how}}})
    dataset = open_dataset(study)
    extract_layers(study, [PRETRAINED])
    measure_ceiling(study, "s1")
    found = load_arrays(align(study, "s1", PRETRAINED))
    used = np.isfinite(found["ceiling"]) & (np.nan_to_num(found["ceiling"]) > 0.05)
    y = dataset.responses("s1", "tale")[:, used]
    features = features_of(study, dataset, PRETRAINED, "s1")["tale"]
    gap = 2 + 5  # delays, and 10 s of a low pass at .1 Hz
    expected = [correlation_in_folds(p, y, 3) for p in predict_folds(features, y, study.encoding, gap)]
    np.testing.assert_allclose(found["r"][:, used], expected, atol=1e-5)
    assert found["predicted"].shape == y.shape
    other = [correlation_in_folds(p, y, 3) for p in predict_folds(features, y, study.encoding, 2)]
    assert np.abs(np.array(other) - expected).max() > 1e-3
    plain = make("plain")
    extract_layers(plain, [PRETRAINED])
    raw = features_of(plain, open_dataset(plain), PRETRAINED, "s1")["tale"]
    by_hand = filtered(raw[1], TR["tale"], Filter(**how))
    np.testing.assert_allclose(features[1], by_hand, atol=1e-4 * np.abs(by_hand).max())


def test_parts_of_a_recording_are_read_in_one_pass_and_at_their_own_times(make, monkeypatch):
    study = make("parts")
    dataset, passes = open_dataset(study), []
    from braintuning.pipeline import extract

    read = extract.tokens
    monkeypatch.setattr(extract, "tokens", lambda e, sounds, *a: passes.append(len(sounds)) or read(e, sounds, *a))
    found = load_arrays(extract_layers(study, [PRETRAINED])[0])
    assert passes == [2] and set(found) == {"pie-1", "pie-3", "tale"}
    assert found["pie-3"].shape[1] == 2 + len(dataset.tr_times("sub-01", "pie-3")) == 2 + 40
    measure_ceiling(study, "sub-04")
    table = pd.read_csv(align(study, "sub-04", PRETRAINED, first=1).with_suffix(".csv"))
    np.testing.assert_allclose(table["hours"], 120 / 3600, rtol=1e-5)
    assert table["n_stories"].eq(1).all()


def test_an_objective_is_fitted_to_the_part_that_tunes_and_not_to_the_one_that_is_tested(make):
    study = make("objective", conditions=["pretrained", "stimulus-tuned"])
    dataset = open_dataset(study)
    train, _ = learning_material(study, Run("small", "stimulus-tuned"), dataset)
    heard = _of_clips(study, train["pie-1"], study.tuning.clip_seconds)
    np.testing.assert_array_equal(heard, dataset.audio("pie-1")[: 120 * SAMPLE_RATE])
    assert len(dataset.audio("pie-1")) == 240 * SAMPLE_RATE


def test_the_mean_over_people_is_what_a_joint_model_learns_from(make):
    study = make("mean")
    dataset = open_dataset(study)
    common = type("Common", (), {"responses": staticmethod(lambda d, p, s: d.responses(p, s))})
    (found,) = responses_of(study, TUNED, dataset, "pie-1", common)
    np.testing.assert_allclose(found, np.mean([dataset.responses(p, "pie-1") for p in TOGETHER], axis=0), atol=1e-6)
    (moved,) = responses_of(study, PERMUTED, dataset, "pie-1", common)
    assert not np.allclose(moved, found)
    np.testing.assert_allclose(np.sort(moved, axis=0), np.sort(found, axis=0))
    each = study.model_copy(update={"joint_responses": "each"})
    assert len(responses_of(each, TUNED, dataset, "pie-1", common)) == 3


def test_neither_people_held_out_nor_the_tested_minutes_reach_the_joint_model(make):
    times = (np.arange(160) + 0.5) * TR["pie"]

    def unseen_changed(participant, values):
        if participant in TOGETHER:
            values[times > 165] += 50 * np.random.default_rng(8).standard_normal(values[times > 165].shape)
        return values if participant in TOGETHER else values[::-1]

    def one_tuned_changed(participant, values):
        return values[::-1] if participant == TOGETHER[1] else values

    plain = tuned(make("plain"), TUNED)
    assert same(plain, tuned(make("unseen", unseen_changed), TUNED))
    assert not same(plain, tuned(make("seen", one_tuned_changed), TUNED))


def test_files_of_new_people_run_unchanged_and_tune_nothing_anew(make, tmp_path):
    study = make("more")
    tuned(study, TUNED)
    made = (study.model_folder(TUNED) / "provenance.json").stat().st_mtime_ns
    for number in range(20):
        np.save(tmp_path / "more" / "pie" / "responses" / f"sub-9{number:02d}.npy", courses("pie", 50 + number))
    again = load_study(tmp_path / "more.yaml")
    assert len(again.held_out) == len(study.held_out) + 20 and again.tuned_together == study.tuned_together
    check_stage.check(again)
    tuned(again, TUNED)
    assert (again.model_folder(TUNED) / "provenance.json").stat().st_mtime_ns == made
    extract_layers(again, [PRETRAINED])
    for listener in ("sub-900", "group-pie"):
        measure_ceiling(again, listener)
        assert np.isfinite(load_arrays(align(again, listener, PRETRAINED))["r"]).any()
