"""What a job says that fails, where it says it, and what the run says of it in the end."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from braintuning import cli
from braintuning.errors import InputError, NotebookError
from braintuning.pipeline import cost, engine
from braintuning.pipeline.times import INSIDE_A_JOB, log_of, write_failure, write_times
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_logger_plugin_braintuning import LogHandler


@pytest.fixture
def job(tmp_path, monkeypatch):
    """This process as a job of the workflow; the file that it would write its times into."""
    path = tmp_path / "times" / "tune" / "a.tsv"
    monkeypatch.setenv(INSIDE_A_JOB, str(path))
    return path


def failing(error):
    try:
        raise error
    except type(error) as caught:
        return caught


@pytest.mark.parametrize("kind", [InputError, NotebookError])
def test_a_sentence_for_the_user_is_all_that_the_log_of_a_job_says(job, kind):
    assert write_failure(failing(kind("a.wav: found none,\n  expected one"))) == "a.wav: found none, expected one"
    assert log_of(job).read_text() == "a.wav: found none, expected one\n"
    write_times(job, 1, 1, 1)
    assert not log_of(job).exists()


def test_any_other_error_has_its_kind_the_line_of_the_library_and_its_traceback_in_the_log(job):
    try:
        cost.kind_of(None)
    except AttributeError as error:
        line = write_failure(error)
    said, _, trace = log_of(job).read_text().partition("\n")
    assert said == line and line.startswith("AttributeError: 'NoneType'") and "(cost.py, line " in line
    assert trace.startswith("Traceback") and "test_failures.py" in trace


def test_outside_a_job_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in (None, "1"):
        monkeypatch.delenv(INSIDE_A_JOB, raising=False) if value is None else monkeypatch.setenv(INSIDE_A_JOB, value)
        assert write_failure(failing(InputError("no"))) == "no"
    assert not list(tmp_path.iterdir())


def broken(*_):
    raise KeyError("voxels")


def test_a_command_that_breaks_says_one_line_in_a_job_and_all_elsewhere(job, monkeypatch, capsys):
    monkeypatch.setattr(cli, "load_study", broken)
    assert cli.main(["ceiling"]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith("error: KeyError: 'voxels' (cli.py, line ")
    assert "Traceback" in log_of(job).read_text()
    monkeypatch.delenv(INSIDE_A_JOB)
    with pytest.raises(KeyError):
        cli.main(["ceiling"])


def interrupted(*_, **__):
    os.kill(os.getpid(), signal.SIGINT)


def test_an_interrupted_run_says_how_to_go_on(study, monkeypatch, capsys):
    monkeypatch.setattr(engine.subprocess, "run", interrupted)
    monkeypatch.delenv(INSIDE_A_JOB, raising=False)
    assert cli.main(["figures", "--study", str(study.source[0])]) == 130
    said = capsys.readouterr()
    assert said.err == "interrupted; what is done is kept, and the same command goes on from there\n"
    assert "\x1b" not in said.out


def test_a_run_that_is_told_to_end_leaves_nothing_running(study, tmp_path):
    """As a scheduler does it; the stand-in for Snakemake writes its number down and sleeps."""
    stand_in = "import os, time; open(os.environ['STARTED'], 'w').write(str(os.getpid())); time.sleep(60)"
    (tmp_path / "snakemake.py").write_text(stand_in)
    paths, started = os.pathsep.join([str(tmp_path), *filter(None, sys.path)]), tmp_path / "started"
    environment = {**os.environ, "PYTHONPATH": paths, "STARTED": str(started)}
    environment.pop(INSIDE_A_JOB, None)
    command = [sys.executable, "-m", "braintuning", "figures", "--study", str(study.source[0])]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as run:
        while not (started.is_file() and started.read_text()):
            assert run.poll() is None, run.stderr.read()
            time.sleep(0.05)
        run.terminate()
        assert run.wait(timeout=20) == 130 and "interrupted" in run.stderr.read()
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_an_interrupted_job_leaves_the_word_to_the_run(job, monkeypatch, capsys):
    monkeypatch.setattr(cli, "load_study", interrupted)
    assert cli.main(["ceiling"]) == 130
    assert "interrupted" not in capsys.readouterr().err


@pytest.fixture
def told(tmp_path, monkeypatch):
    """Tell Snakemake's logger of an event; `close` ends the run."""
    monkeypatch.setenv(cost.COSTS, json.dumps(None))
    monkeypatch.chdir(tmp_path)
    handler = LogHandler(SimpleNamespace(dryrun=False), None)

    def event(kind, level=logging.INFO, msg="", **more):
        handler.emit(logging.makeLogRecord({"event": kind, "msg": msg, "levelno": level, **more}))

    event.close = handler.close
    return event


