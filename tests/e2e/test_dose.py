"""A small study of doses: run whole, to the drawn figure and the tables of what was gained and of what to expect."""

import json
from pathlib import Path

import pandas as pd
import pytest
import steps
import tiny
import yaml
from braintuning.study import Study, load_study

HEARD = {"one": ["bakery"], "three": ["bakery", "nightbus", "thewell"], "one-joint": ["bakery"]}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Study:
    folder = tmp_path_factory.mktemp("dose")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RESULTS", "FIGURES"):
            patch.setenv(f"BRAINTUNING_{name}", str(folder / name.lower()))
        tiny.encoder("hubert").save_pretrained(folder / "tiny")
        content = yaml.safe_load(Path(__file__).with_name("dose.yaml").read_text())
        content["backbones"] = {"tiny": {"name": str(folder / "tiny")}}
        study = load_study(tiny.write_yaml(folder / "dose.yaml", content), str(folder / "dataset"))
        steps.whole(study)
        yield study


def test_the_workflow_finds_nothing_left_to_do(finished, capfd):
    assert steps.is_up_to_date(finished, capfd)


def test_each_model_heard_its_dose(finished):
    for folder in (finished.results / "models").iterdir():
        recipe = json.loads((folder / "provenance.json").read_text())["recipe"]
        condition = folder.name.split("_")[1].removesuffix("-permuted")
        assert recipe["train"] == HEARD[condition]
        assert len(recipe["participants"]) == (2 if condition == "one-joint" else 1)


def test_the_table_and_the_figure_are_complete(finished):
    table = pd.read_csv(finished.figures_folder / "figC1.csv")
    assert len(table) == 2 * 4 and table[["gain", "low", "high", "p"]].notna().all().all()
    assert table.groupby(["condition", "over"]).size().to_dict() == {
        ("one", "pretrained"): 2, ("one", "permuted"): 2, ("three", "pretrained"): 2, ("one-joint", "pretrained"): 2,
    }  # fmt: skip
    volumes = json.loads((finished.root / "derivative" / "respdict.json").read_text())
    for condition, minutes in table.groupby("condition")["minutes"].first().items():
        stored = sum(volumes[story] - 20 for story in HEARD[condition])
        assert minutes == pytest.approx(stored * 2.0045 / 60, rel=1e-4)
    assert table.groupby("participant")["noise"].first().to_dict() == {"SIM01": 1.0, "SIM02": 2.0}
    assert table[["weights", "git_commit", "versions", "recipe", "inputs"]].notna().all().all()
    assert (finished.figures_folder / "figC1.pdf").stat().st_size > 10_000
    assert "data:image/png" in (finished.figures_folder / "report.html").read_text()


def test_what_is_expected_is_said_with_interval_and_where_it_extrapolates(finished):
    wanted = pd.read_csv(finished.figures_folder / "figC1_expected.csv", keep_default_na=False)
    assert (wanted["low"].astype(float) <= wanted["high"].astype(float)).all()
    assert wanted.loc[wanted["minutes"] == 600, "beyond"].str.contains("minutes 600, measured from").all()
