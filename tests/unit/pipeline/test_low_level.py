from itertools import product
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
import steps
import tiny
from braintuning.cortex import regions as rois
from braintuning.datasets.lebel import LebelDataset
from braintuning.errors import MissingTier
from braintuning.figures.impact import at_figure_layer, change_map, where_r_is_defined, why_no_bar
from braintuning.figures.tables import at_layer
from braintuning.lowlevel import impact
from braintuning.lowlevel.features import name_of
from braintuning.lowlevel.removal import REMOVALS
from braintuning.pipeline import low_level as low_level_step
from braintuning.pipeline import recipes
from braintuning.pipeline.align import align
from braintuning.pipeline.low_level import (
    impact_table,
    measure_impact,
    measure_low_level_alone,
    measure_low_level_features,
)
from braintuning.results import load_arrays
from braintuning.study import Run, load_study
from braintuning.study.settings import Encoding
from tiny import refused

RUN = Run("small", "pretrained")
BOTH = ("diphones", "all")
COLUMNS = "layer roi feature removal alignment alignment_removed r_percent".split()
PARTS = ["unique_lowlevel", "unique_model", "shared"]


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
        with tiny.listening(said.append):
            path = steps.impact(study, "P1", RUN)
        yield study, path, said


def test_the_table_has_every_layer_region_and_feature(made):
    study, path, _ = made
    table = pd.read_csv(path.with_suffix(".csv"))
    assert [c for c in table.columns if c in (*COLUMNS, *PARTS)] == [*COLUMNS, *PARTS]
    assert len(table) == 3 * len(rois.GROUPS) * (len(study.low_level.features) + 1) * len(REMOVALS)
    assert table.duplicated(["layer", "roi", "feature", "removal"]).sum() == 0
    parts = table[PARTS].notna().all(axis=1)
    assert set(table.loc[parts, "feature"]) == {"all"} and set(table.loc[parts, "layer"]) == {2}
    assert set(table["phones"]) == {"phone tier"} and (table["n_layers"] == 3).all()
    assert table["rare_share"].isna().all()  # phones here stand apart: there are no diphones


def test_every_readout_has_its_chance_and_that_of_all_is_the_one_that_is_left_most(made):
    study, path, _ = made
    arrays, table = load_arrays(path), pd.read_csv(path.with_suffix(".csv"))
    names = study.low_level.features
    for feature, way in product((*names, "all"), REMOVALS):
        left = arrays[f"readout_{name_of(feature, way)}"]
        assert left.shape == arrays["readout"].shape == (3, len(names), 2)
        assert np.isfinite(left[:, 0]).all(), "only the spectrum varies in the test story"
        row = table[(table["feature"] == feature) & (table["removal"] == way) & (table["layer"] == 1)].iloc[0]
        most = names.index(feature) if feature in names else np.nanargmax(left[1, :, 0] - left[1, :, 1])
        found, expected = (
            row[["readout_removed", "readout_chance", "readout"]],
            (*left[1, most], arrays["readout"][1, most, 0]),
        )
        np.testing.assert_allclose(found.astype(float), expected, rtol=1e-4)


def test_both_ways_of_removal_are_in_the_table_and_what_is_before_is_the_same(made):
    _, path, _ = made
    wide = pd.read_csv(path.with_suffix(".csv")).pivot(index=["layer", "roi", "feature"], columns="removal")
    assert tuple(wide["r_percent"].columns) == REMOVALS
    varies = wide["r_percent"].dropna().query("feature in ('power_spectrum', 'all')")
    assert len(varies) and (varies["every lag"] != varies["tr by tr"]).all()
    for name in ("alignment", *PARTS):
        pd.testing.assert_series_equal(wide[name]["every lag"], wide[name]["tr by tr"], check_names=False)