def test_a_run_says_in_the_end_what_failed_why_and_what_to_open(tmp_path, told, capsys):
    (tmp_path / "a.log").write_text("KeyError: 'voxels' (loop.py, line 3)\nTraceback\n")
    (tmp_path / "b.log").write_text("b.wav: found none, expected one\n")
    told(LogEvent.RUN_INFO, stats={"total": 5, "tune": 3, "figure": 2})
    for number, name in enumerate("abc"):
        told(LogEvent.JOB_INFO, jobid=number, rule_name="tune", rule_msg=f"tune {name}", log=[f"{name}.tsv"])
        told(LogEvent.ERROR, logging.ERROR, "CalledProcessError in file Snakefile", exception="RuleException")
        told(LogEvent.JOB_ERROR, jobid=number, rule_name="tune")
    told(None, logging.ERROR, "Exiting because a job execution failed. Look below for error messages")
    told(LogEvent.JOB_ERROR, jobid=0, rule_name="tune")
    told.close()
    told.close()
    lines = [line.partition("] ")[2] or line for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if "FAILED" in line] == ["FAILED  tune a", "FAILED  tune b", "FAILED  tune c"]
    assert lines[-6:] == [
        "3 of 5 jobs failed, 2 wait for them; what is done is kept",
        "  tune a: KeyError: 'voxels' (loop.py, line 3)",
        "    its traceback: a.log",
        "  tune b: b.wav: found none, expected one",
        "  tune c: it ended without a word, killed perhaps",
        "Once the cause is mended, the same command goes on from here.",
    ]
    assert not any("CalledProcessError" in line or "Exiting" in line for line in lines)


def test_a_job_that_succeeds_when_a_cluster_tries_it_again_has_not_failed(told, capsys):
    told(LogEvent.RUN_INFO, stats={"total": 2, "tune": 2})
    for number, failures in enumerate((1, 3)):
        for _ in range(failures):
            told(LogEvent.JOB_INFO, jobid=number, rule_name="tune", rule_msg=f"tune {number}", log=[])
            told(LogEvent.JOB_ERROR, jobid=number, rule_name="tune")
    told(LogEvent.JOB_INFO, jobid=0, rule_name="tune", rule_msg="tune 0", log=[], output=[])
    told(LogEvent.JOB_FINISHED, job_id=0)
    told.close()
    said = capsys.readouterr().out
    assert said.count("FAILED") == 4 and "1 of 2 jobs failed, 0 wait" in said
    assert "  tune 0: " not in said and said.count("  tune 1: ") == 1


def test_what_snakemake_itself_finds_wrong_is_told(told, capsys):
    told(LogEvent.ERROR, logging.ERROR, "MissingInputException in rule tune")
    assert "MissingInputException in rule tune" in capsys.readouterr().out


def test_help_has_groups_and_examples():
    command = [sys.executable, "-m", "braintuning", "--help"]
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1"}
    whole = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    for expected in (cli.RUN, cli.DATA, cli.STEP, *cli.EXAMPLES[:-2]):
        assert expected in whole
    for expected in cli.EXAMPLES[-2:]:
        assert expected in " ".join(whole.split())


def test_every_option_of_every_command_is_explained():
    from typer.main import get_command

    commands = get_command(cli.app).commands
    assert {"figures", "publish", "tune", "report"} <= set(commands)
    for name, command in commands.items():
        assert command.help, name
        assert [p.name for p in command.params if not p.help and not p.hidden and p.name != "help"] == [], name
    options = {name: {p.name for p in command.params} for name, command in commands.items()}
    assert options["tune"] >= {"backbone", "condition", "participant", "max_memory"}
    assert options["words"] - {"help"} == {"study", "root", "device"}
    assert "first" in options["align"] and "first" not in options["tune"]


def test_a_job_that_begins_forgets_why_an_earlier_attempt_failed(job):
    write_failure(failing(InputError("mended since")))
    assert cli.main(["align", "--backbone", "none"]) == 1
    assert "mended since" not in log_of(job).read_text()
    write_failure(failing(InputError("mended since")))
    assert cli.main(["--help"]) == 0 and not log_of(job).exists()
