import json
import os
import subprocess
import sys

import nbformat
import numpy as np
import pytest
import tiny
import torch
from braintuning import cli as command_line
from braintuning.datasets import open_dataset
from braintuning.datasets.lebel import LebelDataset
from braintuning.pipeline import engine, notebooks
from braintuning.study import load_study
from braintuning.timing import SAMPLE_RATE
from tiny import one_sentence


@pytest.fixture(autouse=True)
def kept_in_tmp(tmp_path, monkeypatch):
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("BRAINTUNING_FIGURES", str(tmp_path / "figures"))
    monkeypatch.setattr(LebelDataset, "cortex", lambda *_: tiny.cortex())


@pytest.fixture
def content(files, pristine):
    return tiny.study_content(files.root, pristine.root.parent / "backbone")


@pytest.fixture
def failure(tmp_path, content, capsys):
    """Message of a command that fails; the study is `content` as it is when the command runs."""

    def run(*arguments):
        path = tiny.write_yaml(tmp_path / "tiny.yaml", content)
        code = command_line.main([*map(str, arguments), "--study", str(path)])
        captured = capsys.readouterr()
        assert code == 1, captured
        assert captured.err.startswith("error: ") and captured.err.count("\n") == 1, captured.err
        return captured.err.strip()

    return run


@pytest.fixture
def check(failure, tmp_path):
    """Message of a failing `check`, which must leave nothing behind."""

    def run():
        message = failure("check")
        assert not (tmp_path / "results").exists()
        return message

    return run


def test_check_of_a_good_study_writes_what_it_found_and_says_when_it_lies(tmp_path, content, capsys):
    path = tiny.write_yaml(tmp_path / "tiny.yaml", content)
    assert command_line.main(["check", "--study", str(path)]) == 0
    found = json.loads((load_study(str(path)).results / "dataset.json").read_text())
    assert found["participants"] == ["P1", "P2"] and found["root"] == content["dataset"]["root"]
    told, study = capsys.readouterr().out.splitlines(), load_study(str(path))
    stories, last = told[-1 - len(study.stories.all) : -1], told[-1]
    assert [line.split(":")[0] for line in stories] == list(study.stories.all)
    dataset = open_dataset(study)
    times, seconds = dataset.tr_times("P1", "harbour"), len(dataset.audio("harbour")) / SAMPLE_RATE
    read = f"P1, P2: {len(times)} TRs from {times[0]:.1f} to {times[-1]:.1f} s, predicted from 2.0 to 4.0 s before"
    assert f"harbour: sound from 0 to {seconds:.1f} s, {len(dataset.words('harbour'))} words; {read}" in stories
    assert last == "study tiny: every file that it uses can be read"


@pytest.mark.parametrize("older", [False, True])
def test_a_page_older_than_the_alignment_is_written_anew(tmp_path, content, monkeypatch, older):
    study = load_study(tiny.write_yaml(tmp_path / "tiny.yaml", content))
    page, scores = study.figures_folder / "viewer" / "index.html", study.scores_file(*next(iter(study.alignments())))
    for file, seconds in ((page, 1000), (scores, 2000 if older else 500)):
        file.parent.mkdir(parents=True)
        file.touch()
        os.utime(file, (seconds, seconds))
    written, opened = [], []
    monkeypatch.setattr("braintuning.figures.viewer.write_study_viewer", lambda study, dataset: written.append(study))
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert command_line.main(["viewer", "--study", str(tmp_path / "tiny.yaml")]) == 0
    assert len(written) == older and opened == [page.as_uri()]


def test_unknown_study(capsys):
    assert command_line.main(["figures", "--study", "dmo"]) == 1
    one_sentence(capsys.readouterr().err.strip(), "no such study", "did you mean 'demo'?")


def test_unknown_participant_of_the_study(check, content):
    content["participants"] = ["P1", "UTS09"]
    one_sentence(check(), "UTS09", "no such participant", "P1, P2")


def test_unknown_participant_on_the_command_line(failure):
    one_sentence(failure("ceiling", "--participant", "P3"), "study tiny", "unknown participant 'P3'")
    message = failure("extract", "--backbone", "small", "--condition", "brain-tuned", "--participant", "P3")
    one_sentence(message, "unknown participant 'P3'")


def test_participant_left_out_on_the_command_line(failure):
    one_sentence(failure("ceiling"), "unknown participant", "P1, P2")


def test_folder_that_is_no_dataset(failure, tmp_path):
    message = failure("check", "--root", tmp_path / "elsewhere")
    one_sentence(message, tmp_path / "elsewhere", "respdict.json", "expected")
    assert not (tmp_path / "results").exists()


def spoil_data(change):
    def spoil(files):
        data = np.random.default_rng(0).standard_normal((tiny.N_ROWS, tiny.N_VOXELS))
        files.write_responses("P2", "orchard", change(data))

    return spoil


def test_bad_input_is_one_sentence_before_anything_is_written(check, files):
    spoil_data(lambda data: data[1:])(files)
    one_sentence(check(), "P2/orchard.hf5", "(19, 30)", "expected 20 rows")


def test_cuda_without_a_gpu(failure, monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(engine.subprocess, "run", lambda *_, **__: pytest.fail("the workflow was started"))
    one_sentence(failure("figures", "--device", "cuda"), "no CUDA GPU", "use 'cpu'")
    assert not (tmp_path / "results").exists()


def test_two_runs_of_a_study_at_once(failure, tmp_path):
    import fcntl

    (tmp_path / "results" / "tiny").mkdir(parents=True)
    with open(tmp_path / "results" / "tiny" / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        one_sentence(failure("figures"), "study tiny", "another run")


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """Put a notebook with these cells, the first its parameters, where the command looks for notebooks."""
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path / "notebooks")
    (tmp_path / "notebooks").mkdir()

    def write(*cells):
        made = [nbformat.v4.new_code_cell(cell) for cell in cells]
        made[0].metadata["tags"] = ["parameters"]
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        nbformat.write(nbformat.v4.new_notebook(cells=made, metadata=kernel), tmp_path / "notebooks" / "look.ipynb")

    return write


def test_notebook_that_does_not_exist(failure, notebook, tmp_path):
    notebook('study = "demo"')
    message = failure("notebook", "loook", "--out", tmp_path / "out.ipynb")
    one_sentence(message, "loook.ipynb", "no such notebook", "did you mean 'look'?")


def test_notebook_parameter_that_does_not_exist(failure, notebook, tmp_path):
    notebook('study = "demo"\nbackbon = "small"')
    message = failure("notebook", "look", "--backbone", "small", "--out", tmp_path / "out.ipynb")
    one_sentence(message, "look.ipynb", "no parameter 'backbone'", "did you mean 'backbon'?")
    assert not (tmp_path / "out.ipynb").exists()


def test_bad_input_inside_a_notebook_is_the_same_sentence(failure, notebook, tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "REPOSITORY", tmp_path)
    notebook(
        'study = "demo"',
        "from braintuning.errors import InputError\nraise InputError('P1.hf5: found none, expected one')",
    )
    message = failure("notebook", "look", "--out", tmp_path / "out.ipynb")
    assert message == "error: P1.hf5: found none, expected one"
    assert not (tmp_path / "out.ipynb").exists()


def test_the_command_itself_fails_with_one_line_and_code_1(tmp_path):
    command = [sys.executable, "-m", "braintuning", "figures", "--study", tmp_path / "none.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 1 and done.stdout == ""
    one_sentence(done.stderr.strip(), "error: ", tmp_path / "none.yaml", "no such study")
