import json
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
import tiny
import torch
from braintuning.alignment.encoding import design_matrix, region_table
from braintuning.alignment.features import story_features
from braintuning.cortex import regions as rois
from braintuning.datasets.lebel import LebelDataset
from braintuning.demo import dataset as simulated_dataset
from braintuning.pipeline import align as align_stage
from braintuning.pipeline import check as check_stage
from braintuning.pipeline import steps as stages
from braintuning.pipeline import tune as tune_stage
from braintuning.results import load_arrays, provenance_of
from braintuning.study import Run, load_study
from braintuning.tuning.joint import CommonCortex
from safetensors.torch import load_file
from tiny import N_ROWS, N_VOXELS, TEST, TRAIN, VALIDATION, refused
from transformers import AutoModel

PRETRAINED = Run("small", "pretrained")
TUNED = Run("small", "brain-tuned", "P1")
RANDOM = Run("small", "random-brain-tuned", "P1")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pristine")
    tiny.encoder("hubert").save_pretrained(folder / "backbone")
    return tiny.write_dataset(folder / "ds")


@pytest.fixture
def files(tmp_path, pristine):
    return tiny.copy_dataset(pristine, tmp_path / "ds")


@pytest.fixture(autouse=True)
def kept_in_tmp(tmp_path, monkeypatch):
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("BRAINTUNING_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setattr(LebelDataset, "cortex", lambda *_: tiny.cortex())


@pytest.fixture
def make_study(tmp_path, files, pristine):
    """Load the tiny study with dotted keys changed."""

    def make(changes=None):
        content = tiny.study_content(files.root, pristine.root.parent / "backbone")
        for dotted, value in (changes or {}).items():
            section, *parents, key = content, *dotted.split(".")
            for parent in parents:
                section = section[parent]
            section[key] = value
        return load_study(tiny.write_yaml(tmp_path / "tiny.yaml", content))

    return make


@pytest.fixture
def study(make_study):
    return make_study()


def forbid(monkeypatch, *names):
    for name in names:
        for module in (stages, tune_stage, align_stage):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, lambda *_, name=name, **__: pytest.fail(f"{name} ran"))


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def test_check_reads_a_good_dataset_and_writes_no_result(study):
    assert check_stage.check(study).participants == ("P1", "P2")
    assert not study.results.exists()


def test_check_names_an_unknown_participant(make_study):
    refused(lambda: check_stage.check(make_study({"participants": ["P1", "P7"]})), "P7", "P1, P2")


def test_check_reads_all_that_the_study_uses_and_nothing_else(study, make_study, files):
    files.wav("orchard").unlink()
    refused(lambda: check_stage.check(study), files.wav("orchard"))
    check_stage.check(make_study({"stories.train": ["harbour", "winter"], "stories.test": ["kitchen"],
                             "stories.validation": [], "conditions": ["pretrained"]}))  # fmt: skip


def test_check_finds_a_test_story_without_repeats(make_study, files):
    changes = {"stories.test": ["orchard"], "stories.train": ["harbour", "winter"]}
    refused(lambda: check_stage.check(make_study(changes)), files.hf5("P1", "orchard"), "individual_repeats")


