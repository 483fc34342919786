import os
import tracemalloc

import h5py
import numpy as np
import pytest
from braintuning.datasets.responses import (
    invalid_columns,
    read_responses,
    require_responses,
    require_usable,
    stored_shape,
)
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


LAYOUTS = {
    "contiguous": {}, "chunks": {"chunks": (7, 100)}, "whole columns": {"chunks": (ROWS, 64), "compression": "gzip"},
    "gzip": {"compression": "gzip", "compression_opts": 9, "shuffle": True}, "lzf": {"compression": "lzf"},
    "checksum": {"fletcher32": True, "chunks": (1, 700)},
}  # fmt: skip


@pytest.mark.parametrize("kind", ["f8", "f4", "f2", ">f8", "i4", "i2", "u1"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_numbers_of_any_type_and_layout_are_read(tmp_path, kind, layout):
    values = np.random.default_rng(0).standard_normal((3, ROWS, VOXELS)) * 40 + 100
    values = values.astype(kind)
    with h5py.File(tmp_path / "story.hf5", "w") as file:
        options = LAYOUTS[layout]
        file.create_dataset("data", data=values[0], **options)
        chunks = {"chunks": (1, *options["chunks"])} if "chunks" in options else {}
        file.create_dataset("individual_repeats", data=values, **{**options, **chunks})
    chosen = np.random.default_rng(1).random(VOXELS) < 0.3
    path, expected = tmp_path / "story.hf5", values.astype(np.float32)
    np.testing.assert_array_equal(read_responses(path, "data", ROWS, VOXELS), expected[0])
    found = read_responses(path, "individual_repeats", ROWS, VOXELS, chosen, repeat=2)
    np.testing.assert_array_equal(found, expected[2][:, chosen])


def test_transposed_responses_are_called_that(tmp_path):
    path, values = tmp_path / "story.hf5", np.random.default_rng(0).standard_normal((4, ROWS, VOXELS))
    with h5py.File(path, "w") as file:
        file["data"], file["individual_repeats"] = values[0].T, values.transpose(0, 2, 1)
    for n_voxels in (VOXELS, ROWS):
        call = lambda n=n_voxels: read_responses(path, "data", ROWS, n)  # noqa: E731
        refused(
            call, path, f"'data' of shape ({VOXELS}, {ROWS}), which is transposed", f"expected {ROWS} rows x voxels"
        )
    refused(lambda: stored_shape(path, "data", ROWS), path, "transposed")
    refused(lambda: read_responses(path, "individual_repeats", ROWS, VOXELS, repeat=0), path, "transposed")


def test_what_is_no_array_of_numbers_is_named(tmp_path):
    path = tmp_path / "story.hf5"
    for value, found in (
        (np.array([b"a", b"b"]), "'data' of type |S1"), (np.zeros(3, [("x", "f4")]), "of type [('x', '<f4')]"),
        (h5py.Empty("f4"), "of type float32"), (np.zeros(3, complex), "of type complex128"), (None, "is a group"),
        (3.0, "of type float64"),
    ):  # fmt: skip
        with h5py.File(path, "w") as file:
            file.create_group("data") if value is None else file.create_dataset("data", data=value)
        refused(lambda: stored_shape(path, "data"), path, found, "expected an array of numbers")
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros(ROWS)
    refused(lambda: stored_shape(path, "data", ROWS), path, f"of shape ({ROWS},)", f"expected {ROWS} rows")


@pytest.mark.parametrize(
    "link", [h5py.SoftLink("/gone"), h5py.SoftLink("/data"), h5py.ExternalLink("gone.hf5", "/data")]
)
def test_a_link_to_what_is_not_here_is_one_sentence(tmp_path, link):
    path = tmp_path / "story.hf5"
    with h5py.File(path, "w") as file:
        file["data"] = link
    for call in (lambda: stored_shape(path, "data"), lambda: read_responses(path, "data", ROWS, VOXELS)):
        refused(call, path, "'data' is a link to what is not here", "expected an array of numbers")


def test_a_link_to_what_is_here_is_followed(stored):
    path, arrays = stored
    with h5py.File(path.with_name("linked.hf5"), "w") as file:
        file["data"] = h5py.ExternalLink(path.name, "/data")
    np.testing.assert_array_equal(
        read_responses(path.with_name("linked.hf5"), "data", ROWS, VOXELS), arrays["data"].astype(np.float32)
    )


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_half_a_file_is_named_before_anything_is_read(stored, share):
    path, _ = stored
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    for call in (require_responses, lambda path: stored_shape(path, "data")):
        refused(lambda call=call: call(path), path, "not a whole HDF5 file (", "expected responses")


def test_a_chunk_that_was_damaged_is_one_sentence(tmp_path):
    path = tmp_path / "story.hf5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=np.zeros((ROWS, VOXELS)), chunks=(ROWS, VOXELS), compression="gzip")
        where = file["data"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[where.byte_offset : where.byte_offset + where.size] = b"\xff" * where.size
    path.write_bytes(content)
    refused(
        lambda: read_responses(path, "data", ROWS, VOXELS), path, "'data' cannot be read (", "expected a whole file"
    )


def test_responses_without_their_presentations_say_what_those_are_for(tmp_path):
    with h5py.File(tmp_path / "story.hf5", "w") as file:
        file["data"] = np.zeros((ROWS, VOXELS))
    call = lambda: stored_shape(tmp_path / "story.hf5", "individual_repeats")  # noqa: E731
    refused(call, "found ['data']", "expected a dataset named 'individual_repeats'", "noise ceiling")


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
