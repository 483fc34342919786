import shutil

import h5py
import numpy as np
import pytest
import tiny
from braintuning.alignment.mask import used_voxels
from braintuning.cortex.regions import hcp_mmp_labels
from braintuning.explore.results import Results, open_source, with_results
from braintuning.results import load_arrays
from braintuning.study import Run
from tiny import refused

PRETRAINED, TUNED = Run("small", "pretrained"), Run("small", "random-brain-tuned", "P1")


@pytest.fixture
def source(study):
    return Results(study)


def vertex_in(region, side=0):
    """A vertex of a region in a hemisphere."""
    at = np.flatnonzero(hcp_mmp_labels() == region)
    return int(at[at < 32492][3] if side == 0 else at[at >= 32492][3])


def test_only_what_has_been_made_is_offered(source):
    assert source.models == [("P1", PRETRAINED), ("P1", TUNED)]
    assert source.has_courses and source.n_layers("P1", TUNED) == 3


@pytest.mark.parametrize(("quantity", "name"), [("alignment", "alignment"), ("correlation", "r")])
def test_a_map_has_the_score_of_the_voxel_that_a_vertex_samples(source, quantity, name):
    shown, voxels = source.values("P1", TUNED, 1, quantity), source.dataset.cortex("P1").vertices_from_voxels
    kept = load_arrays(source.study.scores_file("P1", TUNED))[name][1]
    vertex = vertex_in("A5")
    np.testing.assert_allclose(shown[vertex], kept[voxels[[vertex]].indices[0]])
    assert np.isnan(shown[vertex_in("A5", side=1)]) and np.isfinite(shown).any()
    assert source.highest("P1", quantity) <= np.nanmax(
        [load_arrays(source.study.scores_file(*m))[name] for m in source.models]
    )


def test_noise_ceilings_are_a_map_too_and_say_how_much_of_a_colour_shows(source):
    ceiling = load_arrays(source.study.ceiling_file("P1"))["ceiling"]
    shown, opacity = source.values("P1", TUNED, 0, "noise ceiling"), source.opacity("P1")
    rows, columns = source.dataset.cortex("P1").vertices_from_voxels.nonzero()
    np.testing.assert_allclose(shown[rows], ceiling[columns])
    np.testing.assert_allclose(opacity[rows], np.clip((np.nan_to_num(ceiling[columns]) - 0.4) / 0.2, 0, 1))
    assert 0 < (opacity == 1).sum() < len(rows) and opacity[vertex_in("A1", side=1)] == 0


@pytest.mark.parametrize("layer", [0, 1, 2])
def test_a_voxels_course_correlates_as_its_score_says_at_every_layer(source, layer):
    """At the figure's layer from the file, elsewhere from an encoding model that is fitted then."""
    used, r = used_voxels(source.study, "P1"), load_arrays(source.study.scores_file("P1", TUNED))["r"]
    tried = 0
    for voxel in np.flatnonzero(used)[:12]:
        vertices = source.dataset.cortex("P1").vertices_from_voxels[:, [voxel]].nonzero()[0]
        if not len(vertices):
            continue
        place = source.place_at("P1", int(vertices[0]), voxel=True)
        assert np.flatnonzero(place.voxels).tolist() == [voxel] and f"voxel {voxel} in " in place.name
        course = source.course("P1", TUNED, layer, place)
        assert course["measured"].corr(course["predicted"]) == pytest.approx(r[layer, voxel], abs=2e-3)
        tried += 1
    assert tried > 5


def test_a_regions_course_is_the_mean_of_its_voxels_in_use_without_skipped_rows(source, folder):
    place = source.place("P1", "A5 (left)")
    inside = (tiny.voxel_labels() == "A5") & used_voxels(source.study, "P1")
    with h5py.File(tiny.TinyDataset(folder / "ds").hf5("P1", "winter")) as file:
        data = file["data"][:][:, inside]
    expected = ((data[2:] - data[2:].mean(axis=0)) / data[2:].std(axis=0)).mean(axis=1)
    course = source.course("P1", PRETRAINED, 2, place)
    np.testing.assert_allclose(course["measured"], (expected - expected.mean()) / expected.std(), atol=1e-4)
    np.testing.assert_allclose(course["time"], source.dataset.tr_times("P1", "winter")[2:])
    assert course["predicted"].std(ddof=0) == pytest.approx(1, abs=1e-6)


