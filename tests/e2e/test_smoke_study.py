"""The whole workflow on a small simulated study: run, rerun, repair, kill and resume, and further figures of it.

The notebooks of figures print what they work out by hand beside what a step found.
"""

import copy
import json
import os
import re
import signal
import time
from pathlib import Path

import corpus_files
import explored
import lab_page
import nbformat
import pandas as pd
import pytest
import yaml
from braintuning.pipeline.engine import run_workflow
from braintuning.pipeline.pictures import pictures_of
from braintuning.results import REPOSITORY
from braintuning.study import load_study
from smoke import Workflow

HERE = Path(__file__).parent
N_JOBS = 21
RESULT_OF_JOB = {
    r"noise ceiling of (\S+)": r"ceilings/\1.h5",
    r"features of (\S+)": r"features/\1.h5",
    r"align (\S+) with (\S+)": r"alignment/\2/\1.h5",
    r"tune (\S+)": r"models/\1/provenance.json",
}


def results_said_done(lines: list[str]) -> set[str]:
    """Results of the jobs that the run called done; what others had begun to write is written again."""
    jobs = [match[1] for line in lines if (match := re.search(r"\] done +(.*), \d+:\d+; \d+ left", line))]
    pairs = [(job, pattern, result) for job in jobs for pattern, result in RESULT_OF_JOB.items()]
    return {re.sub(pattern, result, job) for job, pattern, result in pairs if re.fullmatch(pattern, job)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Workflow:
    """The study after it was killed while tuning and started again."""
    workflow = Workflow(tmp_path_factory.mktemp("smoke"))
    process = workflow.start()
    deadline = time.monotonic() + 600
    said = []
    for line in process.stdout:
        said.append(line)
        if ("start" in line and "tune" in line) or time.monotonic() > deadline:
            break
    time.sleep(4)
    os.killpg(process.pid, signal.SIGKILL)
    said += process.communicate()[0].splitlines()
    workflow.said_done = results_said_done(said)
    workflow.before = workflow.modified()
    workflow.output = workflow.run()
    return workflow


def test_a_killed_run_keeps_what_was_done_and_finishes(finished):
    after = finished.modified()
    assert "ceilings/SIM01.h5" in finished.said_done
    assert {name for name in finished.said_done if after[name] != finished.before[name]} == set()
    assert len([name for name in after if name.startswith("alignment")]) == 3


def test_every_job_says_one_line_with_time_and_what_is_left(finished):
    done = [line for line in finished.output.splitlines() if "] done" in line]
    assert done and done[-1].endswith("0 left")
    assert len(done) <= N_JOBS


def test_no_more_jobs_run_side_by_side_than_there_are_cores(finished):
    running, most = 0, 0
    for line in finished.output.splitlines():
        running += bool(re.search(r"\] start ", line)) - bool(re.search(r"\] done ", line))
        most = max(most, running)
    assert most == 2 and running == 0


def test_every_figure_is_named_when_it_is_drawn(finished):
    drawn = [line.split()[-1] for line in finished.output.splitlines() if "] drawn" in line]
    assert {Path(path).resolve() for path in drawn} == {finished.figures / f"{name}.png" for name in ("fig1", "fig2")}
    assert len(drawn) == 2


def test_what_jobs_took_is_written_down(finished):
    table = pd.read_csv(finished.figures / "times.csv").set_index("step")
    assert {"tune", "extract", "align", "figure", "card"} <= set(table.index)
    assert (table["cpu_minutes"] > 0).all() and (table["peak_gib"] > 0.1).all()


def test_the_table_of_the_figure_is_complete(finished):
    table = pd.read_csv(finished.figures / "fig2.csv")
    assert set(table["condition"]) == {"pretrained", "brain-tuned", "random-brain-tuned"}
    assert sorted(table["layer"].unique()) == [0, 1, 2, 3, 4]
    assert table["roi"].nunique() == 6
    assert table[["weights", "git_commit", "versions", "recipe", "inputs"]].notna().all().all()
    assert (finished.figures / "fig2.pdf").stat().st_size < 2_000_000
    assert "data:image/png" in (finished.figures / "report.html").read_text()


def test_the_control_heard_the_same_and_ended_elsewhere(finished):
    folders = [finished.results / "models" / f"tiny_{c}_SIM01" for c in ("brain-tuned", "random-brain-tuned")]
    recipes = [json.loads((folder / "provenance.json").read_text())["recipe"] for folder in folders]
    for recipe in recipes:
        recipe.pop("run")
        recipe.pop("aim")
    assert recipes[0] == recipes[1]
    assert (folders[0] / "model.safetensors").read_bytes() != (folders[1] / "model.safetensors").read_bytes()


def test_a_second_run_does_nothing_and_says_so(finished):
    before, began = finished.modified(), time.monotonic()
    output = finished.run()
    assert "nothing to do" in output
    assert finished.modified() == before
    assert time.monotonic() - began < 60


DIRECT = {
    "title": ("A new title", {"card", "figure"}),
    "stories.train": (["bakery", "greyhound"], {"noise", "tune", "features", "align"}),
    "figures.layer": (1, {"align", "figure"}),
    "features.step_seconds": (0.2, {"features"}),
    "tuning.seed": (4, {"tune"}),
    "preference.seed": (1, set()),
}
AFTER = {
    "tune": {"features", "align", "card", "figure"},
    "features": {"align", "card", "figure"},
    "align": {"card", "figure"},
}


@pytest.mark.parametrize("setting", DIRECT)
def test_a_changed_setting_runs_the_jobs_that_depend_on_it_and_no_other(finished, setting, monkeypatch, capfd):
    value, direct = DIRECT[setting]
    content = yaml.safe_load(finished.study.read_text())
    section, _, key = setting.rpartition(".")
    (content.setdefault(section, {}) if section else content)[key] = value
    changed = finished.folder / "changed" / "smoke.yaml"
    changed.parent.mkdir(exist_ok=True)
    changed.write_text(yaml.safe_dump(content))
    for name in ("RESULTS", "FIGURES"):
        monkeypatch.setenv(f"BRAINTUNING_{name}", finished.environment[f"BRAINTUNING_{name}"])
    assert run_workflow(load_study(changed), dry_run=True) == 0
    output = capfd.readouterr().out
    jobs = {word for line in output.splitlines() if line.startswith("  ") for word in [line.split()[0]]}
    expected = direct | {after for step in direct for after in AFTER.get(step, ())}
    assert jobs & {"noise", "tune", "features", "align", "card", "figure"} == expected


def test_explore_answers_in_jupyterlab(finished, tmp_path):
    """Choose, click, and the picture changes; it prints how long that took."""
    (finished.figures.parent / "demo-full").symlink_to(REPOSITORY / "figures" / "demo-full")
    conditions = ["pretrained", "brain-tuned", "random-brain-tuned"]
    with lab_page.opened("explore", tmp_path, {"study": str(finished.study)}, finished.environment) as page:
        seconds = explored.try_everything(page, conditions)
    print("seconds until the picture has changed:", *seconds.round(2))


FIGURES = ("figA", "fig2", "fig3", "fig4", "fig5", "claims")
MORE = {
    "low_level": {"features": ["power_spectrum", "articulation"], "removal": "every lag"},
    "preference": {"n_pairs": 6, "voices": ["clara", "edmund"]},
    "figures": {"notebooks": ["fig1", *FIGURES]},
}


DELETED = "alignment/SIM01/tiny_pretrained.h5"


@pytest.fixture(scope="module")
def drawn(finished) -> Workflow:
    """The study after a result and a picture of it were deleted and its further figures were drawn."""
    workflow = copy.copy(finished)
    workflow.study = finished.folder / "more" / "smoke.yaml"
    workflow.study.parent.mkdir()
    speakers = ("aaa", "bbb", "ccc", "ddd", "eee")
    commands = corpus_files.write_speech_commands(finished.folder / "commands", speakers, hertz_apart=10.0, noise=0.1)
    probes = {"tasks": ["word_identity"], "corpora": {"word_identity": str(commands)}}
    workflow.study.write_text(yaml.safe_dump(yaml.safe_load(finished.study.read_text()) | MORE | {"probes": probes}))
    workflow.before, workflow.numbers = workflow.modified(), pd.read_csv(finished.figures / "fig2.csv")
    (finished.results / DELETED).unlink()
    (finished.figures / "fig1.png").unlink()
    workflow.output = workflow.run()
    return workflow


def test_what_was_deleted_is_made_again_and_no_other_result(drawn):
    after = drawn.modified()
    assert {name for name in drawn.before if drawn.before[name] != after[name]} == {DELETED}
    pd.testing.assert_frame_equal(pd.read_csv(drawn.figures / "fig2.csv"), drawn.numbers)
    assert re.search(r"\] start +align tiny_pretrained with SIM01$", drawn.output, re.MULTILINE)
    assert "align tiny_brain-tuned" not in drawn.output and "] start   tune" not in drawn.output
    assert (drawn.figures / "fig1.png").is_file()


def outputs_of(drawn, name):
    cells = nbformat.read(drawn.figures / "notebooks" / f"{name}.ipynb", as_version=4).cells
    return [output for cell in cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.parametrize("name", FIGURES)
def test_a_notebook_runs_and_shows_its_figures_as_pictures(drawn, name):
    outputs = outputs_of(drawn, name)
    shown = [output for output in outputs if "data" in output and "Figure size" in output.data.get("text/plain", "")]
    assert shown and all("image/png" in output.data for output in shown)
    for picture in pictures_of(load_study(drawn.study), name):
        assert (drawn.figures / f"{picture}.png").stat().st_size > 20_000
        assert (drawn.figures / f"{picture}.csv").is_file()


def said_by(drawn, name):
    return "".join(output.get("text", "") for output in outputs_of(drawn, name))


NUMBER = r"([-+]?\d+\.\d+)"
PAIRS = {
    "fig2": rf"by hand {NUMBER}, in the table {NUMBER}",
    "fig4": rf"by hand {NUMBER}, by the step {NUMBER}",
    "fig5": rf"by hand {NUMBER}, by the study's step {NUMBER}",
    "claims": rf"mean by hand {NUMBER}, in the table {NUMBER}",
}


@pytest.mark.parametrize("name", PAIRS)
def test_what_is_worked_out_by_hand_is_what_the_step_found(drawn, name):
    found = re.findall(PAIRS[name], said_by(drawn, name))
    assert found
    for by_hand, by_step in found:
        assert float(by_hand) == pytest.approx(float(by_step), abs=0.02)


def test_removal_by_hand_takes_as_much_as_the_step_found(drawn):
    printed = re.findall(rf"(\w+), (by [a-z ]+): {NUMBER}, after removal {NUMBER}", said_by(drawn, "fig3"))
    found = {(roi, who): (float(before), float(after)) for roi, who, before, after in printed}
    regions = {roi for roi, _ in found}
    assert regions and len(found) == 2 * len(regions)
    for roi in regions:
        assert found[roi, "by hand"] == pytest.approx(found[roi, "by the step"], abs=0.05)


def test_panels_without_models_are_left_out(drawn):
    said = said_by(drawn, "figA")
    assert "figA2 is left out" in said and "figA5 is left out" in said
    assert not (drawn.figures / "figA2.png").exists()


def test_the_statistics_have_the_permuted_control(drawn):
    statistics = pd.read_csv(drawn.figures / "fig2_statistics.csv")
    against = statistics[statistics["reference"] == "random-brain-tuned"]
    assert set(against["condition"]) == {"brain-tuned"} and against["difference"].notna().all()
