import json

import h5py
import numpy as np
import pandas as pd
import pytest
from braintuning.results import (
    arrays_fingerprint,
    fingerprint,
    inputs_fingerprint,
    is_done,
    load_arrays,
    provenance,
    provenance_columns,
    provenance_of,
    save_arrays,
    save_table,
)

RECIPE = {"stage": "features", "stories": ("a", "b"), "rate": 1e-4, "settings": {"seed": 0, "delays": (1, 2)}}
MIB = 1 << 20


@pytest.fixture
def result(tmp_path):
    path = tmp_path / "deep" / "result.h5"
    save_arrays(path, {"r": np.linspace(0, 1, 5000, dtype=np.float32)}, provenance(RECIPE, device="cpu, float32"))
    return path


def test_result_holds_its_arrays_and_how_it_was_made(result):
    found = load_arrays(result)["r"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.linspace(0, 1, 5000, dtype=np.float32))
    carried = provenance_of(result)
    assert carried["recipe"]["settings"] == {"seed": 0, "delays": [1, 2]}
    assert carried["device"] == "cpu, float32"
    assert carried["versions"]["numpy"] == np.__version__
    assert carried["git_commit"]


@pytest.mark.parametrize(
    ("recipe", "done"),
    [
        (RECIPE, True),
        (dict(reversed(RECIPE.items())), True),
        (RECIPE | {"rate": 1.0001e-4}, False),
        (RECIPE | {"stories": ("b", "a")}, False),
        (RECIPE | {"settings": {"seed": 1, "delays": (1, 2)}}, False),
        ({"stage": "features"}, False),
    ],
)
def test_is_done_for_the_same_recipe_only(result, recipe, done):
    assert is_done(result, recipe) is done


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def without_provenance(path):
    with h5py.File(path, "w") as file:
        file["r"] = np.zeros(3)


def with_broken_provenance(path):
    with h5py.File(path, "a") as file:
        file.attrs["provenance"] = '{"recipe": '


@pytest.mark.parametrize(
    "damage",
    [
        cut_in_half,
        without_provenance,
        with_broken_provenance,
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"not HDF5" * 999),
        lambda path: path.unlink(),
    ],
    ids=["half", "no provenance", "broken provenance", "empty", "garbage", "absent"],
)
def test_damaged_result_is_not_done(result, damage):
    damage(result)
    assert is_done(result, RECIPE) is False


@pytest.mark.parametrize(
    ("text", "done"),
    [(json.dumps({"recipe": RECIPE}), True), ('{"recipe": {"stage"', False), ("{}", False), (None, False)],
)
def test_folder_is_done_by_the_provenance_in_it(tmp_path, text, done):
    folder = tmp_path / "model"
    folder.mkdir()
    if text is not None:
        (folder / "provenance.json").write_text(text)
    assert is_done(folder, RECIPE) is done


def test_fingerprint_ignores_the_order_of_keys_and_nothing_else():
    assert fingerprint({"a": 1, "b": [1, 2]}) == fingerprint({"b": (1, 2), "a": 1})
    others = [{"a": 1, "b": [2, 1]}, {"a": 1}, {"a": "1", "b": [1, 2]}, {"a": 1, "b": [1, 2], "c": None}]
    assert len({fingerprint(other) for other in [*others, {"a": 1, "b": [1, 2]}]}) == 5


@pytest.fixture
def inputs(tmp_path):
    (tmp_path / "a.wav").write_bytes(bytes(3 * MIB))
    (tmp_path / "b.wav").write_bytes(b"short")
    return tmp_path


def seen(root):
    return inputs_fingerprint(root.rglob("*.wav"), root)


@pytest.mark.parametrize(("name", "at"), [("a.wav", 0), ("a.wav", 3 * MIB - 1), ("b.wav", 2)])
def test_inputs_fingerprint_changes_with_content(inputs, name, at):
    before, content = seen(inputs), bytearray((inputs / name).read_bytes())
    content[at] ^= 1
    (inputs / name).write_bytes(content)
    assert seen(inputs) != before


def test_inputs_fingerprint_changes_with_size_and_name_but_not_order_or_place(inputs):
    before = seen(inputs)
    assert inputs_fingerprint([inputs / "b.wav", inputs / "a.wav"], inputs) == before
    moved = inputs.rename(inputs.with_name("elsewhere"))
    assert seen(moved) == before
    (moved / "b.wav").rename(moved / "c.wav")
    renamed = seen(moved)
    assert renamed != before
    (moved / "a.wav").write_bytes(bytes(3 * MIB + 1))
    assert seen(moved) not in (before, renamed)


class Unwritable:
    def __str__(self):
        raise RuntimeError("no text")


def test_table_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "new" / "table.csv"
    save_table(path, pd.DataFrame({"roi": ["A1", "44"], "r": [1 / 3, np.nan]}))
    assert path.read_text() == "roi,r\nA1,0.333333\n44,\n"
    with pytest.raises(RuntimeError):
        save_table(path, pd.DataFrame({"roi": ["A1", Unwritable()]}))
    assert path.read_text() == "roi,r\nA1,0.333333\n44,\n"
    assert [p.name for p in path.parent.iterdir()] == ["table.csv"]


def test_rows_tell_where_they_come_from():
    columns = provenance_columns("demo", provenance(RECIPE | {"inputs": "abc"}, device="cpu, float32", weights="hub"))
    assert (columns["study"], columns["weights"], columns["device"], columns["inputs"]) == (
        "demo",
        "hub",
        "cpu, float32",
        "abc",
    )
    assert columns["recipe"] == fingerprint(RECIPE | {"inputs": "abc"})
    assert f"numpy={np.__version__}" in columns["versions"]


def test_another_value_shape_or_type_of_an_array_is_another_fingerprint():
    x = np.arange(6.0).reshape(2, 3)
    others = [x + 1, x.reshape(3, 2), x.astype(np.float32), x[:, ::-1]]
    assert arrays_fingerprint([x]) == arrays_fingerprint([np.asfortranarray(x)])
    assert len({arrays_fingerprint(arrays) for arrays in ([x], [x, x], *([other] for other in others))}) == 6
