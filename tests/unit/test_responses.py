import os
import tracemalloc

import h5py
import numpy as np
import pytest
from braintuning.responses import read_responses, require_usable, stored_shape
from tiny import refused

ROWS, VOXELS = 43, 700


@pytest.fixture
def stored(tmp_path):
    rng = np.random.default_rng(0)
    arrays = {"data": rng.standard_normal((ROWS, VOXELS)), "individual_repeats": rng.standard_normal((3, ROWS, VOXELS))}
    with h5py.File(tmp_path / "story.hf5", "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return tmp_path / "story.hf5", arrays


def test_what_is_read_is_what_was_stored_as_float32(stored):
    path, arrays = stored
    read = read_responses(path, "data", ROWS, VOXELS)
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, arrays["data"].astype(np.float32))
    assert stored_shape(path, "individual_repeats") == (3, ROWS, VOXELS)


def test_voxels_and_a_repeat_can_be_chosen(stored):
    path, arrays = stored
    chosen = np.random.default_rng(1).random(VOXELS) < 0.3
    read = read_responses(path, "individual_repeats", ROWS, VOXELS, chosen, repeat=1)
    np.testing.assert_array_equal(read, arrays["individual_repeats"][1][:, chosen].astype(np.float32))


def test_a_repeat_of_an_array_without_repeats_is_refused(stored):
    refused(lambda: read_responses(stored[0], "data", ROWS, VOXELS, repeat=0), "story.hf5", f"({ROWS}, {VOXELS})")
    refused(lambda: read_responses(stored[0], "individual_repeats", ROWS, VOXELS), f"(3, {ROWS}, {VOXELS})")


def test_memory_stays_far_below_what_is_stored(tmp_path):
    path, n_rows, n_voxels = tmp_path / "large.hf5", 400, 20_000
    with h5py.File(path, "w") as file:
        file["data"] = np.random.default_rng(0).standard_normal((n_rows, n_voxels))
    tracemalloc.start()
    read_responses(path, "data", n_rows, n_voxels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.7 * 8 * n_rows * n_voxels


def test_a_voxel_that_starts_to_vary_late_is_usable_and_one_that_never_does_is_not():
    responses = np.random.default_rng(0).standard_normal((40, 5))
    responses[:39, 2] = 1.5
    require_usable(responses, "file")
    responses[39, 2] = 1.5
    refused(lambda: require_usable(responses, "file"), "a constant value in 1 of 5", "index 2")


def test_two_rows_are_enough_to_vary():
    require_usable(np.array([[0.0, 1.0], [1.0, 0.0]]), "file")


def test_infinities_that_cancel_are_found():
    responses = np.random.default_rng(0).standard_normal((10, 3)).astype(np.float32)
    responses[2, 1], responses[5, 1] = np.inf, -np.inf
    refused(lambda: require_usable(responses, "file"), "NaN or infinite values in 1 of 3", "index 1")


def test_an_annex_link_without_content_is_called_one_and_how_to_get_it_is_said(tmp_path):
    path = tmp_path / "souls.hf5"
    os.symlink("../../.git/annex/objects/aa/bb/MD5E-s9--0.hf5/MD5E-s9--0.hf5", path)
    refused(lambda: read_responses(path, "data", 3, 3), path, "a link to ../../.git/annex", "datalad get", "expected")
