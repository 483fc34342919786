import numpy as np
import pandas as pd
import pytest
import tiny
from braintuning import figure3, low_level_stage, rois
from braintuning.align_stage import align
from braintuning.datasets.lebel import LebelDataset
from braintuning.low_level_stage import impact_table, low_level_impact
from braintuning.results import load_arrays
from braintuning.study import Run, load_study
from tiny import refused

RUN = Run("small", "pretrained")
COLUMNS = "layer roi feature alignment alignment_removed r_percent low high unique_lowlevel unique_model shared".split()


def silent(*_):
    pass


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study with all its low-level features removed from one model."""
    folder = tmp_path_factory.mktemp("low_level")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINTUNING_RESULTS", str(folder / "results"))
        patch.setattr(LebelDataset, "cortex", lambda *_: tiny.cortex())
        tiny.encoder("hubert").save_pretrained(folder / "backbone")
        files = tiny.write_dataset(folder / "ds")
        content = tiny.study_content(files.root, folder / "backbone")
        study = load_study(tiny.write_yaml(folder / "tiny.yaml", content))
        said = []
        path = low_level_impact(study, "P1", RUN, report=said.append)
        yield study, path, said


def test_the_table_has_every_layer_region_and_feature(made):
    study, path, _ = made
    table = pd.read_csv(path.with_suffix(".csv"))
    assert [c for c in table.columns if c in COLUMNS] == COLUMNS
    assert len(table) == 3 * len(rois.GROUPS) * (len(study.low_level.features) + 1)
    assert table.duplicated(["layer", "roi", "feature"]).sum() == 0
    parts = table[["unique_lowlevel", "unique_model", "shared"]].notna().all(axis=1)
    assert set(table.loc[parts, "feature"]) == {"all"} and set(table.loc[parts, "layer"]) == {2}


def test_nothing_removed_is_the_alignment_of_figure_2_but_for_the_rows_that_lead(made, monkeypatch):
    study, path, _ = made
    monkeypatch.setattr(LebelDataset, "cortex", lambda *_: tiny.cortex())
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(study.results.parent))
    usual = load_arrays(align(study, "P1", RUN, report=silent))["alignment"]
    found = load_arrays(path)["alignment"]
    both = np.isfinite(usual)
    assert (np.isfinite(found) == both).all()
    assert np.corrcoef(usual[both], found[both])[0, 1] > 0.9


def test_a_whole_result_is_kept(made, monkeypatch):
    study, path, _ = made
    monkeypatch.setattr(low_level_stage, "partition", None)
    monkeypatch.setattr(LebelDataset, "cortex", lambda *_: tiny.cortex())
    before = path.stat().st_mtime_ns
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(study.results.parent))
    assert low_level_impact(study, "P1", RUN, report=silent) == path
    assert path.stat().st_mtime_ns == before


def test_r_is_the_loss_of_the_regions_mean_and_a_region_without_a_voxel_is_empty():
    labels = np.array(["A1", "A1", "A5", "PGi", "44"])
    alignment = np.array([[0.4, 0.2, 0.3, 0.1, np.nan]])
    removed = np.array([[0.1, 0.2, 0.3, 0.3, np.nan]])
    table = impact_table(
        {"alignment": alignment, "removed_diphones": removed}, labels, [7], np.random.default_rng(0)
    ).set_index("roi")
    assert table.loc["primary_auditory", "r_percent"] == pytest.approx(50)
    assert table.loc["late_language", "r_percent"] == pytest.approx(-50)
    assert table.loc["primary_auditory", "low"] == pytest.approx(0) and table.loc["primary_auditory", "high"] == (
        pytest.approx(75)
    )
    assert table.loc["inferior_middle_frontal", ["alignment", "r_percent", "low"]].isna().all()
    assert (table["layer"] == 7).all()


def test_an_unknown_story_or_feature_is_refused(made, tmp_path):
    study, _, _ = made
    content = tiny.study_content(study.root, tmp_path)
    refused(
        lambda: load_study(tiny.write_yaml(tmp_path / "s.yaml", {**content, "low_level": {"stories": ["harbor"]}})),
        "harbor", "harbour",
    )  # fmt: skip
    refused(
        lambda: load_study(tiny.write_yaml(tmp_path / "f.yaml", {**content, "low_level": {"features": ["diphone"]}})),
        "diphone",
    )


def test_r_of_next_to_no_alignment_is_left_empty():
    table = pd.DataFrame({"alignment": [0.3, 0.049, np.nan], "r_percent": [20.0, 300.0, np.nan], "low": 1.0, "high": 2})
    shown = figure3.where_r_is_defined(table)
    assert shown["r_percent"].tolist()[0] == 20 and shown["r_percent"].isna().tolist() == [False, True, True]
    assert shown["low"].isna().tolist() == [False, True, False]
    assert shown["alignment"].equals(table["alignment"])
    assert table["r_percent"].tolist()[1] == 300
