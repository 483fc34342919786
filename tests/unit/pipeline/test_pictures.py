"""Which pictures the notebooks of a study draw, and what each waits for."""

import nbformat
import pytest
from braintuning.figures import panels
from braintuning.pipeline import notebooks, recipes
from braintuning.pipeline.engine import INSIDE_A_JOB, run_workflow
from braintuning.pipeline.pictures import PANELS, left_out, pictures_of
from braintuning.study import load_study
from tiny import refused

A, B = PANELS["figA"], PANELS["figB"]


@pytest.fixture(scope="module")
def whole():
    return load_study("demo-full")


def test_a_study_of_everything_draws_every_panel(whole):
    assert pictures_of(whole, *whole.figures.notebooks) == ["fig1", *A, "fig2", "fig3", "fig4", "fig5", *B, "claims"]


CHANGES = {
    "figA2": {"figures": {"base_and_large": None}},
    "figA5": {"conditions": ("pretrained", "brain-tuned")},
    "figB1": {"figures": {"story_counts": ()}},
    "figB2": {"conditions": ("pretrained", "brain-tuned")},
    "figB3": {"variants": {}},
}


@pytest.mark.parametrize("panel", CHANGES)
def test_a_panel_that_a_study_cannot_draw_is_left_out_and_says_why(whole, panel, monkeypatch):
    ((section, value),) = CHANGES[panel].items()
    value = whole.figures.model_copy(update=value) if section == "figures" else value
    few = whole.model_copy(update={section: value})
    assert not left_out(whole, panel) and panel not in pictures_of(few, "figA", "figB")
    monkeypatch.setattr(panels, "use_style", lambda: pytest.fail("drawn"))
    refused(lambda: panels.make(few, None, panel), f"no panel {panel}", left_out(few, panel))


def test_a_figure_waits_for_what_its_panels_read_and_no_more(whole):
    first, every = (set(recipes.inputs_of(whole, name)) for name in ("figA1", "figA"))
    assert first == {whole.ceiling_file(participant) for participant in whole.participants} < every
    amounts = set(recipes.inputs_of(whole, "figB1"))
    assert amounts and not amounts & every and amounts < set(recipes.inputs_of(whole, "figB"))
    assert amounts < set(recipes.inputs_of(whole, "claims"))


def test_noise_ceilings_are_drawn_before_anything_is_tuned(make_study, capfd):
    study = make_study({"figures.notebooks": ["figA"]})
    assert run_workflow(study, targets=[study.figures_folder / "figA1.png"], dry_run=True) == 0
    jobs = [line.strip() for line in capfd.readouterr().out.splitlines() if line.startswith("  ")]
    ceilings = {f"noise ceiling of {participant}" for participant in study.participants}
    assert set(jobs) == {"read and check the dataset", *ceilings, "figure figA1"}


def test_a_notebook_shows_its_panels_as_pictures_and_says_which_it_lacks(make_study, tmp_path, monkeypatch):
    study = make_study({"figures.notebooks": ["figB"]})
    monkeypatch.setenv(INSIDE_A_JOB, "1")
    executed = notebooks.execute("figB", tmp_path / "out.ipynb", {"study": str(study.source[0])})
    cells = [cell for cell in nbformat.read(executed, as_version=4).cells if cell.cell_type == "code"]
    said = "".join(output.get("text", "") for cell in cells for output in cell.outputs)
    assert all(f"{name} is left out: {left_out(study, name)}" in said for name in B)
    assert [next(iter(output.data)) for output in cells[-1].outputs] == ["image/png"] * len(B)


def test_a_figure_is_shown_as_a_picture(tmp_path, monkeypatch):
    lines = ["from braintuning.figures.style import use_style", "from matplotlib.figure import Figure", "use_style()"]
    lines += ["figure = Figure()", "figure.subplots()", "figure"]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("\n".join(lines))], metadata=metadata)
    nbformat.write(made, tmp_path / "draws.ipynb")
    monkeypatch.setattr(notebooks, "NOTEBOOKS", tmp_path)
    executed = nbformat.read(notebooks.execute("draws", tmp_path / "out.ipynb", {}), as_version=4)
    assert "image/png" in executed.cells[0].outputs[0].data
