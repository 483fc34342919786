"""Part of the paper in small: the first minutes of stories of the real ds003020, with their names and TextGrids.

They go through all steps to the figures.
"""

import json
import re
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import steps
import yaml
from braintuning.cortex.regions import GROUPS
from braintuning.datasets import open_dataset
from braintuning.datasets.labels import read_words
from braintuning.datasets.textgrid import Interval
from braintuning.demo.textgrid_writer import write_textgrid
from braintuning.pipeline import recipes
from braintuning.study import load_study

SILENT = {"sp", "ns", "ns_ap", "br", "lg", "ls", "cg", "sil", "sl", "ig", ""}
N_LAYERS = 5
"""Of Whisper tiny.en, the front end's output among them."""
TR = 2.0045
SECONDS = {
    "alternateithicatom": 120.0,
    "undertheinfluence": 120.0,
    "myfirstdaywiththeyankees": 90.0,
    "wheretheressmoke": 240.0,
}
"""How much of each story is told."""
PART = {
    "extends": "paper-small",
    "name": "paper-part",
    "participants": ["UTS01"],
    "stories": {"validation": ["myfirstdaywiththeyankees"], "held_out": []},
    "conditions": ["pretrained", "brain-tuned", "lm-tuned"],
}
"""Half of the study's stories, one listener, and not the control that hears a larger speech model."""


def write_beginnings(real: Path, folder: Path) -> Path:
    """TextGrids of the stories' beginnings, labels as they were, and how many volumes a scanner takes of these."""
    for story, seconds in SECONDS.items():
        tiers = {}
        for tier in (real / "TextGrids" / f"{story}.TextGrid").read_text().split("name = ")[1:]:
            found = re.findall(r'xmin = (\S+)\s+xmax = (\S+)\s+text = "(.*)"', tier)
            said = [Interval(label, float(start), float(end)) for start, end, label in found]
            tiers[tier.split('"')[1]] = [interval for interval in said if interval.end <= seconds]
        write_textgrid(folder / "TextGrids" / f"{story}.TextGrid", tiers, seconds)
    (folder / "respdict.json").write_text(json.dumps({s: int((n + 20) / TR) for s, n in SECONDS.items()}))
    return folder


def words_by_hand(path: Path) -> int:
    """Labels of the word tier that stand for speech, counted in the text of the file."""
    tier = path.read_text().split("name = ")[2]
    marks = re.findall(r'text(?: =)? "(.*)"\s*$', tier, re.MULTILINE)
    assert len(marks) == int(re.search(r"intervals: size = (\d+)", tier)[1])
    return sum(re.sub(r"[{}()]", "", mark).strip().lower() not in SILENT for mark in marks)


class PaperSmall:
    """The study after all its steps."""

    def __init__(self, folder: Path, real: Path) -> None:
        file, self.told = folder / "paper-part.yaml", write_beginnings(real, folder / "told")
        file.write_text(yaml.safe_dump(PART | {"dataset": {"simulation": {"textgrids": str(self.told)}}}))
        self.study = load_study(file, str(folder / "dataset"))
        self.figures = folder / "figures" / "paper-part"
        steps.whole(self.study)
        self.dataset = open_dataset(self.study)

    def table(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.figures / f"{name}.csv")

    def cells(self) -> set[tuple[str, str]]:
        """Every participant and condition."""
        return {(participant, run.condition) for participant, run in self.study.alignments()}


@pytest.fixture(scope="module")
def made(shared, tmp_path_factory) -> PaperSmall:
    """Skipped where there is no shared/ folder with TextGrids of ds003020."""
    real = shared / "data" / "ds003020"
    if not (real / "TextGrids").is_dir():
        pytest.skip("no TextGrids of ds003020 in shared/")
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("paper-small")
        for name in ("RESULTS", "FIGURES"):
            patch.setenv(f"BRAINTUNING_{name}", str(folder / name.lower()))
        patch.setenv("BRAINTUNING_PRECISION", "auto")
        yield PaperSmall(folder, real)


def test_stories_have_the_rows_and_the_words_that_they_were_given(made):
    volumes = json.loads((made.told / "respdict.json").read_text())
    assert set(made.study.stories.all) == set(SECONDS)
    for story in made.study.stories.all:
        assert len(made.dataset.words(story)) == words_by_hand(made.told / "TextGrids" / f"{story}.TextGrid") > 200
        for participant in made.study.participants:
            responses = made.dataset.responses(participant, story)
            assert responses.shape == (volumes[story] - 20, made.dataset.n_voxels(participant))
            assert np.isfinite(responses).all()
    with h5py.File(made.dataset.responses_file("UTS01", "wheretheressmoke")) as file:
        assert file["individual_repeats"].shape == (
            10,
            volumes["wheretheressmoke"] - 20,
            made.dataset.n_voxels("UTS01"),
        )


