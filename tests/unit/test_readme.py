"""What the README says is run as it stands there, offline: the Python example, the study, and every command.

A command that takes long is run with `DRY_RUN=1`, one that opens a window is printed by make.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import measured
import pytest
import yaml
from braintuning.backbone import weights
from braintuning.pipeline.check import check
from braintuning.study import load_study
from ct2_files import packaged_tiny
from huggingface_hub import constants
from matplotlib import pyplot as plt

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
TEXT = README.read_text()
SHOWN, RUN_BY_TEST_SITE, CHECKS = ("make lab",), ("make docs",), ("make check STUDY=mine.yaml",)
"""Commands that are not run here: what make would run is looked at, and `test_site.py` builds the site."""
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)
COMMANDS = [line for language, block in BLOCKS if not language for line in block.splitlines()]
COMMANDS += re.findall(r"`((?:make|python|snakemake) [^`]+)`", TEXT)


@pytest.fixture
def offline(monkeypatch, tmp_path):
    """No network and no weights but those of the installed package; files are written to a folder of the test."""
    packaged_tiny()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(weights, "CACHE", tmp_path)
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    yield tmp_path
    plt.close("all")


def test_python_example_runs(offline):
    (example,) = re.findall(r"^```python\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)
    names = {}
    exec(compile(example, str(README), "exec"), names)
    assert names["hidden"].shape == (5, 1, 50, 384)
    assert names["model"].predict(names["features"]).shape == (100, 59_412)
    assert 0.6 < names["score"] < 0.95
    assert (offline / "ceiling.png").stat().st_size > 50_000


def own_study(folder):
    """The study of the README, of data in a folder."""
    (text,) = (block for language, block in BLOCKS if language == "yaml")
    path = folder / "mine.yaml"
    path.write_text(text.replace("/data/mine", str(folder)))
    assert yaml.safe_load(path.read_text())["dataset"]["root"] == str(folder)
    return path


def run(command, folder):
    """What a command prints, with this interpreter's packages, and results in a folder; it has to succeed."""
    own_study(folder)
    (folder / "bin").mkdir(exist_ok=True)
    if not (folder / "bin" / "python").exists():
        (folder / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (folder / "bin" / "python").chmod(0o755)
    words = [word.replace("mine.yaml", str(folder / "mine.yaml")) for word in command.split()]
    kept = {f"BRAINTUNING_{name}": str(folder / name.lower()) for name in ("RESULTS", "FIGURES", "CACHE")}
    environment = os.environ | kept | {"HF_HUB_OFFLINE": "1"}
    given = [*words, f"BIN={folder / 'bin'}", "CORES=1"]
    ran = subprocess.run(given, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_commands_are_found():
    assert {"make figures", "make lab", "make docs", "make figures STUDY=mine.yaml", *CHECKS} <= set(COMMANDS)


DRY = {f"{one.removesuffix(' DRY_RUN=1')} DRY_RUN=1" for one in {*COMMANDS} - {*SHOWN, *RUN_BY_TEST_SITE, *CHECKS}}


@pytest.mark.parametrize("command", sorted(DRY))
def test_command_lists_its_jobs(command, tmp_path):
    printed = run(command, tmp_path)
    assert re.search(r"\d+ jobs to do: about \d+", printed) and "figure fig2" in printed
    assert ("on anna" in printed) == ("mine.yaml" in command)


@pytest.mark.parametrize("command", SHOWN)
def test_command_that_opens_a_window_starts_programs_that_are_there(command, tmp_path):
    printed = run(f"{command} --dry-run", tmp_path)
    programs = re.findall(r'"[^"]+/bin"/(\S+)', printed)
    assert programs == ["python", "jupyter"] and "notebooks" in printed
    assert shutil.which("jupyter", path=str(Path(sys.executable).parent)) or shutil.which("jupyter")


@pytest.mark.parametrize("command", CHECKS)
def test_command_that_checks_reads_the_study(command, tmp_path):
    assert f'-m braintuning check --study "{tmp_path / "mine.yaml"}"' in run(f"{command} --dry-run", tmp_path)


def test_own_study_differs_from_the_demo_in_what_it_names(tmp_path):
    mine, demo = load_study(str(own_study(tmp_path))), load_study("demo")
    assert mine.participants == ("anna", "bert") and mine.dataset.simulation is None and mine.dataset.tr == 1.5
    assert mine.stories.all == ("lecture1", "lecture2", "lecture3", "lecture4")
    assert mine.tuning == demo.tuning and mine.encoding == demo.encoding


def test_own_study_reads_data_in_that_layout(offline, tmp_path):
    """Two participants with recordings, TextGrids and responses of a lab; fsaverage is given, not downloaded."""
    spec = importlib.util.spec_from_file_location("own_data", ROOT / "tests" / "e2e" / "test_own_data.py")
    own_data = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(own_data)
    own = own_data.OwnData(tmp_path)
    content = yaml.safe_load(own_study(own.root).read_text())
    content["dataset"]["fsaverage"] = str(tmp_path / "fsaverage")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
    assert tuple(check(load_study(str(tmp_path / "mine.yaml"))).participants) == ("anna", "bert")


def test_results_are_those_of_the_committed_tables():
    assert measured.with_results(TEXT) == TEXT, "run `python docs/measured.py`"
    assert TEXT.count(measured.BEGIN) == TEXT.count(measured.END) == 1
    assert measured.block().count("\n") > 8


def test_it_is_short():
    assert len(TEXT.splitlines()) < 120
