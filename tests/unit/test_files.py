import hashlib
import shutil
import signal
import subprocess
import sys

import pytest
from braintuning import files
from braintuning.errors import InputError
from braintuning.results import atomic_path, git_commit, package_versions, require_space, sha256


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


@pytest.mark.parametrize("content", [b"", b"listeners", bytes(3_000_000)])
def test_sha256(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    assert sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def test_git_commit_outside_a_checkout_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "REPOSITORY", tmp_path)
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
    monkeypatch.setattr(files, "REPOSITORY", tmp_path)
    commit = git("rev-parse", "HEAD")
    assert len(git_commit()) >= 10 and commit.startswith(git_commit())
    (tmp_path / "README").write_text("text is no code")
    assert commit.startswith(git_commit())
    (tmp_path / "lib" / "code.py").write_text("2")
    assert git_commit().endswith("+") and commit.startswith(git_commit()[:-1])


def test_versions_of_what_numbers_depend_on():
    import numpy

    assert package_versions()["numpy"] == numpy.__version__
    assert {"torch", "transformers", "himalaya"} <= set(package_versions())
