import re
from html.parser import HTMLParser

import nbformat
import numpy as np
import pandas as pd
import pytest
from braintuning.errors import InputError
from braintuning.pipeline import report
from braintuning.pipeline.report import publish, times_of_steps, write_report
from braintuning.pipeline.times import write_times
from braintuning.results import REPOSITORY
from braintuning.study import load_study
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image
from tiny import refused

FIGURE_2 = """# Figure 2: alignment before and after

Claim 1 of the paper: tuning raises *alignment* in language regions; controls do not. Points are participants."""
FIGURE_A = "# Figure A: behind Figure 2\n\nWhat it rests on."
TABLE = "<table><tr><td>gain</td><td>.25</td></tr></table>"


def picture(path, colour):
    pixels = np.full((40, 60, 3), 255, np.uint8)
    pixels[10:20, 10:20] = colour
    Image.fromarray(pixels).save(path)


def executed(*cells):
    return new_notebook(cells=[*cells], metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}})


@pytest.fixture
def drawn(study):
    """The study with figures, tables, claims and executed notebooks as its workflow leaves them."""
    study = study.model_copy(
        update={"figures": study.figures.model_copy(update={"notebooks": ("figA", "fig2", "claims")})}
    )
    folder = study.figures_folder
    (folder / "notebooks").mkdir(parents=True)
    for name, colour in (("fig2", 10), ("fig2_extra", 20), ("figA1", 30), ("figA3", 40), ("claims", 50)):
        picture(folder / f"{name}.png", colour)
        (folder / f"{name}.pdf").write_text("pdf")
        (folder / f"{name}.csv").write_text("a\n1\n")
    rows = [
        ("tuning raises late language", "small", "alignment", 0.0142, 0.006, 0.023, "supported", True),
        ("tuning raises late language", "large", "alignment", -0.5, -0.6, -0.4, "contradicted", True),
        ("tuning lowers impact", "small", "low-level impact R (%)", -3.84, -5.38, -2.31, "no verdict (n = 2)", False),
        ("its curve rises", "small", "rise from middle to last layer", 0.1, np.nan, np.nan, "not shown", False),
    ]
    columns = ["claim", "backbone", "measure", "effect", "low", "high", "verdict", "planted"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "claims.csv", index=False)
    notebooks = {
        "01_dataset": executed(new_markdown_cell("# 1. What was heard <at all>\n\nStories.")),
        "fig2": executed(
            new_markdown_cell(FIGURE_2),
            new_code_cell("save_table('fig2.csv')"),
            new_markdown_cell("## The figure\n\nThe map shows `vertices`. More of it."),
            new_code_cell('save_figure(figure, folder / "fig2")'),
            new_markdown_cell("## Feature by feature\n\nOne by one."),
            new_code_cell("save(other)", outputs=[new_output("stream", text=f"{folder}/fig2_extra.png\n")]),
            new_code_cell("table", metadata={"tags": ["headline"]},
                          outputs=[new_output("display_data", data={"text/html": TABLE})]),
        ),
        "figA": executed(
            new_markdown_cell(FIGURE_A),
            new_markdown_cell("## A1: ceilings\n\nHow much."),
            new_code_cell('panel("figA1")'),
            new_markdown_cell("## A3: layers\n\nEach layer."),
            new_code_cell("panel('figA3')"),
        ),
        "claims": executed(new_markdown_cell("# The claims, one by one\n\nAll of them."), new_code_cell("'claims'")),
    }  # fmt: skip
    for name, notebook in notebooks.items():
        nbformat.write(notebook, folder / "notebooks" / f"{name}.ipynb")
    return study


class Page(HTMLParser):
    """What a page refers to, its texts by the section that they stand in, and its pictures."""

    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.pictures, self.texts, self.section = [], set(), {}, {"": ""}, ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.links += [given[key] for key in ("href", "src") if key in given]
        self.ids |= {given["id"]} if "id" in given else set()
        if tag == "section":
            self.section = given.get("id", "end")
            self.texts[self.section] = ""
        if tag == "img":
            self.pictures[given["alt"]] = given["src"]

    def handle_data(self, data):
        self.texts[self.section] += " ".join(data.split()) + " " if data.strip() else ""


