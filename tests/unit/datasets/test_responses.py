import os
import tracemalloc

import h5py
import numpy as np
import pytest
from braintuning.datasets.responses import invalid_columns, read_responses, require_usable, stored_shape
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


def test_a_voxel_that_starts_to_vary_late_is_whole_and_one_that_never_does_is_broken():
    responses = np.random.default_rng(0).standard_normal((40, 5))
    responses[:39, 2] = 1.5
    assert not invalid_columns(responses).any()
    responses[39, 2] = 1.5
    assert np.flatnonzero(invalid_columns(responses)).tolist() == [2]


def test_broken_are_the_columns_with_a_nan_and_the_constant_ones():
    rng = np.random.default_rng(0)
    responses = rng.standard_normal((50, 300)).astype(np.float32)
    responses[rng.integers(50, size=4), [7, 80, 81, 299]] = np.nan
    responses[:, [0, 120]] = [0, -3.25]
    responses[:30, 9] = np.nan
    expected = [np.isnan(c).any() or len(set(c.tolist())) == 1 for c in responses.T]
    assert sum(expected) == 7
    assert invalid_columns(responses).tolist() == expected


def test_two_rows_are_enough_to_vary():
    assert not invalid_columns(np.array([[0.0, 1.0], [1.0, 0.0]])).any()


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_one_column_in_twenty_may_be_broken_and_no_more(value):
    responses = np.random.default_rng(0).standard_normal((10, 40)).astype(np.float32)
    responses[:, [3, 11]] = value
    require_usable(responses, "file")
    responses[:, 30] = value
    refused(lambda: require_usable(responses, "file"), "a constant value in 3 of 40", "index 3", "at most 2")


def test_of_few_columns_none_may_be_broken():
    responses = np.random.default_rng(0).standard_normal((10, 6))
    responses[4, 1] = np.nan
    refused(lambda: require_usable(responses, "file"), "NaN or a constant value in 1 of 6", "index 1", "expected")


def test_one_infinity_is_refused_also_where_two_cancel_or_a_nan_hides_it():
    responses = np.random.default_rng(0).standard_normal((10, 100)).astype(np.float32)
    for values in ([np.inf, 0.0], [-np.inf, 0.0], [np.inf, -np.inf], [np.inf, np.nan]):
        spoilt = responses.copy()
        spoilt[[2, 5], 71] = values
        refused(lambda spoilt=spoilt: require_usable(spoilt, "file"), "infinite values in 1 of 100", "index 71", "none")


def test_finite_values_whose_sum_overflows_are_usable():
    responses = np.full((4, 1), 3e38, np.float32)
    responses[0] = 2e38
    require_usable(responses, "file")


def test_an_annex_link_without_content_is_called_one_and_how_to_get_it_is_said(tmp_path):
    path = tmp_path / "souls.hf5"
    os.symlink("../../.git/annex/objects/aa/bb/MD5E-s9--0.hf5/MD5E-s9--0.hf5", path)
    refused(lambda: read_responses(path, "data", 3, 3), path, "a link to ../../.git/annex", "datalad get", "expected")
