import json
from types import SimpleNamespace

import pytest
from braintuning.pipeline import engine, recipes
from braintuning.pipeline.engine import INSIDE_A_JOB, ensure, run_workflow
from braintuning.results import REPOSITORY
from braintuning.study import Run, load_study
from snakemake.cli import parse_config
from tiny import refused

RUN = Run("small", "pretrained")


@pytest.fixture
def commands(monkeypatch):
    """Commands that would have been run, and the status that each ends with."""
    made = SimpleNamespace(given=[], status=0)

    def run(command, env, **_):
        made.given.append((command, env))
        return SimpleNamespace(returncode=made.status)

    monkeypatch.setattr(engine.subprocess, "run", run)
    monkeypatch.delenv(INSIDE_A_JOB, raising=False)
    return made


def test_a_notebook_asks_the_workflow_for_the_results_that_it_reads(study, commands):
    ensure(study, [study.scores_file("P1", RUN)], "cpu", max_memory=3)
    ((command, _),) = commands.given
    assert command[command.index("--") + 1 :] == [str(study.scores_file("P1", RUN))]
    file, root = study.source
    assert root is None and command[command.index("--config") + 1 : command.index("--")] == [
        f'study=["{file}"]', 'device=["cpu"]', "max_memory=3",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "name", ["my drive", "a: b", "no #1", "'quoted'", 'say "so"', "Ünï ß", "a\\b", "=x", "[1]", "it's"]
)
def test_snakemake_reads_the_path_of_a_study_as_it_is(study, commands, tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    file = folder / "tiny.yaml"
    file.write_text(study.source[0].read_text())
    run_workflow(load_study(file, root=str(folder / name)))
    ((command, _),) = commands.given
    config = parse_config(command[command.index("--config") + 1 : command.index("--")])
    assert config == {"study": [str(file)], "root": [str(folder / name)], "device": ["cpu"]}


def test_a_dataset_of_a_study_that_has_changed_is_checked_before_all_else(study, commands):
    record = study.results / "dataset.json"

    def wanted():
        commands.given.clear()
        run_workflow(study, targets=["a result"])
        return [command[command.index("--") + 1 :] for command, _ in commands.given]

    assert wanted() == [["a result"]]
    record.write_text(json.dumps({"recipe": recipes.dataset(study).fingerprint}))
    assert wanted() == [["a result"]]
    record.write_text("")
    assert wanted() == [[str(record)], ["a result"]]
    record.write_text(json.dumps({"recipe": "another"}))
    assert wanted() == [[str(record)], ["a result"]]
    commands.status = 1
    assert wanted() == [[str(record)]]


def test_folders_of_results_are_the_same_wherever_a_command_is_run(study, tmp_path, monkeypatch):
    for variable in ("BRAINTUNING_RESULTS", "BRAINTUNING_FIGURES"):
        monkeypatch.setenv(variable, "somewhere")
    found = set()
    for folder in (tmp_path, REPOSITORY / "notebooks"):
        monkeypatch.chdir(folder)
        found |= {study.results.absolute(), study.figures_folder.absolute()}
    assert found == {REPOSITORY / "somewhere" / "tiny"}


def test_an_empty_file_is_no_result(study, commands):
    files = [study.scores_file("P1", RUN), study.scores_file("P1", RUN).with_suffix(".csv"), study.features_file(RUN)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    files[2].write_text("something")
    run_workflow(study, dry_run=True)
    assert all(file.is_file() for file in files)
    run_workflow(study)
    assert [file.is_file() for file in files] == [False, False, True]


@pytest.mark.parametrize("variable", ["BRAINTUNING_RESULTS", "BRAINTUNING_FIGURES"])
def test_a_brace_in_the_path_of_results_is_refused(study, commands, tmp_path, monkeypatch, variable):
    monkeypatch.setenv(variable, str(tmp_path / "a{b}"))
    refused(lambda: run_workflow(study), tmp_path / "a{b}" / "tiny", "brace", "expected none")
    assert commands.given == [] and not (tmp_path / "a{b}").exists()
    monkeypatch.delenv(variable)
    monkeypatch.setattr(engine, "CACHE", tmp_path / "c{d}")
    refused(lambda: run_workflow(study), tmp_path / "c{d}", "brace", "expected none")


def test_within_a_job_nothing_is_asked_for(study, commands, monkeypatch):
    monkeypatch.setenv(INSIDE_A_JOB, "1")
    ensure(study, [study.scores_file("P1", RUN)])
    assert commands.given == []


def test_nothing_is_asked_for_where_a_notebook_reads_no_result(study, commands):
    ensure(study, [])
    assert commands.given == []


def test_a_step_that_fails_stops_the_notebook_in_one_sentence(study, commands):
    commands.status = 1
    refused(lambda: ensure(study, [study.scores_file("P1", RUN)]), "study tiny", "a step failed")


def test_a_study_that_was_made_in_python_has_no_workflow(study, commands):
    made = type(study).model_validate(study.model_dump())
    refused(lambda: run_workflow(made), "study tiny", "was not read from a file")
    assert commands.given == []