def test_the_report_has_a_section_for_each_figure_with_its_claim_prose_pictures_and_numbers(drawn):
    page = Page(write_report(drawn).read_text())
    assert [name for name in page.texts if name] == ["figA", "fig2", "claims", "end"]
    told = page.texts["fig2"]
    assert told.startswith("Figure 2, claim 1 of the paper Tuning raises alignment in language regions Claim 1 of")
    assert "The map shows vertices . More of it." in told and "Feature by feature One by one." in told
    assert "+0.014 (+0.006 to +0.023), supported" in told and "-0.500 (-0.600 to -0.400), contradicted" in told
    assert "tuning raises late language (planted)" in told and "impact" not in told
    assert "-3.8 (-5.4 to -2.3), no verdict (n = 2)" in page.texts["claims"]
    assert "its curve rises +0.100, not shown" in page.texts["figA"]
    assert [alt.partition(". ")[0] for alt in page.pictures] == [
        "figA1: A1: ceilings", "figA3: A3: layers",
        "fig2: tuning raises alignment in language regions", "fig2_extra: Feature by feature",
        "claims: The claims, one by one",
    ]  # fmt: skip
    contents = page.texts[""]
    assert "Figure A Behind Figure 2 its curve rises, small: +0.100, not shown" in contents
    assert "in language regions tuning raises late language (planted), small: +0.014 (+0.006" in contents
    assert "1 supported, 1 contradicted, 1 no verdict (n = 2), 1 not shown" in contents


def test_a_notebook_that_was_not_executed_is_named(drawn):
    (drawn.figures_folder / "notebooks" / "fig2.ipynb").unlink()
    with pytest.raises(InputError, match=r"notebooks/fig2.ipynb: nothing found, expected a file"):
        write_report(drawn)


def test_means_over_people_are_no_participants(drawn):
    assert "2 participants; stories" in write_report(drawn.model_copy(update={"lacks": {"group-pie": ()}})).read_text()


def test_a_panel_that_the_study_had_before_it_changed_is_not_shown(drawn):
    picture(drawn.figures_folder / "figA5.png", 60)
    (drawn.figures_folder / "figA5.csv").write_text("a\n1\n")
    assert "figA5" not in write_report(drawn).read_text()


def test_every_link_of_the_report_leads_somewhere_and_nothing_is_asked_of_others(drawn):
    path = write_report(drawn)
    page = Page(path.read_text())
    assert {"fig2.csv", "fig2_extra.csv", "fig2.pdf", "notebooks/fig2.html", "notebooks/01_dataset.html"} <= {
        *page.links
    }
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        elif not link.startswith("data:image/png;base64,"):
            assert (path.parent / link).is_file(), link
    assert "<script" not in path.read_text()
    for notebook in path.parent.glob("notebooks/*.html"):
        assert not re.search(r"<(script|link|iframe)\b[^>]*https?:", notebook.read_text()), notebook


def test_without_claims_the_numbers_are_those_that_a_notebook_tags(drawn):
    (drawn.figures_folder / "claims.csv").unlink()
    page = Page(write_report(drawn).read_text())
    assert "gain .25" in page.texts["fig2"] and "supported" not in "".join(page.texts.values())


def test_pictures_stand_in_the_order_of_their_notebook_and_the_contents_have_no_empty_column(drawn):
    folder = drawn.figures_folder
    for name in ("fig2_a", "fig2_b"):
        picture(folder / f"{name}.png", 60)
    cells = [new_markdown_cell("# Real brains\n\nPeople."), new_code_cell("'fig2'")]
    cells += [new_code_cell(f"save(folder / '{name}')") for name in ("fig2_b", "fig2_a")]
    for place, heading in ((2, "## Second\n\nB."), (4, "## Third\n\nA.")):
        cells.insert(place, new_markdown_cell(heading))
    gain = new_output("display_data", data={"text/markdown": "- a gain of **.25**", "text/plain": "<Markdown>"})
    cells.append(new_code_cell("said", metadata={"tags": ["headline"]}, outputs=[gain]))
    nbformat.write(executed(*cells), folder / "notebooks" / "fig2.ipynb")
    alone = drawn.model_copy(update={"figures": drawn.figures.model_copy(update={"notebooks": ("fig2",)})})
    page = Page(write_report(alone).read_text())
    drawn_in_order = [alt.partition(":")[0] for alt in page.pictures]
    assert drawn_in_order == ["fig2", "fig2_extra", "fig2_b", "fig2_a"]
    assert "a gain of .25" in page.texts["fig2"] and "<Markdown>" not in page.texts["fig2"]
    assert "Topic Real brains" in page.texts[""] and "Result" not in page.texts[""]