def test_every_word_of_the_whole_real_stories_is_read(shared):
    files = sorted((shared / "data" / "ds003020" / "TextGrids").glob("*.TextGrid"))
    assert len(files) == 8
    assert [len(read_words(file)) for file in files] == [words_by_hand(file) for file in files]


def test_features_have_a_row_for_each_volume_and_those_that_delays_reach(made):
    for run in made.study.runs():
        with h5py.File(made.study.features_file(run)) as file:
            assert set(file) == set(made.study.encoded_stories)
            for story in file:
                n_rows = len(made.dataset.responses("UTS01", story)) + max(made.study.encoding.delays)
                assert file[story].shape[:2] == (N_LAYERS, n_rows)
                assert np.isfinite(file[story][()]).all()


def test_every_model_was_tuned_on_the_training_stories_and_moved(made):
    for run in made.study.tuned_runs():
        folder = made.study.model_folder(run)
        recipe = json.loads((folder / "provenance.json").read_text())["recipe"]
        assert tuple(recipe["train"]) == made.study.stories.train
        assert tuple(recipe["validation"]) == made.study.stories.validation
        assert np.isfinite(pd.read_csv(folder / "history.csv")[["validation_loss"]]).all(axis=None)
    assert {run.condition for run in made.study.tuned_runs()} == {"brain-tuned", "lm-tuned"}


@pytest.mark.parametrize("name", ["figA1", "fig2", "fig3"])
def test_each_figure_is_drawn_and_says_that_its_listeners_are_simulated(made, name):
    assert (made.figures / f"{name}.png").stat().st_size > 50_000
    assert 10_000 < (made.figures / f"{name}.pdf").stat().st_size < 2_000_000
    assert "simulated listeners" in made.study.title
    notebook = {"figA1": "figA"}.get(name, name)
    executed = json.loads((made.figures / "notebooks" / f"{notebook}.ipynb").read_text())
    assert "simulated listeners" in json.dumps([cell.get("outputs") for cell in executed["cells"]])
    assert made.study.title in (made.figures / "report.html").read_text()


def test_the_table_of_figure_2_is_complete(made):
    table = made.table("fig2")
    rows = table.groupby(["participant", "condition", "layer", "roi"]).size()
    assert (rows == 1).all() and len(rows) == len(made.cells()) * N_LAYERS * len(GROUPS)
    assert set(zip(table["participant"], table["condition"], strict=True)) == made.cells()
    assert (table["n_voxels"] > 0).all() and table["alignment"].notna().all()
    shown = table[table["layer"] == N_LAYERS - 1].groupby("roi")["alignment"].mean()
    assert shown["primary_auditory"] > 0.2 and shown["late_language"] > 0.1
    assert table[["weights", "git_commit", "versions", "recipe", "inputs"]].notna().all(axis=None)


def test_the_table_of_figure_3_is_complete(made):
    table, features = made.table("fig3"), (*made.study.low_level.features, "all")
    own = ["participant", "condition", "layer", "roi", "feature", "removal"]
    assert set(zip(table["participant"], table["condition"], strict=True)) == made.cells()
    assert set(table["layer"]) == {N_LAYERS - 1} and set(table["feature"]) == set(features)
    assert len(table[own].drop_duplicates()) == len(made.cells()) * len(GROUPS) * len(features) * 2
    assert set(table["removal"]) == {"every lag", "tr by tr"} and table["nuisance"].notna().all()
    assert table[["alignment", "alignment_removed"]].notna().all(axis=None)
    audible = table[(table["feature"] == "all") & (table["roi"] == "primary_auditory")]
    assert (audible["alignment_removed"] < audible["alignment"]).all() and audible["r_percent"].notna().all()


def test_figure_a1_has_ten_repeats_and_voxels_above_the_threshold(made):
    table = made.table("figA1").set_index("participant")
    assert set(table.index) == {"UTS01"} and (table["repeats"] == 10).all()
    assert (table["story"] == "wheretheressmoke").all()
    assert (table["n_above"] > 300).all() and (table["n_above"] < table["n_voxels"]).all()
    assert table[["median", "highest"]].notna().all(axis=None)


def test_truth_says_that_nobody_was_scanned(made):
    assert "simulated listeners" in (made.study.root / "README").read_text().lower()
    for participant in made.study.participants:
        with h5py.File(made.study.root / "truth" / f"{participant}.h5") as file:
            assert file.attrs["of"] == "simulated listener"


def test_nothing_is_left_to_do(made, capfd):
    assert steps.is_up_to_date(made.study, capfd)
    assert all(path.exists() for name in made.study.figures.notebooks for path in recipes.inputs_of(made.study, name))
