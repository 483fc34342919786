"""What a run is expected to take, and the lines that say so."""

import json
import logging
import os
import re
import time
from types import SimpleNamespace

import pandas as pd
import pytest
from braintuning.pipeline import cost, engine
from braintuning.pipeline.times import write_times
from braintuning.results import REPOSITORY
from braintuning.study import load_study
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_logger_plugin_braintuning import LogHandler

OF_KINDS = {"tune": [100.0, 0.0, 1024.0], "align": [10.0, 0.0, 512.0], "figure": [5.0, 0.0, 300.0]}
COSTS = {"kinds": OF_KINDS, "disk": 1500.0, "free": 2e4, "basis": "earlier runs here", "cores": 2, "gpu_jobs": 1}


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    monkeypatch.setattr(cost, "LEDGER", tmp_path / "costs.json")
    return tmp_path / "costs.json"


def expected(study, device="cpu"):
    return cost.costs(study, device, 2, 1, calibrated=False)["kinds"]


def test_jobs_side_by_side_take_their_sum_over_the_cores_but_no_less_than_the_longest_way():
    assert cost.wall(COSTS, {"tune": 4, "align": 3, "align_first": 1, "all": 1}) == 220
    assert cost.wall(COSTS, {"tune": 1, "figure": 1, "notebook_of_02_brain_tune": 1}) == 105
    gpu = {**COSTS, "kinds": {"tune": [100.0, 100.0, 512.0]}}
    assert cost.wall(gpu, {"tune": 4}) == 400 and "0.11 GPU-hours" in cost.told(gpu, {"tune": 4})


def test_the_line_names_time_memory_disk_and_where_they_come_from():
    told = cost.told(COSTS, {"tune": 1, "align": 40})
    assert told == (
        "about 4 minutes on 2 cores, 1.5 GiB of memory, 1.5 GB of disk (20 GB free); from earlier runs here"
    )
    assert "hours on" in cost.told(COSTS, {"tune": 400})
    assert " on 1 core, " in cost.told({**COSTS, "cores": 1}, {"tune": 1})


def test_what_jobs_took_here_is_what_the_next_are_expected_to_take(study, ledger):
    before, began = expected(study), time.time() - 1
    for number, seconds in enumerate((40, 60)):
        write_times(study.results / "times" / "tune" / f"{number}.tsv", 2 * seconds, seconds, 1000 + number)
    write_times(study.results / "times" / "align" / "P1" / "old.tsv", 1, 500, 1)
    os.utime(study.results / "times" / "align" / "P1" / "old.tsv", (began - 60, began - 60))
    cost.learn(study, "cpu", began)
    after = expected(study)
    assert after["tune"] == pytest.approx([50, 0, 1001]) and after["align"] == before["align"]
    assert expected(study, "cuda")["tune"] != after["tune"], "another device"
    longer = study.model_copy(update={"tuning": study.tuning.model_copy(update={"epochs": 2 * study.tuning.epochs})})
    assert expected(longer)["tune"][0] == pytest.approx(cost.START + 2 * (50 - cost.START))


def test_much_smaller_jobs_tell_nothing_of_large_ones_and_do_not_take_their_place(study, ledger):
    def with_epochs(n):
        return study.model_copy(update={"tuning": study.tuning.model_copy(update={"epochs": n})})

    def ran(study, seconds):
        write_times(study.results / "times" / "tune" / "a.tsv", seconds, seconds, 1000)
        cost.learn(study, "cpu", time.time() - 1)

    large, small = with_epochs(40), with_epochs(1)
    before = expected(large)["tune"]
    ran(small, 7)
    assert expected(large)["tune"] == before and expected(small)["tune"] == pytest.approx([7, 0, 1000])
    ran(large, 900)
    ran(small, 7)
    assert expected(large)["tune"] == pytest.approx([900, 0, 1000])


@pytest.mark.parametrize("tr", [{"P1": 3.0, "P2": 2.0}, {"P1": {"harbour": 3.0}, "P2": 2.0}])
def test_trs_of_each_participant_have_an_estimate(study, ledger, tr):
    assert min(study.participants) == "P1" and "harbour" in study.stories.all
    longer = study.model_copy(update={"dataset": study.dataset.model_copy(update={"tr": 3.0})})
    own = study.model_copy(update={"dataset": study.dataset.model_copy(update={"tr": tr})})
    assert expected(own) == expected(longer) != expected(study)


def test_a_ledger_that_was_cut_off_is_none(study, ledger):
    before = expected(study)
    ledger.write_text('{"cpu": {"tune"')
    assert expected(study) == before