def test_the_public_function_removes_in_the_way_that_is_asked_for():
    """A layer that is the feature of the TR before: every lag takes all of it, TR by TR nothing."""
    rng, rows = np.random.default_rng(0), {"a": 200, "b": 200}
    sound = {s: rng.standard_normal((n + 5, 3)).astype(np.float32) for s, n in rows.items()}
    layer = {s: x[None, :-1] for s, x in sound.items()}
    responses = {s: (x[3:-2] @ rng.standard_normal((3, 4))).astype(np.float32) for s, x in sound.items()}
    low_level = {"articulation": {s: x[1:] for s, x in sound.items()}}
    settings = Encoding(test_skip_rows=0)
    found = {
        way: impact.low_level_impact(layer, low_level, responses, ["a"], ["b"], settings, removal=way)["articulation"]
        for way in REMOVALS
    }
    assert found["every lag"][0] > 90 and abs(found["tr by tr"][0]) < 10
    default = impact.low_level_impact(layer, low_level, responses, ["a"], ["b"], settings)
    assert default["all"] == pytest.approx(found["tr by tr"])
    given = layer, low_level, responses, ["a"], ["b"]
    refused(lambda: impact.low_level_impact(*given, removal="by tr"), "by tr", "every lag")


def test_what_stays_tr_by_tr_is_what_a_tr_keeps_of_earlier_ones():
    """A layer that holds one feature of its own TR and another of the TR two before."""
    rng, stories, trs = np.random.default_rng(1), ("a", "b", "c"), 154
    now, then = ({s: rng.standard_normal((trs, 2)).astype(np.float32) for s in stories} for _ in range(2))
    layer = {s: np.hstack([now[s], np.roll(then[s], 2, axis=0)]) for s in stories}
    responses = {s: rng.standard_normal((trs - 4, 3)).astype(np.float32) for s in stories}
    low_level = {"articulation": now, "diphones": then}
    fit = impact.LowLevelFit(low_level, responses, stories[:2], stories[2:], Encoding(test_skip_rows=0))
    found = fit.at_lags(layer)
    assert found.shape == (2, 5, 2)
    held = np.zeros((2, 5), bool)
    held[0, 0] = held[1, 2] = True
    assert (found[held] > 0.9)[0].tolist() == [True, False] and (found[held] > 0.9)[1].all()
    assert (np.abs(found[~held]) < 0.3).all() and abs(found[0, 0, 1]) < 0.3


def test_a_phone_just_before_the_first_tr_is_not_enormous_beside_its_trace_in_the_others():
    rng, trs = np.random.default_rng(0), 60
    trace = 1e-3 * rng.standard_normal((4 + trs, 1))
    trace[0] = 1
    low_level = {"triphones": {s: trace.astype(np.float32) for s in "ab"}}
    responses = {s: rng.standard_normal((trs, 3)).astype(np.float32) for s in "ab"}
    fit = impact.LowLevelFit(low_level, responses, ["a"], ["b"], Encoding(test_skip_rows=0))
    for of_way in fit.low_level.values():
        assert np.abs(of_way["triphones"]["a"]).max() <= np.sqrt(4 + trs)


def test_which_way_is_drawn_decides_the_figures_and_no_result(made):
    study, _, _ = made
    other = study.model_copy(update={"low_level": study.low_level.model_copy(update={"removal": "every lag"})})
    assert study.low_level.removal == "tr by tr"
    for notebook in ("fig3", "claims"):
        assert recipes.figure(study, notebook).fingerprint != recipes.figure(other, notebook).fingerprint
    assert recipes.figure(study, "fig2") == recipes.figure(other, "fig2")
    made_by = [{path: recipe.fingerprint for path, recipe in recipes.of_results(s).items()} for s in (study, other)]
    assert made_by[0] == made_by[1]


def test_nothing_removed_is_the_alignment_of_figure_2(made, monkeypatch):
    study, path, _ = made
    monkeypatch.setattr(LebelDataset, "cortex", lambda *_: tiny.cortex())
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(study.results.parent))
    usual = load_arrays(align(study, "P1", RUN))["alignment"]
    np.testing.assert_allclose(load_arrays(path)["alignment"], usual, atol=1e-4)


