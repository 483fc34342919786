import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import h5py
import numpy as np
import pandas as pd
import pytest
from braintuning import results
from braintuning.errors import InputError
from braintuning.results import (
    atomic_path,
    files_below,
    fingerprint,
    generator,
    git_commit,
    inputs_fingerprint,
    is_done,
    load_arrays,
    package_versions,
    provenance,
    provenance_columns,
    provenance_of,
    require_space,
    save_arrays,
    save_table,
)

RECIPE = {"stage": "features", "stories": ("a", "b"), "rate": 1e-4, "settings": {"seed": 0, "delays": (1, 2)}}
MIB = 1 << 20


def test_files_below_a_folder_are_found_through_links_and_a_circle_ends(tmp_path):
    for name in ("b.txt", "in/a.txt", "in/.hidden", "in/.git/x", "in/@eaDir/x"):
        (tmp_path / "ds" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ds" / name).touch()
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "c.txt").touch()
    for name, target in (("in/far", tmp_path / "far"), ("again", tmp_path / "far"), ("in/up", tmp_path / "ds")):
        (tmp_path / "ds" / name).symlink_to(target)
    (tmp_path / "ds" / "nothing.txt").symlink_to("nowhere")
    found = [path.relative_to(tmp_path / "ds").as_posix() for path in files_below(tmp_path / "ds")]
    assert found == ["again/c.txt", "b.txt", "in/a.txt", "in/far/c.txt", "nothing.txt"]
    assert files_below(tmp_path / "none") == files_below(tmp_path / "ds" / "b.txt") == []


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


def test_inputs_may_lie_outside_the_datasets_folder(inputs):
    apart = inputs / "apart"
    apart.mkdir()
    assert inputs_fingerprint([inputs / "a.wav"], apart) != inputs_fingerprint([inputs / "a.wav"], inputs)


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


def write(path, kind, text):
    if kind == "file":
        path.write_text(text)
    else:
        path.mkdir()
        (path / "one").write_text(text)
        (path / "two").write_text(text)


def read(path):
    if not path.exists():
        return None
    return path.read_text() if path.is_file() else {p.name: p.read_text() for p in path.iterdir()}


def whole(kind, text):
    return text if kind == "file" else {"one": text, "two": text}


kinds = pytest.mark.parametrize("kind", ["file", "folder"])
old_or_none = pytest.mark.parametrize("old", ["old", None])


@kinds
@old_or_none
def test_block_that_succeeds_takes_the_place(tmp_path, kind, old):
    path = tmp_path / "deep" / "result"
    path.parent.mkdir()
    if old:
        write(path, kind, old)
    with atomic_path(path) as temporary:
        write(temporary, kind, "new")
        assert read(path) == (whole(kind, old) if old else None)
    assert read(path) == whole(kind, "new")
    assert list(path.parent.iterdir()) == [path]


@kinds
@old_or_none
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_block_that_raises_leaves_what_was_there(tmp_path, kind, old, error):
    path = tmp_path / "result"
    if old:
        write(path, kind, old)
    with pytest.raises(error), atomic_path(path) as temporary:
        write(temporary, kind, "half")
        raise error
    assert read(path) == (whole(kind, old) if old else None)
    assert list(tmp_path.iterdir()) == ([path] if old else [])


def test_a_folder_that_cannot_take_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    path, replace = tmp_path / "result", os.replace
    write(path, "folder", "old")

    def stops(source, target):
        if ".partial-" in str(source):
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", stops)
    with pytest.raises(KeyboardInterrupt), atomic_path(path) as temporary:
        write(temporary, "folder", "new")
    assert read(path) == whole("folder", "old") and list(tmp_path.iterdir()) == [path]


@kinds
def test_block_that_writes_nothing_leaves_what_was_there(tmp_path, kind):
    write(tmp_path / "result", kind, "old")
    with pytest.raises(FileNotFoundError), atomic_path(tmp_path / "result"):
        pass
    assert read(tmp_path / "result") == whole(kind, "old")


