import h5py
import numpy as np
import pytest
import tiny
from braintuning.alignment.mask import used_voxels
from braintuning.pipeline.ceiling import measure_ceiling
from braintuning.results import load_arrays
from braintuning.study import Run
from tiny import N_ROWS, N_VOXELS, ceiling_by_hand, halve, refused

PRETRAINED = Run("small", "pretrained")
TUNED = Run("small", "brain-tuned", "P1")
RANDOM = Run("small", "random-brain-tuned", "P1")


@pytest.mark.parametrize(("mask_from", "story", "skipped"), [("test", "winter", 2), ("validation", "kitchen", 0)])
def test_ceiling_comes_from_the_rows_of_the_story_that_are_scored(make_study, files, mask_from, story, skipped):
    study = make_study({"encoding.mask_from": mask_from})
    found = load_arrays(measure_ceiling(study, "P2"))["ceiling"]
    with h5py.File(files.hf5("P2", story)) as file:
        expected = ceiling_by_hand(file["individual_repeats"][:, skipped:].astype(np.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_array_equal(used_voxels(study, "P2"), np.nan_to_num(expected) > 0.4)


def test_no_voxel_above_the_threshold_is_refused(study, files, monkeypatch):
    noise = np.random.default_rng(0).standard_normal((4, N_ROWS, N_VOXELS))
    noise -= noise.mean(axis=0) * (1 - 1e-3)
    files.write_responses("P1", "winter", np.random.default_rng(1).standard_normal((N_ROWS, N_VOXELS)), noise)
    path = measure_ceiling(study, "P1")
    refused(lambda: used_voxels(study, "P1"), path, "no voxel", "0.4")


def test_a_ceiling_is_measured_again_only_when_it_is_not_whole_or_its_input_changed(study, files, monkeypatch):
    path = measure_ceiling(study, "P1")
    whole, made = path.read_bytes(), path.stat().st_mtime_ns
    measure_ceiling(study, "P1")
    assert path.stat().st_mtime_ns == made
    halve(path)
    measure_ceiling(study, "P1")
    assert load_arrays(path)["ceiling"].shape == (N_VOXELS,) and path.stat().st_size == len(whole)
    before = load_arrays(path)["ceiling"]
    repeats = tiny.planted_repeats(np.random.default_rng(99))
    files.write_responses("P1", "winter", repeats.mean(axis=0), repeats)
    assert not np.allclose(load_arrays(measure_ceiling(study, "P1"))["ceiling"], before, equal_nan=True)