def test_a_figure_layer_that_is_not_the_last_is_found_among_those_that_are_kept(made, monkeypatch):
    study, path, _ = made
    monkeypatch.setattr(LebelDataset, "cortex", lambda *_: tiny.cortex())
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(study.results.parent))
    whole = load_arrays(path)
    changes = {
        "name": "subset",
        "low_level": study.low_level.model_copy(update={"layers": (0,)}),
        "figures": study.figures.model_copy(update={"layer": -2}),
    }
    subset = study.model_copy(update=changes)
    kept = steps.impact(subset, "P1", RUN)
    arrays, table = load_arrays(kept), pd.read_csv(kept.with_suffix(".csv")).assign(backbone="small")
    assert arrays["layers"].tolist() == [0, 1] and arrays["n_layers"] == 3
    assert set(at_layer(table, -2)["layer"]) == {1} and at_layer(table, -1).empty
    np.testing.assert_allclose(at_figure_layer(subset, arrays, "alignment"), whole["alignment"][1], atol=1e-5)


def test_a_corrected_textgrid_makes_low_level_features_anew(made, monkeypatch, tmp_path):
    study, _, _ = made
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / "results"))
    files = tiny.copy_dataset(tiny.TinyDataset(study.root), tmp_path / "ds")
    changed = study.model_copy(update={"dataset": study.dataset.model_copy(update={"root": str(files.root)})})
    path = measure_low_level_features(changed, "P1")
    before, when = articulation(path), path.stat().st_mtime_ns
    measure_low_level_features(changed, "P1")
    assert path.stat().st_mtime_ns == when
    files.write_grid(tiny.STORIES[0], last=20)
    measure_low_level_features(changed, "P1")
    assert not np.array_equal(articulation(path), before)


def test_phones_need_no_words(made, monkeypatch, tmp_path):
    study, *_ = made

    def words(dataset, story):
        raise MissingTier(f"{story}: no tier of words")

    monkeypatch.setattr(LebelDataset, "words", words)
    before = articulation(study.low_level_features_file("P1"))
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / "results"))
    np.testing.assert_array_equal(articulation(measure_low_level_features(study, "P1")), before)


def articulation(path):
    with h5py.File(path) as file:
        return file["articulation"][tiny.STORIES[0]][()]


def test_a_whole_result_is_kept(made, monkeypatch):
    study, path, _ = made
    monkeypatch.setattr(low_level_step, "LowLevelFit", None)
    monkeypatch.setattr(LebelDataset, "cortex", lambda *_: tiny.cortex())
    before = path.stat().st_mtime_ns
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(study.results.parent))
    assert measure_impact(study, "P1", RUN) == path
    assert path.stat().st_mtime_ns == before


def test_what_sound_explains_alone_is_measured_once_for_all_models(made, monkeypatch):
    study, path, _ = made
    monkeypatch.setattr(LebelDataset, "cortex", lambda *_: tiny.cortex())
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(study.results.parent))
    with monkeypatch.context() as patch:
        tiny.forbid(patch, impact.LowLevelFit, "alone")
        alone = measure_low_level_alone(study, "P1")
        path.unlink()
        measure_impact(study, "P1", RUN)
    table = pd.read_csv(path.with_suffix(".csv"))
    kept = load_arrays(alone)["explained"]
    for left_over in (path, alone):
        left_over.unlink()
    refused(lambda: measure_impact(study, "P1", RUN), alone, "expected the result of an earlier step")
    np.testing.assert_array_equal(load_arrays(measure_low_level_alone(study, "P1"))["explained"], kept)
    measure_impact(study, "P1", RUN)
    pd.testing.assert_frame_equal(pd.read_csv(path.with_suffix(".csv")), table)


