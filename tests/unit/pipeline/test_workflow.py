"""What the workflow makes anew where results are missing, asked of Snakemake with a file in place of each result."""

import os
import subprocess
import sys

import pytest
import tiny
from braintuning.results import REPOSITORY
from braintuning.study import Run, load_study
from tiny_people import PEOPLE, content, write_recording

PRETRAINED = Run("small", "pretrained")
CHANGES = {
    "conditions": ["pretrained"],
    "figures": {"notebooks": ["fig2", "fig3", "fig4", "fig5"]},
    "low_level": {"features": ["articulation"]},
    "probes": {"tasks": ["mfcc", "phonemes"]},
    "preference": {"n_pairs": 4},
}


def snakemake(study, *options, check=True):
    command = [sys.executable, "-m", "snakemake", "--snakefile", REPOSITORY / "Snakefile", "--directory", REPOSITORY]
    command += ["--cores", 1, "--nolock", "--rerun-triggers", "mtime", "params", *options]
    command = [*map(str, command), "--config", f"study={study.source[0]}"]
    environment = {**os.environ, "BRAINTUNING_COSTS": "null"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=check).stdout.splitlines()


def jobs(study):
    """Jobs that a run would start, by what it says of them."""
    return {line.strip() for line in snakemake(study, "--dry-run", "--logger", "braintuning") if line[:2] == "  "}


@pytest.fixture(scope="module")
def made(tmp_path_factory, pristine):
    """A study, and every file that its workflow makes."""
    folder, backbone = tmp_path_factory.mktemp("workflow"), pristine.root.parent / "backbone"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINTUNING_RESULTS", str(folder / "results"))
        patch.delenv("BRAINTUNING_FIGURES", raising=False)
        settings = tiny.study_content(pristine.root, backbone) | CHANGES
        study = load_study(tiny.write_yaml(folder / "tiny.yaml", settings))
        yield study, [REPOSITORY / line.split("\t")[0] for line in snakemake(study, "--summary")[1:]]


@pytest.fixture
def finished(made):
    """The study with all of its files there, of the same age."""
    study, files = made
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        os.utime(path, (2e9, 2e9))
    return study


def test_a_missing_result_is_made_though_the_figure_that_was_drawn_from_it_stands(finished):
    assert jobs(finished) == set()
    finished.probe_file("mfcc", PRETRAINED).unlink()
    finished.preference_file(PRETRAINED).with_suffix(".csv").unlink()
    finished.low_level_alone_file("P2").unlink()
    assert jobs(finished) == {
        "downstream tasks in small_pretrained", "figure fig4", "semantic preference of small_pretrained", "figure fig5",
        "what low-level features explain of P2", "low-level impact of small_pretrained on P2", "figure fig3",
        "report", "all",
    }  # fmt: skip


@pytest.mark.parametrize("fails", [False, True])
def test_downstream_tasks_that_are_done_stay_when_another_one_is_measured(finished, tmp_path, monkeypatch, fails):
    done, other = (finished.probe_file(task, PRETRAINED) for task in ("mfcc", "phonemes"))
    done.write_text("done")
    os.utime(done, (2e9, 2e9))
    missing = [other, other.with_suffix(".csv")]
    for file in missing:
        file.unlink()
    step = tmp_path / "bin" / "python"
    step.parent.mkdir()
    made = " ".join(map(str, missing[:1] if fails else missing))
    step.write_text(f"#!/bin/sh\ncat {done} > {tmp_path}/seen\ntouch {made}\nexit {int(fails)}\n")
    step.chmod(0o755)
    monkeypatch.setenv("PATH", f"{step.parent}{os.pathsep}{os.environ['PATH']}")
    snakemake(finished, "--keep-incomplete", other, check=not fails)
    assert (tmp_path / "seen").read_text() == done.read_text() == "done" and other.is_file()


def test_a_dataset_is_checked_again_and_what_was_made_from_it_is_kept(finished):
    (finished.results / "dataset.json").unlink()
    assert jobs(finished) == {"read and check the dataset", "notebook 01_dataset", "report", "all"}


def test_people_who_share_jobs_have_their_own_where_they_are_fitted_to_less(tmp_path, monkeypatch):
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / "results"))
    for recording in PEOPLE:
        write_recording(tmp_path, recording)
    figures = {"notebooks": ["figB"], "story_counts": [1]}
    made = content(tmp_path, tmp_path / "backbone") | {"figures": figures}
    found = jobs(load_study(tiny.write_yaml(tmp_path / "people.yaml", made)))
    assert {"align small_pretrained with everyone", "align small_pretrained with sub-04, first 1 stories"} <= found
    assert "figure figB" in found and "align small_pretrained with sub-04" not in found
