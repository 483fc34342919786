"""Notebooks of figures on a small simulated study: each runs, and what it works out by hand is what a step found.

The notebooks print the two side by side.
"""

import re
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from braintuning.pipeline.pictures import pictures_of
from braintuning.study import load_study
from smoke import Workflow

FIGURES = ("figA", "fig2", "fig3", "fig4", "fig5", "claims")
CHANGES = {
    "name": "figures",
    "low_level": {"features": ["power_spectrum", "articulation"], "removal": "every lag"},
    "preference": {"n_pairs": 6, "voices": ["clara", "edmund"]},
    "probes": {"tasks": ["word_identity"]},
    "figures": {"notebooks": [*FIGURES]},
}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Workflow:
    """The study after its figures were drawn."""
    workflow = Workflow(tmp_path_factory.mktemp("figures"))
    workflow.study.write_text(yaml.safe_dump(yaml.safe_load(workflow.study.read_text()) | CHANGES))
    workflow.output = workflow.run()
    workflow.figures = workflow.figures.with_name("figures")
    return workflow


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


def test_sound_that_is_removed_by_hand_takes_as_much_as_the_step_found(drawn):
    printed = re.findall(rf"(\w+), (by [a-z ]+): {NUMBER}, without sound {NUMBER}", said_by(drawn, "fig3"))
    found = {(roi, who): (float(before), float(after)) for roi, who, before, after in printed}
    regions = {roi for roi, _ in found}
    assert regions and len(found) == 2 * len(regions)
    for roi in regions:
        assert found[roi, "by hand"] == pytest.approx(found[roi, "by the step"], abs=0.05)


def test_noise_ceilings_are_drawn_first_and_panels_without_models_are_left_out(drawn):
    first = next(line.split()[-1] for line in drawn.output.splitlines() if "] drawn" in line)
    assert Path(first).stem == "figA1"
    said = said_by(drawn, "figA")
    assert "figA2 is left out" in said and "figA5 is left out" in said
    assert not (drawn.figures / "figA2.png").exists()


def test_the_statistics_have_the_permuted_control(drawn):
    statistics = pd.read_csv(drawn.figures / "fig2_statistics.csv")
    against = statistics[statistics["reference"] == "random-brain-tuned"]
    assert set(against["condition"]) == {"brain-tuned"} and against["difference"].notna().all()