@pytest.mark.parametrize(
    ("key", "rows", "of"),
    [("permutation_block_rows", N_ROWS - 2, "test"), ("validation_chunk_rows", 2 * N_ROWS, "training")],
)
def test_check_finds_stories_too_short_for_two_blocks(make_study, key, rows, of):
    check_stage.check(make_study({f"encoding.{key}": rows // 2}))
    changed = make_study({f"encoding.{key}": rows // 2 + 1})
    refused(lambda: check_stage.check(changed), f"{rows} rows in the {of} stories of P1", f"twice `{key}`")


def test_check_finds_a_backbone_of_another_architecture(make_study, tmp_path):
    bert = tiny.save_bert(tmp_path / "bert")
    refused(lambda: check_stage.check(make_study({"backbones.small.name": str(bert)})), bert, "bert", "expected")


@pytest.mark.parametrize("stage", ["tune", "extract", "align"])
def test_cuda_without_a_gpu_is_refused_before_anything_is_read(study, monkeypatch, stage):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    forbid(monkeypatch, "prepare")
    calls = {
        "tune": lambda: tune_stage.tune_model(study, TUNED, "cuda"),
        "extract": lambda: stages.extract_features(study, PRETRAINED, "cuda"),
        "align": lambda: align_stage.align(study, "P1", PRETRAINED, "cuda"),
    }
    refused(calls[stage], "found no CUDA GPU", "expected", "cpu")


def test_devices_are_cpu_and_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [stages.require_device(name) for name in ("cpu", "cuda")] == ["cpu", "cuda"]
    refused(lambda: stages.require_device("gpu"), "found 'gpu'", "expected 'cpu' or 'cuda'")


@pytest.mark.parametrize("stage", ["tune", "extract"])
def test_a_model_of_another_architecture_is_refused_and_leaves_no_result(make_study, tmp_path, stage):
    bert = tiny.save_bert(tmp_path / "bert")
    study = make_study({"backbones.small.name": str(bert)})
    calls = {
        "tune": lambda: tune_stage.tune_model(study, TUNED),
        "extract": lambda: stages.extract_features(study, PRETRAINED),
    }
    refused(calls[stage], bert, "type 'bert'", "expected one of wav2vec2, hubert")
    assert not study.model_folder(TUNED).exists() and not study.features_file(PRETRAINED).exists()


SIMULATION = {"seed": 1, "repeats": 3, "meaning_components": 2}


def test_simulated_listeners_are_made_once_and_again_when_the_study_says_otherwise(make_study, files, monkeypatch):
    made = []

    def write(root, participants, stories, repeated, tr, settings):
        made.append((root, participants, stories, repeated, tr, settings.seed))
        wanted = {"participants": participants, "stories": stories, "tr": tr, "settings": settings.model_dump()}
        (root / "simulation.json").write_text(json.dumps(wanted))

    monkeypatch.setattr(simulated_dataset, "write_dataset", write)
    study = make_study({"dataset.simulation": SIMULATION})
    for _ in range(2):
        stages.prepare(study)
    assert made == [(files.root, tiny.PARTICIPANTS, tiny.STORIES, TEST, tiny.TR, 1)]
    stages.prepare(make_study({"dataset.simulation": {**SIMULATION, "seed": 2}}))
    assert made[1][-1] == 2 and len(made) == 2


def test_no_room_on_the_disk_is_known_before_anything_is_spoken(make_study, tmp_path, monkeypatch):
    monkeypatch.setattr(simulated_dataset, "story_text", lambda *_: "Some words.")
    monkeypatch.setattr(simulated_dataset, "speak", lambda *_, **__: pytest.fail("spoke"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12 - 10**8, 10**8))
    root = tmp_path / "new" / "simulated"
    study = make_study({"dataset.simulation": SIMULATION, "dataset.root": str(root)})
    refused(lambda: stages.prepare(study), root, "0.1 GB free", "needed")
    assert not root.parent.exists()


def ceiling_by_hand(repeats):
    """Signal power by the mean covariance of all pairs of repeats, over the variance of their mean."""
    n = len(repeats)
    expected = np.full(repeats.shape[2], np.nan)
    for voxel in range(repeats.shape[2]):
        covariance = np.cov(repeats[:, :, voxel])
        power = (covariance.sum() - np.trace(covariance)) / (n * (n - 1))
        if power > 0:
            expected[voxel] = min(np.sqrt(power / np.var(repeats[:, :, voxel].mean(axis=0), ddof=1)), 1)
    return expected


@pytest.mark.parametrize(("mask_from", "story", "skipped"), [("test", "winter", 2), ("validation", "kitchen", 0)])
def test_ceiling_comes_from_the_rows_of_the_story_that_are_scored(make_study, files, mask_from, story, skipped):
    study = make_study({"encoding.mask_from": mask_from})
    found = load_arrays(stages.measure_ceiling(study, "P2"))["ceiling"]
    with h5py.File(files.hf5("P2", story)) as file:
        expected = ceiling_by_hand(file["individual_repeats"][:, skipped:].astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_array_equal(stages.used_voxels(study, "P2"), np.nan_to_num(expected) > 0.4)


def test_no_voxel_above_the_threshold_is_refused(study, files, monkeypatch):
    noise = np.random.default_rng(0).standard_normal((4, N_ROWS, N_VOXELS))
    noise -= noise.mean(axis=0) * (1 - 1e-3)
    files.write_responses("P1", "winter", np.random.default_rng(1).standard_normal((N_ROWS, N_VOXELS)), noise)
    path = stages.measure_ceiling(study, "P1")
    refused(lambda: stages.used_voxels(study, "P1"), path, "no voxel", "0.4")


def test_a_ceiling_is_measured_again_only_when_it_is_not_whole_or_its_input_changed(study, files, monkeypatch):
    path = stages.measure_ceiling(study, "P1")
    whole, made = path.read_bytes(), path.stat().st_mtime_ns
    stages.measure_ceiling(study, "P1")
    assert path.stat().st_mtime_ns == made
    halve(path)
    stages.measure_ceiling(study, "P1")
    assert load_arrays(path)["ceiling"].shape == (N_VOXELS,) and path.stat().st_size == len(whole)
    before = load_arrays(path)["ceiling"]
    repeats = tiny.planted_repeats(np.random.default_rng(99))
    files.write_responses("P1", "winter", repeats.mean(axis=0), repeats)
    assert not np.allclose(load_arrays(stages.measure_ceiling(study, "P1"))["ceiling"], before, equal_nan=True)


def test_control_hears_what_the_treatment_hears_and_sees_its_volumes_in_another_order(study, files):
    dataset, used = LebelDataset(files.root, tiny.TR), np.arange(N_VOXELS) % 2 == 0
    common = CommonCortex(np.flatnonzero(used))
    seen = [tune_stage.responses_of(study, run, dataset, "harbour", common) for run in (TUNED, RANDOM)]
    (treated,), (control,) = seen
    with h5py.File(files.hf5("P1", "harbour")) as file:
        np.testing.assert_array_equal(treated, file["data"][:, used].astype(np.float32))
    origin = [int(np.flatnonzero((treated == row).all(axis=1))[0]) for row in control]
    assert sorted(origin) == list(range(N_ROWS))
    assert all(now != was for now, was in enumerate(origin))
    assert all((np.diff(origin[start : start + 4]) == 1).all() for start in range(0, N_ROWS, 4))
    (again,) = tune_stage.responses_of(study, RANDOM, dataset, "harbour", common)
    np.testing.assert_array_equal(again, control)
    stages.measure_ceiling(study, "P1")
    material = [tune_stage.learning_material(study, run, dataset)[0]["harbour"] for run in (TUNED, RANDOM)]
    np.testing.assert_array_equal(material[0].audio, material[1].audio)
    np.testing.assert_array_equal(material[0].times, material[1].times)


def test_a_tuned_model_is_a_folder_that_transformers_loads_with_head_and_history(study):
    path = tune_stage.tune_model(study, TUNED)
    loaded, before = AutoModel.from_pretrained(path), AutoModel.from_pretrained(study.backbones["small"].name)
    changed = {n for n, p in loaded.state_dict().items() if not torch.equal(p, before.state_dict()[n])}
    assert any(name.startswith("encoder.layers") for name in changed)
    assert not any(name.startswith("feature_extractor") for name in changed)
    head, used = load_file(path / "head.safetensors"), stages.used_voxels(study, "P1")
    np.testing.assert_array_equal(head["voxels"].numpy(), np.flatnonzero(used))
    assert head["weight"].shape == (used.sum(), 16) and head["bias"].shape == (used.sum(),)
    history = pd.read_csv(path / "history.csv")
    assert list(history["epoch"]) == [1, 2] and np.isfinite(history).all(axis=None)
    carried = provenance_of(path)
    assert carried["device"] == "cpu, float32" and carried["recipe"]["train"] == list(TRAIN)
    assert [p.name for p in path.parent.iterdir()] == [path.name], "a checkpoint or a half-written folder was left"


def test_a_whole_model_is_kept_and_a_half_written_one_is_tuned_again(study, monkeypatch):
    path = tune_stage.tune_model(study, TUNED)
    weights = (path / "model.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        forbid(patch, "tune")
        assert tune_stage.tune_model(study, TUNED) == path
    halve(path / "model.safetensors")
    (path / "provenance.json").unlink()
    tune_stage.tune_model(study, TUNED)
    assert (path / "model.safetensors").read_bytes() == weights


def test_a_killed_tuning_goes_on_where_it_was(study, monkeypatch):
    path = tune_stage.tune_model(study, TUNED)
    weights = (path / "model.safetensors").read_bytes()
    shutil.rmtree(path)

    def killed_in_second_epoch(line):
        if '"epoch": 2' in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), tiny.listening(killed_in_second_epoch):
        tune_stage.tune_model(study, TUNED)
    assert not path.exists()
    (path.parent / f".partial-0-{path.name}").mkdir()
    lines = []
    with tiny.listening(lines.append):
        tune_stage.tune_model(study, TUNED)
    assert lines[0] == "resumed after epoch 1"
    assert (path / "model.safetensors").read_bytes() == weights


def test_other_settings_tune_again(study, make_study):
    path = tune_stage.tune_model(study, TUNED)
    before = (path / "model.safetensors").read_bytes()
    tune_stage.tune_model(make_study({"tuning.seed": 5}), TUNED)
    assert (path / "model.safetensors").read_bytes() != before


def test_a_model_that_was_not_tuned_is_named(study):
    refused(lambda: stages.load_model(study, TUNED), study.model_folder(TUNED), "not been tuned", "expected")


def test_features_start_as_many_rows_early_as_the_longest_delay(study, files):
    found = load_arrays(stages.extract_features(study, PRETRAINED))
    assert set(found) == {*TRAIN, *TEST}
    dataset, encoder = LebelDataset(files.root, tiny.TR), stages.load_model(study, PRETRAINED)
    for story in found:
        assert found[story].shape == (3, 2 + N_ROWS, 16) and found[story].dtype == np.float32
        times = np.array([(i + 10) * 2.0 - 10 for i in range(-2, N_ROWS)])
        ((expected,),) = story_features([encoder], [dataset.audio(story)], [times], tiny.TR, study.features)
        np.testing.assert_allclose(found[story], expected, atol=1e-5)


def test_features_of_a_tuned_model_are_read_from_the_tuned_model(study):
    tune_stage.tune_model(study, TUNED)
    tuned = load_arrays(stages.extract_features(study, TUNED))
    before = load_arrays(stages.extract_features(study, PRETRAINED))
    assert np.abs(tuned["winter"][-1] - before["winter"][-1]).max() > 1e-4
    for run in (TUNED, PRETRAINED):
        assert provenance_of(study.features_file(run))["weights"] == str(
            stages.load_model(study, PRETRAINED).weights_from
        )


def test_features_are_kept_when_whole_and_read_again_when_half_written(study, monkeypatch):
    path = stages.extract_features(study, PRETRAINED)
    whole = load_arrays(path)
    with monkeypatch.context() as patch:
        forbid(patch, "story_features")
        stages.extract_features(study, PRETRAINED)
    halve(path)
    stages.extract_features(study, PRETRAINED)
    assert all(np.array_equal(whole[story], again) for story, again in load_arrays(path).items())


def test_features_are_read_again_when_the_model_was_tuned_otherwise(study, make_study):
    tune_stage.tune_model(study, TUNED)
    before = load_arrays(stages.extract_features(study, TUNED))
    other = make_study({"tuning.seed": 5})
    tune_stage.tune_model(other, TUNED)
    after = load_arrays(stages.extract_features(other, TUNED))
    assert not np.array_equal(before["winter"], after["winter"])


def test_features_are_read_again_when_the_tr_or_the_number_of_rows_changed(study, make_study, files):
    path = stages.extract_features(study, PRETRAINED)
    files.volumes.write_text(json.dumps(dict.fromkeys(tiny.STORIES, tiny.N_VOLUMES + 1)))
    stages.extract_features(study, PRETRAINED)
    assert load_arrays(path)["winter"].shape[1] == 2 + N_ROWS + 1
    before = load_arrays(path)["winter"]
    stages.extract_features(make_study({"dataset.tr": 1.9}), PRETRAINED)
    assert not np.array_equal(load_arrays(path)["winter"], before)


def test_models_and_features_are_made_anew_when_rows_are_taken_to_be_acquired_later(study, make_study):
    results = {}
    for offset in (0.0, 1.0):
        changed = make_study({"dataset.row_offset": offset})
        model = tune_stage.tune_model(changed, TUNED)
        features = load_arrays(stages.extract_features(changed, PRETRAINED))
        results[offset] = (load_file(model / "head.safetensors")["weight"].numpy(), features["winter"])
    (head, rows), (later_head, later_rows) = results[0.0], results[1.0]
    assert not np.array_equal(head, later_head)
    np.testing.assert_allclose(later_rows[:, :-1], rows[:, 1:], atol=1e-5)


def standard(columns):
    return (columns - columns.mean(axis=0)) / columns.std(axis=0)


def correlations_by_hand(files, features, used, alpha=10.0):
    """Closed-form ridge with one penalty, layer by layer and voxel by voxel."""

    def design(story, layer):
        stored = features[story][layer][2:].astype(np.float64)
        scaled = (features[story][layer] - stored.mean(axis=0)) / stored.std(axis=0)
        return np.stack([np.concatenate([scaled[2 + row - 1], scaled[2 + row - 2]]) for row in range(N_ROWS)])

    def responses(story):
        with h5py.File(files.hf5("P1", story)) as file:
            return file["data"][:, used]

    expected = []
    for layer in range(3):
        x = np.concatenate([design(story, layer) for story in TRAIN])
        y = np.concatenate([standard(responses(story)) for story in TRAIN])
        weights = np.linalg.solve(x.T @ x + alpha**2 * np.eye(x.shape[1]), x.T @ y)
        predicted, measured = design("winter", layer)[2:] @ weights, responses("winter")[2:]
        expected.append([np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, measured.T, strict=True)])
    return np.array(expected)


@pytest.fixture
def aligned(study):
    return align_stage.align(study, "P1", PRETRAINED)


def test_scores_are_those_of_a_ridge_in_closed_form_over_the_noise_ceiling(study, files, aligned):
    scores, used = load_arrays(aligned), stages.used_voxels(study, "P1")
    assert 0 < used.sum() < N_VOXELS
    expected = correlations_by_hand(files, load_arrays(study.features_file(PRETRAINED)), used)
    np.testing.assert_allclose(scores["r"][:, used], expected, atol=2e-4)
    with h5py.File(files.hf5("P1", "winter")) as file:
        ceiling = ceiling_by_hand(file["individual_repeats"][:, 2:])
    np.testing.assert_allclose(scores["alignment"][:, used], expected / ceiling[used], atol=5e-4)
    assert np.isnan(scores["r"][:, ~used]).all() and np.isnan(scores["alignment"][:, ~used]).all()


def test_the_table_holds_the_mean_over_each_regions_used_voxels_and_its_origin(study, aligned):
    alignment, labels = load_arrays(aligned)["alignment"], tiny.voxel_labels()
    table = pd.read_csv(aligned.with_suffix(".csv"))
    assert len(table) == 3 * len(rois.GROUPS)
    for row in table.itertuples():
        values = [v for v, label in zip(alignment[row.layer], labels, strict=True) if label in rois.GROUPS[row.roi]]
        finite = [v for v in values if np.isfinite(v)]
        assert row.n_voxels == len(finite) > 0
        assert row.alignment == pytest.approx(np.mean(finite), rel=1e-4, abs=1e-6)
    first = table.iloc[0]
    assert (first.participant, first.backbone, first.condition, first.study) == ("P1", "small", "pretrained", "tiny")
    assert {"weights", "device", "inputs", "recipe", "git_commit", "versions", "seed"} <= set(table)


def test_scores_are_kept_when_whole_and_made_again_when_half_written(study, aligned, monkeypatch):
    scores, table = load_arrays(aligned), aligned.with_suffix(".csv").read_bytes()
    with monkeypatch.context() as patch:
        forbid(patch, "save_arrays")
        align_stage.align(study, "P1", PRETRAINED)
    halve(aligned)
    align_stage.align(study, "P1", PRETRAINED)
    np.testing.assert_array_equal(load_arrays(aligned)["r"], scores["r"])
    aligned.with_suffix(".csv").unlink()
    align_stage.align(study, "P1", PRETRAINED)
    assert aligned.with_suffix(".csv").read_bytes() == table


def test_scores_are_made_again_when_regions_have_other_borders(study, aligned, monkeypatch):
    before, moved = pd.read_csv(aligned.with_suffix(".csv")), tiny.cortex()
    moved.voxel_labels = np.roll(moved.voxel_labels, 1)
    monkeypatch.setattr(LebelDataset, "cortex", lambda *_: moved)
    align_stage.align(study, "P1", PRETRAINED)
    after = pd.read_csv(aligned.with_suffix(".csv"))
    assert set(after["regions"]).isdisjoint(before["regions"]) and len(set(after["regions"])) == 1
    assert not np.allclose(after["alignment"], before["alignment"])


def test_scores_are_made_again_when_the_story_of_the_ceiling_changed(make_study, files):
    study = make_study({"encoding.mask_from": "validation"})
    path = align_stage.align(study, "P1", PRETRAINED)
    repeats = tiny.planted_repeats(np.random.default_rng(99))
    files.write_responses("P1", VALIDATION[0], repeats.mean(axis=0), repeats)
    align_stage.align(study, "P1", PRETRAINED)
    np.testing.assert_allclose(load_arrays(path)["ceiling"], ceiling_by_hand(repeats.astype(np.float32)), rtol=1e-4)


def test_design_uses_leading_rows_for_delays_and_the_stored_rows_alone_for_the_mean():
    rng = np.random.default_rng(0)
    features = rng.standard_normal((3 + 8, 2)).astype(np.float32)
    features[:3] += 50
    found = design_matrix(features, (1, 3))
    mean, deviation = features[3:].mean(axis=0), features[3:].std(axis=0)
    for row in range(8):
        expected = np.concatenate([(features[3 + row - delay] - mean) / deviation for delay in (1, 3)])
        np.testing.assert_allclose(found[row], expected, rtol=1e-4, atol=1e-5)
    assert found[0].min() > 10


def test_design_of_a_constant_feature_is_finite():
    features = np.ones((5, 1), np.float32)
    np.testing.assert_array_equal(design_matrix(features, (0, 1)), np.zeros((4, 2)))


def test_region_without_a_used_voxel_is_not_a_number_and_not_nought():
    labels = np.array(["A1", "A5", "A5", "44", "PGi", "TPOJ1"])
    alignment = np.array([[0.5, 0.2, np.nan, np.nan, 0.4, 0.1], [0.7, 0.4, np.nan, np.nan, 0.6, 0.3]])
    table = region_table(alignment, labels).set_index(["layer", "roi"])
    assert table.loc[(0, "late_language"), "alignment"] == pytest.approx((0.2 + 0.4 + 0.1) / 3)
    assert table.loc[(1, "lateral_temporal"), "alignment"] == pytest.approx((0.4 + 0.3) / 2)
    assert table.loc[(1, "primary_auditory"), "n_voxels"] == 1
    assert np.isnan(table.loc[(0, "inferior_middle_frontal"), "alignment"])
    assert table.loc[(0, "inferior_middle_frontal"), "n_voxels"] == 0


def test_a_sweep_gives_each_model_what_it_gets_alone(make_study, monkeypatch):
    study = make_study()
    tune_stage.tune_model(study, TUNED)
    runs = [PRETRAINED, TUNED]
    alone = [load_arrays(stages.extract_features(study, run)) for run in runs]
    for run in runs:
        study.features_file(run).unlink()
    calls, plain = [], stages.story_features
    monkeypatch.setattr(
        stages, "story_features",
        lambda models, sounds, *rest: calls.append((len(models), len(sounds))) or plain(models, sounds, *rest),
    )  # fmt: skip
    paths = stages.sweep(study, runs)
    assert calls == [(2, len(alone[0]))]
    for path, expected in zip(paths, alone, strict=True):
        for story, rows in load_arrays(path).items():
            np.testing.assert_allclose(rows, expected[story], rtol=1e-5, atol=1e-6)
    calls.clear()
    stages.sweep(study, runs)
    assert calls == []


def test_other_weights_in_the_same_folder_make_other_results(study, pristine):
    dataset = stages.prepare(study)
    stages.measure_ceiling(study, "P1")
    before = tune_stage.tuning_recipe(study, TUNED, dataset), stages.model_recipe(study, TUNED)
    weights = pristine.root.parent / "backbone" / "model.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
    after = tune_stage.tuning_recipe(study, TUNED, dataset), stages.model_recipe(study, TUNED)
    weights.write_bytes(kept)
    assert [a != b for a, b in zip(after, before, strict=True)] == [True, True]
    assert tune_stage.tuning_recipe(study, TUNED, dataset) == before[0]


def test_another_tr_tunes_another_model(make_study):
    recipes = []
    for tr in (2.0, 1.99):
        study = make_study({"dataset.tr": tr})
        stages.measure_ceiling(study, "P1")
        recipes.append(tune_stage.tuning_recipe(study, TUNED, stages.prepare(study)))
    assert recipes[0]["times"] != recipes[1]["times"]