def test_pictures_look_as_they_did_and_the_largest_study_stays_under_10_mb():
    paths = sorted((REPOSITORY / "figures" / "demo-full").glob("*.png"))
    if not paths:
        pytest.skip("figures of demo-full are not here")
    total = 0
    for path in paths:
        before = Image.open(path).convert("RGB")
        data = report._embedded(before)
        total += len(data)
    from base64 import b64decode
    from io import BytesIO

    after = Image.open(BytesIO(b64decode(data.partition(",")[2]))).convert("RGB")
    difference = np.abs(np.asarray(before, int) - np.asarray(after, int))
    assert after.size == before.size and np.percentile(difference, 99) <= 12 and difference[0, 0].max() == 0
    assert 10**5 < total < 8 * 10**6


def test_what_is_published_is_what_the_workflow_made_and_nothing_else(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "REPOSITORY", tmp_path / "clone")
    said = f"make figures STUDY={drawn.source[0]}`"
    refused(lambda: publish(drawn), drawn.figures_folder / "report.html", "no report", said)
    assert not (tmp_path / "clone").exists()
    write_report(drawn)
    kept = tmp_path / "clone" / "figures" / "tiny"
    kept.mkdir(parents=True)
    (kept / "figA5.png").write_text("of a former study")
    assert publish(drawn) == kept
    names = {path.name for path in drawn.figures_folder.iterdir() if path.is_file()} - {"report.html"}
    assert {path.name for path in kept.iterdir()} == names and "fig2.png" in names and "times.csv" in names
    assert (kept / "fig2.png").read_bytes() == (drawn.figures_folder / "fig2.png").read_bytes()
    assert [path.name for path in kept.parent.iterdir()] == ["tiny"]


def test_figures_are_written_where_git_looks_at_nothing(monkeypatch):
    monkeypatch.delenv("BRAINTUNING_FIGURES", raising=False)
    monkeypatch.delenv("BRAINTUNING_RESULTS", raising=False)
    folder = load_study("demo").figures_folder
    assert folder == REPOSITORY / "data" / "results" / "demo" / "figures"
    assert "data/results/" in (REPOSITORY / ".gitignore").read_text().splitlines()


def test_times_are_added_up_step_by_step(tmp_path):
    jobs = {"tune/a": (120, 60, 2048), "tune/b": (60, 90, 1024), "align/P1/a": (30, 15, 512), "align/P1/b": (0.2, 0, 9)}
    for name, (seconds, cpu, peak) in jobs.items():
        write_times(tmp_path / f"{name}.tsv", seconds, cpu, peak)
    found = times_of_steps(tmp_path)
    assert found["step"].tolist() == ["tune", "align"] and found["jobs"].tolist() == [2, 2]
    assert found["minutes"].tolist() == pytest.approx([3, 0.50333], rel=1e-4)
    assert found["cpu_minutes"].tolist() == [2.5, 0.25]
    assert found["longest"].tolist() == [2, 0.5] and found["peak_gib"].tolist() == [2, 0.5]


def test_a_study_run_by_hand_has_no_times(tmp_path):
    assert times_of_steps(tmp_path / "none").empty
    assert isinstance(times_of_steps(tmp_path), pd.DataFrame)


def test_what_a_failed_job_left_empty_is_no_time(tmp_path):
    write_times(tmp_path / "tune" / "a.tsv", 60, 60, 1024)
    (tmp_path / "card").mkdir()
    (tmp_path / "card" / "a.tsv").touch()
    assert times_of_steps(tmp_path)["step"].tolist() == ["tune"]


def test_figures_that_lie_where_they_would_be_published_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "REPOSITORY", tmp_path)
    monkeypatch.setenv("BRAINTUNING_FIGURES", str(tmp_path / "figures"))
    study = load_study("demo")
    (study.figures_folder / "notebooks").mkdir(parents=True)
    (study.figures_folder / "report.html").write_text("all of it")
    refused(lambda: publish(study), "figures/demo", "another folder")
    assert sorted(path.name for path in study.figures_folder.iterdir()) == ["notebooks", "report.html"]