@pytest.mark.parametrize("name", ["demo", "demo-full", "paper", "alice", "dose", "paper-small"])
def test_every_study_has_an_estimate_that_grows_with_what_it_does(name, ledger):
    study = load_study(name)
    found = expected(study)
    assert found.keys() == cost.RATES.keys() and all(seconds > 0 for seconds, *_ in found.values())
    hop = study.features.model_copy(update={"hop_seconds": study.features.hop_seconds / 2})
    finer = expected(study.model_copy(update={"features": hop}))["extract"][0]
    assert finer - cost.START == pytest.approx(2 * (found["extract"][0] - cost.START))


def test_the_estimate_of_the_demo_is_near_what_it_took(ledger):
    """The table is of whatever work there was beside it."""
    table, found = pd.read_csv(REPOSITORY / "figures" / "demo" / "times.csv"), expected(load_study("demo"))
    total = sum(found[step][0] * jobs for step, jobs in zip(table["step"], table["jobs"], strict=True))
    assert 0.5 < total / (60 * table["minutes"].sum()) < 2


def test_recognition_on_a_corpus_costs_more_than_other_tasks(study, ledger, tmp_path):
    def seconds(**corpora):
        probes = study.probes.model_copy(update={"tasks": ("mfcc", "asr_tuned"), "corpora": corpora})
        return expected(study.model_copy(update={"probes": probes}))["probe"][0] - cost.START

    assert seconds(asr_tuned=str(tmp_path)) == pytest.approx(71 / 2 * seconds())


def test_a_machine_is_compared_with_the_reference():
    slower, _ = cost.calibrate("cpu")
    assert 0.05 < slower < 50


def test_a_dry_run_is_calibrated_and_every_run_passes_its_costs_on(study, ledger, monkeypatch):
    made = []
    monkeypatch.setattr(
        engine.subprocess, "run", lambda _, env, **__: made.append(env) or SimpleNamespace(returncode=0)
    )
    monkeypatch.setattr(cost, "calibrate", lambda device: (1000.0, 1.0))
    engine.run_workflow(study, dry_run=True)
    engine.run_workflow(study)
    dry, real = (json.loads(env[cost.COSTS]) for env in made)
    assert dry["basis"] == "a calibration of this machine" and real["basis"] == "another machine's speed"
    assert dry["kinds"]["tune"][0] - cost.START == pytest.approx(1000 * (real["kinds"]["tune"][0] - cost.START))


def events(monkeypatch, capsys, costs, *, dryrun=False):
    """A run of two figures' jobs as its lines tell it."""
    monkeypatch.setenv(cost.COSTS, json.dumps(costs))
    handler = LogHandler(SimpleNamespace(dryrun=dryrun), None)

    def event(kind, **more):
        record = logging.makeLogRecord({"event": kind, "msg": "", **more})
        handler.emit(record)

    event(LogEvent.RUN_INFO, stats={"total": 3, "tune": 2, "figure": 1})
    event(LogEvent.JOB_INFO, jobid=1, rule_name="tune", rule_msg="tune a", output=["a/provenance.json"])
    event(LogEvent.JOB_FINISHED, job_id=1)
    event(LogEvent.JOB_INFO, jobid=2, rule_name="figure", rule_msg="figure A", output=["x.ipynb", "f/figA.png"])
    event(LogEvent.JOB_FINISHED, job_id=2)
    event(LogEvent.JOB_INFO, jobid=3, rule_name="tune", rule_msg="tune b", output=["b/provenance.json"])
    event(LogEvent.JOB_ERROR, jobid=3, rule_name="tune")
    return [line.partition("] ")[2] or line for line in capsys.readouterr().out.splitlines()]


def test_a_run_says_what_is_done_what_is_left_and_until_when_and_names_what_it_drew(monkeypatch, capsys):
    lines = events(monkeypatch, capsys, COSTS)
    assert lines[0].startswith("3 jobs to do: about 2 minutes on 2 cores")
    assert lines[1] == "start   tune a" and re.fullmatch(r"done    tune a, 00:00; 2 left, about 00:\d\d", lines[2])
    assert lines[5] == "drawn   f/figA.png" and lines[-1] == "FAILED  tune b"


def test_by_hand_a_run_says_what_it_knows(monkeypatch, capsys):
    lines = events(monkeypatch, capsys, None)
    assert lines[0] == "3 jobs to do" and lines[2] == "done    tune a, 00:00; 2 left"