def test_an_encoding_model_is_fitted_once_a_layer(source, monkeypatch):
    place = source.place("P1", "A5 (left)")
    first = source.course("P1", TUNED, 0, place)
    monkeypatch.setattr("braintuning.explore.results.features_of", lambda *_: pytest.fail("features were read again"))
    assert source.course("P1", TUNED, 0, place).equals(first)


def test_scores_of_a_place_are_means_over_its_voxels_in_use(source):
    place = source.place("P1", "Late language regions")
    assert set(tiny.voxel_labels()[place.voxels]) == {"A5", "PGi", "TPOJ1", "44"}
    found = source.scores("P1", place)
    assert len(found) == 2 * 3
    for row in found.itertuples():
        run = TUNED if row.condition == "random-brain-tuned" else PRETRAINED
        kept = load_arrays(source.study.scores_file("P1", run))["alignment"][row.layer]
        assert row.alignment == pytest.approx(np.nanmean(kept[place.voxels]), rel=1e-5)


def test_a_click_finds_the_region_or_voxel_there(source):
    assert source.place_at("P1", vertex_in("PGi")).name == "PGi (left)"
    right = source.place_at("P1", vertex_in("PGi", side=1))
    assert right.name == "PGi (right)" and not right.voxels.any() and right.vertices[vertex_in("PGi", side=1)]
    assert source.place_at("P1", int(np.flatnonzero(hcp_mmp_labels() == "")[0])) is None
    assert source.place_at("P1", vertex_in("V2"), voxel=True) is None


def test_places_that_cannot_be_are_named(source):
    refused(lambda: source.place("P1", "A6 (left)"), "'A6 (left)'", "did you mean")
    nothing = source.place_at("P1", vertex_in("PGi", side=1))
    refused(lambda: source.course("P1", TUNED, 2, nothing), "PGi (right) of P1", "no voxel", "expected some")


def test_the_sound_and_words_of_a_story(source):
    audio, words = source.sound("winter")
    assert len(audio) == 60 * 16_000 and audio.dtype == np.float32
    assert words[0].label == "and" and words[0].start == 1.0


def test_any_model_is_compared_like_those_of_the_study(source, folder):
    run = source.add_model(str(folder / "whisper"), "P1")
    assert run == Run("whisper", "pretrained") and ("P1", run) in source.models
    place = source.place("P1", "A5 (left)")
    assert set(source.scores("P1", place)["backbone"]) == {"small", "whisper"}
    course = source.course("P1", run, 1, place)
    assert np.isfinite(course.to_numpy()).all()
    again = source.add_model(str(folder / "whisper"), "P1")
    assert again == run and len(source.models) == 3


def test_the_same_model_under_another_name_has_the_same_scores(source, folder):
    run = source.add_model(str(folder / "hubert"), "P1")
    kept, own = (load_arrays(source.study.scores_file("P1", one))["r"] for one in (PRETRAINED, run))
    np.testing.assert_allclose(own, kept, atol=1e-5)


def test_a_model_in_another_folder_of_a_backbone_s_name_takes_nothing_of_its_place(source, folder):
    shutil.copytree(folder / "whisper", folder / "elsewhere" / "small")
    own = load_arrays(source.study.scores_file("P1", PRETRAINED))["r"]
    run = source.add_model(str(folder / "elsewhere" / "small"), "P1")
    assert run.backbone.startswith("small-") and source.models[-1] == ("P1", run)
    np.testing.assert_array_equal(load_arrays(source.study.scores_file("P1", PRETRAINED))["r"], own)
    assert source.study.backbones["small"].name == str(folder / "hubert")
    assert source.add_model(str(folder / "elsewhere" / "small"), "P1") == run


def test_a_model_that_is_not_there_is_named(source):
    refused(lambda: source.add_model("no-such/model", "P1"), "no-such/model")
    assert source.models == [("P1", PRETRAINED), ("P1", TUNED)]


def test_a_study_with_neither_results_nor_tables_says_how_to_make_them(study, monkeypatch, tmp_path):
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / "nothing"))
    refused(lambda: open_source(study), "study tiny", "found neither results", f"make figures STUDY={study.source[0]}`")
    assert with_results(["nothing"]) == []


def test_results_of_models_that_the_study_has_no_more_are_none(study):
    renamed = study.model_copy(update={"backbones": {"other": study.backbones["small"]}})
    renamed._file = study._file
    refused(lambda: open_source(renamed), "study tiny", "found neither results")


def test_results_come_before_tables(study):
    assert isinstance(open_source(study), Results)
