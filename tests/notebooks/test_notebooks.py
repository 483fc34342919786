"""What every notebook must be like before it is committed."""

import re
import shutil
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import nbformat
import pytest
from braintuning.errors import InputError, NotebookError
from braintuning.pipeline import notebooks
from braintuning.pipeline.notebooks import NOTEBOOKS, execute

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def notebook(request) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def held(request) -> nbformat.NotebookNode:
    """A notebook as git holds it, or would after a commit: what a user's copy has printed is the user's."""
    command = ["git", "-C", NOTEBOOKS, "show", f":./{request.param.name}"]
    try:
        shown = subprocess.run(command, capture_output=True, text=True, encoding="utf-8")
    except FileNotFoundError:
        pytest.skip("no git here, so nothing that it holds")
    if shown.returncode:
        pytest.skip(f"git does not hold it: {shown.stderr.strip()}")
    return nbformat.reads(shown.stdout, as_version=4)


def test_outputs_are_stripped(held):
    assert all(not cell.outputs and cell.execution_count is None for cell in code(held))


def test_kernel_is_python3(held):
    assert held.metadata.kernelspec.name == "python3"


def test_git_holds_the_notebooks_of_this_project():
    found = subprocess.run(["git", "-C", NOTEBOOKS, "ls-files", "*.ipynb"], capture_output=True, text=True)
    if found.returncode:
        pytest.skip("not a clone")
    assert {"01_dataset.ipynb", "fig2.ipynb"} <= set(found.stdout.split())


def test_git_leaves_out_what_a_notebook_printed_once_it_is_told_to(tmp_path):
    pytest.importorskip("nbstripout")
    repository = NOTEBOOKS.parent
    (recipe,) = re.findall(r"^strip:.*\n\t@(git config .*)$", (repository / "Makefile").read_text(), re.MULTILINE)
    recipe = recipe.replace("$(BIN)", str(Path(sys.executable).parent)).replace("$$", "$")

    def git(*words):
        return subprocess.run(["git", *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    git("init", "-q")
    shutil.copy(repository / ".gitattributes", tmp_path)
    shutil.copy(NOTEBOOKS / "probe.ipynb", tmp_path)
    subprocess.run(recipe, shell=True, cwd=tmp_path, check=True)
    git("add", ".")
    committed = git("show", ":probe.ipynb")
    executed = nbformat.read(tmp_path / "probe.ipynb", as_version=4)
    executed.cells[1].update(execution_count=1, outputs=[nbformat.v4.new_output("stream", text="said")])
    nbformat.write(executed, tmp_path / "probe.ipynb")
    git("add", ".")
    assert git("show", ":probe.ipynb") == committed
    assert "said" in (tmp_path / "probe.ipynb").read_text()


def test_the_filter_changes_no_byte_of_what_git_holds(held):
    nbstripout = pytest.importorskip("nbstripout")
    before = nbformat.writes(held)
    assert nbformat.writes(nbstripout.strip_output(held, keep_output=False, keep_count=False, keep_id=True)) == before


def test_parameters_come_first_each_with_a_comment_and_are_checked_next(notebook):
    first, second = code(notebook)[:2]
    assert first.metadata.tags == ["parameters"]
    assert all("  # " in line for line in first.source.splitlines())
    names = [line.split(" =")[0] for line in first.source.splitlines()]
    assert "check_parameters(globals(), " + ", ".join(f'"{name}"' for name in names) + ")" in second.source


def test_cells_are_short_and_begin_with_prose(notebook):
    assert notebook.cells[0].cell_type == "markdown"
    assert max(len(cell.source.splitlines()) for cell in code(notebook)) <= 15


def test_prose_stands_before_every_cell_but_the_check_of_the_parameters(notebook):
    kinds = [cell.cell_type for cell in notebook.cells]
    bare = [n for n, pair in enumerate(pairwise(kinds), 1) if pair == ("code", "code")]
    checks = [n for n, cell in enumerate(notebook.cells) if "check_parameters(" in cell.source]
    assert bare in ([], checks)


def test_sound_can_be_heard(notebook):
    assert any("Audio(" in cell.source for cell in code(notebook))


@pytest.mark.parametrize(
    ("name", "in_view"),
    [
        ("01_dataset", ["signal = (variance_of_sum - sum_of_variances) / (n * (n - 1))", "bt.noise_ceiling"]),
        ("02_brain_tune", ["class BrainTuned(nn.Module)", "loss.backward()", "optimiser.step()", "bt.brain_tune("]),
        (
            "03_brain_alignment",
            ["np.linalg.svd(", "s / (s**2 + alpha**2)", "(y[held_out] - predicted) ** 2", "r / ceiling"],
        ),
    ],
)
def test_what_a_notebook_teaches_is_in_view_and_compared_with_the_library(name, in_view):
    cells = [cell.source for cell in code(nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4))]
    source = "\n".join(cells)
    assert [line for line in in_view if line not in source] == []
    assert source.count("assert") >= 2


@pytest.mark.parametrize("room", ["elsewhere", "nowhere"])
def test_a_notebook_runs_where_tmpdir_is_too_long_for_a_socket(tmp_path: Path, monkeypatch, room):
    scratch = tmp_path / "scratch of a project, ünï" / ("x" * 60) / ("y" * 60)
    scratch.mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    monkeypatch.setenv("TMPDIR", str(scratch))
    if room == "nowhere":
        monkeypatch.setattr(notebooks.os, "access", lambda *_: False)
    with notebooks.folder_for_sockets("kernel-") as folder:
        assert (folder is None) == (room == "nowhere") and len(f"{folder}/ipc") < 100
    cells = [
        nbformat.v4.new_code_cell("word = ''", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("print(word * 2)"),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), tmp_path / "echo.ipynb")
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)
    executed = nbformat.read(execute("echo", tmp_path / "a b" / "out.ipynb", {"word": "long"}), as_version=4)
    assert executed.cells[-1].outputs[0].text == "longlong\n"
    assert not list(scratch.glob("kernel-*"))


