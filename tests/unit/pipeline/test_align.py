import h5py
import numpy as np
import pandas as pd
import pytest
import steps
import tiny
from braintuning.alignment.encoding import design_matrix
from braintuning.alignment.mask import used_voxels
from braintuning.cortex import regions as rois
from braintuning.cortex.regions import region_table
from braintuning.datasets.lebel import LebelDataset
from braintuning.pipeline import align as align_step
from braintuning.pipeline.ceiling import measure_ceiling
from braintuning.results import load_arrays
from braintuning.study import Run
from tiny import N_ROWS, N_VOXELS, TRAIN, VALIDATION, ceiling_by_hand, forbid, halve

PRETRAINED = Run("small", "pretrained")
TUNED = Run("small", "brain-tuned", "P1")
RANDOM = Run("small", "random-brain-tuned", "P1")


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
    return steps.aligned(study, "P1", PRETRAINED)


def test_scores_are_those_of_a_ridge_in_closed_form_over_the_noise_ceiling(study, files, aligned):
    scores, used = load_arrays(aligned), used_voxels(study, "P1")
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


def test_a_variant_tells_the_seed_that_it_was_tuned_with(make_study):
    variants = {"again": {"condition": "brain-tuned", "tuning": {"seed": 5}}}
    study = make_study({"variants": variants, "conditions": ["pretrained", "brain-tuned", "again"]})
    for run, seed in ((PRETRAINED, 0), (TUNED, 0), (Run("small", "again", "P1"), 5)):
        table = pd.read_csv(steps.aligned(study, "P1", run).with_suffix(".csv"))
        assert set(table["seed"]) == {seed}


def test_scores_are_kept_when_whole_and_made_again_when_half_written(study, aligned, monkeypatch):
    scores, table = load_arrays(aligned), aligned.with_suffix(".csv").read_bytes()
    with monkeypatch.context() as patch:
        forbid(patch, align_step, "save_result")
        steps.aligned(study, "P1", PRETRAINED)
    halve(aligned)
    steps.aligned(study, "P1", PRETRAINED)
    np.testing.assert_array_equal(load_arrays(aligned)["r"], scores["r"])
    aligned.with_suffix(".csv").unlink()
    steps.aligned(study, "P1", PRETRAINED)
    assert aligned.with_suffix(".csv").read_bytes() == table


def test_scores_are_made_again_when_regions_have_other_borders(study, aligned, monkeypatch):
    before, moved = pd.read_csv(aligned.with_suffix(".csv")), tiny.cortex()
    moved.voxel_labels = np.roll(moved.voxel_labels, 1)
    monkeypatch.setattr(LebelDataset, "cortex", lambda *_: moved)
    steps.aligned(study, "P1", PRETRAINED)
    after = pd.read_csv(aligned.with_suffix(".csv"))
    assert set(after["regions"]).isdisjoint(before["regions"]) and len(set(after["regions"])) == 1
    assert not np.allclose(after["alignment"], before["alignment"])


def test_scores_are_made_again_when_the_story_of_the_ceiling_changed(make_study, files):
    study = make_study({"encoding.mask_from": "validation"})
    path = steps.aligned(study, "P1", PRETRAINED)
    repeats = tiny.planted_repeats(np.random.default_rng(99))
    files.write_responses("P1", VALIDATION[0], repeats.mean(axis=0), repeats)
    steps.aligned(study, "P1", PRETRAINED)
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


@pytest.mark.parametrize("first", [0, -1, 3])
def test_as_many_first_stories_as_there_are_none_of_are_refused(study, first):
    steps.extracted(study, PRETRAINED)
    measure_ceiling(study, "P1")
    tiny.refused(lambda: align_step.align(study, "P1", PRETRAINED, first=first), f"found first {first}", "1 to 2")