def test_r_is_the_loss_of_the_regions_mean_and_a_region_without_a_voxel_is_empty():
    labels = np.array(["A1", "A1", "A5", "PGi", "44"])
    alignment = np.array([[0.4, 0.2, 0.3, 0.1, np.nan]])
    removed = np.array([[0.1, 0.2, 0.3, 0.3, np.nan]])
    read = np.full((1, 1, 2), 0.1)
    arrays = {"alignment": alignment, "layers": np.array([7]), "n_layers": np.array(9), "readout": read}
    for feature, way in product(BOTH, REMOVALS):
        arrays |= {name_of(feature, way): removed if way == "tr by tr" else alignment}
        arrays |= {f"readout_{name_of(feature, way)}": read}
    table = impact_table(arrays, labels, ["diphones"])
    table = table[table["feature"] == "diphones"].set_index("roi")
    unchanged = table[table["removal"] == "every lag"]
    assert unchanged["r_percent"].dropna().eq(0).all() and unchanged["r_percent"].notna().sum() > 1
    table = table[table["removal"] == "tr by tr"]
    assert table.loc["primary_auditory", "r_percent"] == pytest.approx(50)
    assert table.loc["late_language", "r_percent"] == pytest.approx(-50)
    assert table.loc["inferior_middle_frontal", ["alignment", "r_percent"]].isna().all()
    assert table.loc["inferior_middle_frontal", "n_voxels"] == 0 and table.loc["primary_auditory", "n_voxels"] == 2
    assert (table["layer"] == 7).all() and (table["n_layers"] == 9).all()
    elsewhere = impact_table(arrays, np.where(labels == "A1", "V1", labels), ["diphones"])
    elsewhere = elsewhere.set_index("roi")
    assert elsewhere.loc["primary_auditory", "n_voxels"].eq(0).all()
    assert elsewhere.loc["primary_auditory", "r_percent"].isna().all()
    assert elsewhere.loc["late_language", "n_voxels"].eq(2).all()


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
    table = pd.DataFrame({"alignment": [0.3, 0.049, np.nan], "r_percent": [20.0, 300.0, np.nan]})
    shown = where_r_is_defined(table)
    assert shown["r_percent"].tolist()[0] == 20 and shown["r_percent"].isna().tolist() == [False, True, True]
    assert shown["alignment"].equals(table["alignment"])
    assert table["r_percent"].tolist()[1] == 300


def test_missing_bars_are_told_apart_and_phones_by_dictionary_are_said():
    table = pd.DataFrame(
        {
            **{"participant": ["P1", "P1", "P2"], "roi": ["late_language", "primary_auditory", "late_language"]},
            **{"r_percent": [20.0, np.nan, np.nan], "n_voxels": [5, 0, 4], "phones": "phone tier"},
        }
    )
    said = why_no_bar(table)
    assert "auditory" in said and "of P1" in said and "P2" not in said and "below 0.05" in said
    assert why_no_bar(table.iloc[:1]) == "" and "below" not in why_no_bar(table.iloc[:2])
    assert "dictionary" in why_no_bar(table.iloc[:1].assign(phones="pronunciation dictionary within words"))


@pytest.mark.parametrize("way", REMOVALS)
def test_the_map_paints_each_regions_change_of_r_in_the_studys_way(made, monkeypatch, way):
    study, _, _ = made
    study = study.model_copy(update={"low_level": study.low_level.model_copy(update={"removal": way})})
    labels = np.array(["A1", "A1", "A5", "A5", "44"])
    cortex = SimpleNamespace(voxel_labels=labels, vertex_labels=np.array(["A5", "A1", "44", ""]), surface=None)
    dataset = SimpleNamespace(cortex=lambda _: cortex)

    def arrays(path):
        tuned = "brain-tuned" in str(path)
        alignment = np.array([[0.4, 0.2, 0.3, np.nan, 0.01]])
        after = alignment * (0.5 if tuned else 0.25)
        removed = {name_of("all", other): after if other == way else alignment for other in REMOVALS}
        return {"alignment": alignment, **removed, "layers": np.array([2]), "n_layers": np.array(3)}

    monkeypatch.setattr("braintuning.figures.impact.load_arrays", arrays)
    assert change_map(study, dataset, "small") == pytest.approx([-25, -25, np.nan, np.nan], nan_ok=True)