@pytest.mark.parametrize("kind", ["InputError", "MissingTier"])
def test_what_a_notebook_refuses_is_the_same_sentence_outside(tmp_path, monkeypatch, kind):
    source = f"from braintuning.errors import {kind}\n\nraise {kind}('a.TextGrid: no phones')"
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)], metadata=metadata)
    nbformat.write(made, tmp_path / "refuses.ipynb")
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)
    with pytest.raises(InputError, match=r"^a\.TextGrid: no phones$"):
        execute("refuses", tmp_path / "out.ipynb", {})


def test_whatever_else_stops_a_notebook_is_named_with_the_file_to_open(tmp_path, monkeypatch):
    cells = [nbformat.v4.new_code_cell("print('so far')"), nbformat.v4.new_code_cell("{}['voxels']")]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)

    def run():
        nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), tmp_path / "stops.ipynb")
        return execute("stops", tmp_path / "out" / "stops.ipynb", {})

    kept = tmp_path / "out" / "stops.failed.ipynb"
    with pytest.raises(NotebookError) as stopped:
        run()
    assert str(stopped.value) == f"notebook stops stopped at cell [2]: KeyError: 'voxels'; open {kept} to see it"
    shown = nbformat.read(kept, as_version=4)
    assert any(output.get("text") == "so far\n" for cell in code(shown) for output in cell.outputs)
    assert [path.name for path in kept.parent.iterdir()] == ["stops.failed.ipynb"]
    cells[1].source = "1"
    run()
    assert [path.name for path in kept.parent.iterdir()] == ["stops.ipynb"]


def test_two_at_once_do_not_hear_each_other_and_leave_nothing_behind(tmp_path: Path):
    cells = [
        nbformat.v4.new_code_cell("word = ''", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("import time\n\ntime.sleep(2)\nprint(word * 2)"),
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), tmp_path / "echo.ipynb")
    script = (
        "import sys; from pathlib import Path; from braintuning.pipeline import notebooks; folder = Path(sys.argv[1]); "
        "notebooks.NOTEBOOKS = folder; notebooks.execute('echo', folder / f'{sys.argv[2]}.out', {'word': sys.argv[2]})"
    )
    words = ("one", "two")
    running = [subprocess.Popen([sys.executable, "-c", script, tmp_path, word]) for word in words]
    assert [process.wait(120) for process in running] == [0, 0]
    for word in words:
        executed = nbformat.read(tmp_path / f"{word}.out", as_version=4)
        assert executed.cells[-1].outputs[0].text == word * 2 + "\n"
    assert {p.name for p in tmp_path.iterdir()} == {"echo.ipynb", *(f"{word}.out" for word in words)}