def run_and_die(script, path):
    header = "import os, shutil, signal, sys\nfrom pathlib import Path\nfrom braintuning.results import atomic_path\n"
    footer = "die = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\npath = Path(sys.argv[1])\n"
    died = subprocess.run([sys.executable, "-c", header + footer + script, path], check=False)
    assert died.returncode == -signal.SIGKILL


@kinds
@old_or_none
def test_process_killed_in_the_block_leaves_no_half_written_result(tmp_path, kind, old):
    path = tmp_path / "result"
    if old:
        write(path, kind, old)
    inside = "t.write_text('half')" if kind == "file" else "t.mkdir(), (t / 'one').write_text('half')"
    run_and_die(f"with atomic_path(path) as t:\n    {inside}, die()", path)
    assert read(path) == (whole(kind, old) if old else None)
    assert all(p.name.startswith(".partial-") for p in tmp_path.iterdir() if p != path)


def test_process_killed_while_a_folder_is_replaced_leaves_one_whole_or_none(tmp_path):
    path = tmp_path / "result"
    write(path, "folder", "old")
    run_and_die(
        "def half_remove(folder, *_, **__):\n"
        "    (Path(folder) / 'one').unlink(), die()\n"
        "shutil.rmtree = half_remove\n"
        "with atomic_path(path) as t:\n"
        "    t.mkdir(), (t / 'one').write_text('new'), (t / 'two').write_text('new')",
        path,
    )
    assert read(path) in (whole("folder", "old"), whole("folder", "new"), None)


def test_require_space_names_folder_and_bytes_even_before_the_folder_is_made(tmp_path):
    folder = tmp_path / "not" / "yet"
    require_space(folder, 1)
    with pytest.raises(InputError, match=r"yet: .* GB free on its disk, .* GB needed"):
        require_space(folder, 10 * shutil.disk_usage(tmp_path).total)
    assert not folder.exists()


def test_git_commit_outside_a_checkout_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "REPOSITORY", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() == "unknown"
    monkeypatch.setenv("PATH", "")
    assert git_commit() == "unknown"


def test_git_commit_marks_code_that_differs_from_it(tmp_path, monkeypatch):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", *identity, *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "code.py").write_text("1")
    for command in (["init"], ["add", "."], ["commit", "-m", "one"]):
        git(*command)
    monkeypatch.setattr(results, "REPOSITORY", tmp_path)
    commit = git("rev-parse", "HEAD")
    assert len(git_commit()) >= 10 and commit.startswith(git_commit())
    (tmp_path / "README").write_text("text is no code")
    assert commit.startswith(git_commit())
    (tmp_path / "lib" / "code.py").write_text("2")
    assert git_commit().endswith("+") and commit.startswith(git_commit()[:-1])


def test_versions_of_what_numbers_depend_on():
    assert package_versions()["numpy"] == np.__version__
    assert {"torch", "transformers", "himalaya"} <= set(package_versions())


def test_versions_are_told_where_himalaya_is_not_installed(monkeypatch):
    plain = results.version

    def without(name):
        if name == "himalaya":
            raise PackageNotFoundError(name)
        return plain(name)

    monkeypatch.setattr(results, "version", without)
    assert set(package_versions()) == {"numpy", "scipy", "scikit-learn", "torch", "transformers"}


def test_same_purpose_same_numbers_whatever_ran_before():
    first = generator(0, "permute", "SIM01", "thewell").random(5)
    np.random.default_rng().random(3)
    generator(0, "noise").random(7)
    assert generator(0, "permute", "SIM01", "thewell").random(5).tolist() == first.tolist()


def test_every_seed_and_label_gives_its_own_numbers():
    purposes = [(0,), (1,), (0, "a"), (0, "b"), (0, "a", "b"), (0, "b", "a"), (0, "ab"), (0, "a", 1), (0, "a", 2)]
    assert len({generator(*purpose).random() for purpose in purposes}) == len(purposes)


def test_numbers_do_not_depend_on_the_process():
    code = "from braintuning.results import generator; print(generator(7, 'noise', 3).random())"
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert float(printed.stdout) == generator(7, "noise", 3).random()
