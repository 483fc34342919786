"""What every notebook must be like before it is committed."""

from pathlib import Path

import nbformat
import pytest
from braintuning.errors import InputError
from braintuning.notebooks import NOTEBOOKS, execute

PATHS = sorted(NOTEBOOKS.glob("*.ipynb"))


@pytest.fixture(params=PATHS, ids=lambda path: path.stem)
def notebook(request) -> nbformat.NotebookNode:
    return nbformat.read(request.param, as_version=4)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_outputs_are_stripped(notebook):
    assert all(not cell.outputs and cell.execution_count is None for cell in code(notebook))


def test_kernel_is_python3(notebook):
    assert notebook.metadata.kernelspec.name == "python3"


def test_parameters_come_first_each_with_a_comment_and_are_checked_next(notebook):
    first, second = code(notebook)[:2]
    assert first.metadata.tags == ["parameters"]
    assert all("  # " in line for line in first.source.splitlines())
    names = [line.split(" =")[0] for line in first.source.splitlines()]
    assert "check_parameters(globals(), " + ", ".join(f'"{name}"' for name in names) + ")" in second.source


def test_cells_are_short_and_begin_with_prose(notebook):
    assert notebook.cells[0].cell_type == "markdown"
    assert max(len(cell.source.splitlines()) for cell in code(notebook)) <= 15


def test_sound_can_be_heard(notebook):
    assert any("Audio(" in cell.source for cell in code(notebook))


def test_a_parameter_that_does_not_exist_is_named_before_anything_runs(tmp_path: Path):
    with pytest.raises(InputError, match=r"has no parameter 'participnt'; did you mean 'participant'\?"):
        execute("02_brain_tune", tmp_path / "out.ipynb", {"participnt": "SIM01"})
    assert not list(tmp_path.iterdir())


def test_an_unknown_notebook_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="no such notebook; did you mean 'fig2'"):
        execute("fig22", tmp_path / "out.ipynb", {})
