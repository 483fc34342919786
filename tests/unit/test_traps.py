"""Traps of the surroundings: programs that nobody has, and calls that are gone or unsafe."""

import ast
import importlib
import json
import os
import subprocess

import numpy as np
import pytest
import tiny_subject
from braintuning.cortex.flatmap import plot_flatmap
from braintuning.cortex.pycortex import import_pycortex, participant_cortex
from braintuning.results import REPOSITORY
from matplotlib.figure import Figure

GONE = {"np.in1d", "numpy.in1d", "cm.get_cmap", "plt.get_cmap", "torchaudio.load", "pickle.load", "pickle.loads"}


def sources():
    """Name and Python of every module and of every notebook's code cells, magics left out."""
    for path in sorted((REPOSITORY / "lib").rglob("*.py")):
        yield path.name, path.read_text()
    for path in sorted((REPOSITORY / "notebooks").glob("*.ipynb")):
        cells = [cell["source"] for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
        lines = [line for cell in cells for line in "".join(cell).splitlines()]
        yield path.name, "\n".join(line for line in lines if not line.startswith(("%", "!")))


def offences(source):
    """Calls of what is gone, and of `torch.load` that might unpickle code."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ".".join(ast.unparse(node.func).split(".")[-2:])
            safe = any(k.arg == "weights_only" and ast.unparse(k.value) == "True" for k in node.keywords)
            if name in GONE or (name == "torch.load" and not safe):
                yield name


def test_no_module_or_notebook_calls_what_is_gone_or_unpickles():
    found = dict(sources())
    assert len(found) > 100 and "fig2.ipynb" in found
    assert {name: list(offences(source)) for name, source in found.items() if list(offences(source))} == {}


@pytest.mark.parametrize(
    "source",
    [
        "np.in1d(a, b)",
        "matplotlib.cm.get_cmap('x')",
        "torchaudio.load(p)",
        "torch.load(p)",
        "torch.load(p, weights_only=0)",
    ],
)
def test_the_search_finds_what_it_is_for(source):
    assert list(offences(f"def f():\n    return {source}\n"))


def test_trap_a_participants_flat_map_needs_no_inkscape(tmp_path, monkeypatch):
    import_pycortex(tmp_path / "pycortex")
    overlay = importlib.import_module("cortex.svgoverlay")
    for program in ("system", "popen", "execvp", "posix_spawn"):
        monkeypatch.setattr(os, program, lambda *_, **__: pytest.fail("a program was called"))
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was called"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(overlay, "get_overlay", no_outlines)
    monkeypatch.setattr(overlay, "SVGOverlay", no_outlines)
    tiny_subject.write_subject(tmp_path / "derivative", "UTS03", seed=0)
    fsaverage = tiny_subject.write_fsaverage(tmp_path / "fsaverage")
    cortex = participant_cortex(tmp_path / "derivative", "UTS03", fsaverage, tmp_path)
    values, axes = np.ones(cortex.n_voxels), Figure().add_subplot()
    plot_flatmap(values, cortex, vmin=0, vmax=1, ax=axes)
    assert axes.images and axes.collections


def no_outlines(*_, **__):
    pytest.fail("pycortex was asked for outlines")
