"""Drawn tables, and results as the steps leave them."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tiny
from braintuning.alignment import stats
from braintuning.cortex import parcels
from braintuning.cortex.regions import GROUPS
from braintuning.datasets import Dataset
from braintuning.figures import real_brains
from braintuning.results import save_arrays
from braintuning.study import load_study
from matplotlib.figure import Figure

CONDITIONS = ("pretrained", "brain-tuned", "random-brain-tuned")
GAIN = {"pretrained": 0.0, "brain-tuned": 0.03, "random-brain-tuned": -0.002}
N_PEOPLE = 12


def drawn_table(stories=("pie", "tea")):
    """Late language gains by .03 in the first story's people; nobody's primary auditory region does."""
    rng, rows = np.random.default_rng(5), []
    for story in stories:
        for person in range(N_PEOPLE):
            for region, level in (("primary_auditory", 0.15), ("late_language", 0.1)):
                own = rng.normal(0, 0.05)
                for condition in CONDITIONS:
                    gain = GAIN[condition] if region == "late_language" and story == "pie" else 0.0
                    score = level + own + gain + rng.normal(0, 0.01)
                    who = (f"{story}{person}", "held out", story, condition, "small", 2, False, region)
                    rows.append((*who, score, level - 0.05 + own, 2 * level))
    return pd.DataFrame(rows, columns=real_brains.COLUMNS)


def test_conditions_are_compared_over_people_story_by_story():
    table = drawn_table()
    found = real_brains.compare(table)
    assert len(found) == 2 * 2 * (3 + 3 + 2) and set(found["n_participants"]) == {N_PEOPLE}
    one = found[
        (found["story"] == "pie") & (found["region"] == "late_language") & (found["condition"] == "brain-tuned")
    ]
    wide = table[(table["story"] == "pie") & (table["region"] == "late_language")].pivot(
        index="participant", columns="condition", values="score"
    )
    expected = wide["brain-tuned"] - wide["pretrained"]
    row = one[one["reference"] == "pretrained"].iloc[0]
    assert row["difference"] == pytest.approx(expected.mean()) and row["p"] == stats.signed_rank_p(expected.to_numpy())
    family = found[(found["story"] == "pie") & (found["reference"] == "pretrained")]
    np.testing.assert_allclose(family["q"], stats.false_discovery_q(family["p"].to_numpy()))
    starred = found.loc[found["star"], ["story", "region", "condition"]].to_numpy().tolist()
    assert starred == [["pie", "late_language", "brain-tuned"]]
    nuisance = one[one["reference"] == "nuisance"].iloc[0]
    assert nuisance["difference"] == pytest.approx(0.08, abs=0.01) and not nuisance["star"]


@pytest.mark.parametrize("control", ["multi-random-brain-tuned", "multi-random-brain-tuned, 5 seeds"])
def test_a_difference_from_the_permuted_control_has_a_star_however_many_seeds_it_has(control):
    names = {"brain-tuned": "multi-brain-tuned", "random-brain-tuned": control}
    table = drawn_table(("pie",)).replace({"condition": names})
    found = real_brains.compare(table, controls={"multi-brain-tuned": control})
    against = found[(found["reference"] == control) & found["star"]]
    assert against["region"].tolist() == ["late_language"] and (against["q"] < 0.05).all()


def test_regions_are_averaged_by_the_groups_they_lie_in():
    table = drawn_table(("pie",)).query("region == 'late_language'").drop(columns="region")
    regions = [
        table.assign(region=name, score=table["score"] + more) for name, more in (("7", 0.0), ("8", 0.2), ("9", 5))
    ]
    where = pd.DataFrame({"story": "pie", "region": ["7", "8", "9"], "label": ["PGi", "A5", ""]})
    found = real_brains.by_group(pd.concat(regions), where)
    assert set(found["region"]) == {"late_language", "all regions"} and tuple(found.columns) == real_brains.COLUMNS
    whole = found[found["region"] == "all regions"].merge(table, on=["participant", "condition"])
    np.testing.assert_allclose(whole["score_x"], whole["score_y"] + 5.2 / 3)
    alone = real_brains.by_group(pd.concat(regions), where.assign(label=""))
    assert set(alone["region"]) == {"7", "8", "9", "all regions"}
    merged = found[found["region"] == "late_language"].merge(
        table, on=["participant", "condition"], suffixes=("", "_of_one")
    )
    np.testing.assert_allclose(merged["score"], merged["score_of_one"] + 0.1)


def test_regions_that_lie_nowhere_are_shown_by_name_and_averaged_together():
    tea = drawn_table(("tea",)).query("region == 'late_language'")
    table = pd.concat([drawn_table(("pie",)), tea, tea.assign(region="x", score=tea["score"] + 0.2)])
    where = pd.DataFrame(
        {
            "story": ["pie", "pie", "tea", "tea"],
            "region": ["primary_auditory", "late_language", "late_language", "x"],
            "label": ["A1", "PGi", "", ""],
        }
    )
    found = real_brains.by_group(table, where)
    of_story = found.groupby("story")["region"].unique()
    assert sorted(of_story["pie"]) == ["all regions", "late_language", "primary_auditory + early_auditory"]
    assert list(of_story["tea"]) == ["late_language", "x", real_brains.ALL]
    whole = found[(found["story"] == "tea") & (found["region"] == real_brains.ALL)]
    means = whole.merge(tea, on=["participant", "condition"], suffixes=("", "_of_one"))
    np.testing.assert_allclose(means["score"], means["score_of_one"] + 0.1)
    titles = [ax.get_title() for ax in real_brains.draw(found, real_brains.compare(found), CONDITIONS, "n").axes]
    assert titles.count("All regions") == 2 and "X" in titles and "Primary and early auditory cortex" in titles


def test_every_person_is_a_point_of_every_bar_and_stars_are_those_that_were_earned():
    table = drawn_table()
    table = table[(table["story"] == "pie") | (table["region"] == "late_language")]
    fig = real_brains.draw(table, real_brains.compare(table), CONDITIONS, "Drawn")
    assert [ax.get_title() for ax in fig.axes] == ["Primary auditory cortex", *["Late language regions"] * 2]
    assert [ax.get_ylabel() for ax in fig.axes] == ["pie\n12 people held out\nr", "", "tea\n12 people held out\nr"]
    assert [text.get_text() for of_row in fig.subfigs for text in of_row.texts] == ["a", "b"]
    for ax, stars in zip(fig.axes, ([], ["*"], []), strict=True):
        assert len(ax.patches) == 3 and [text.get_text() for text in ax.texts] == stars
        points = [line for line in ax.lines if line.get_marker() == "o"]
        assert [len(line.get_ydata()) for line in points] == [3] * N_PEOPLE
        assert any(line.get_linestyle() == ":" for line in ax.lines)


def test_people_who_were_tuned_on_and_variants_are_families_of_their_own():
    table = drawn_table(("pie",))
    tuned = table.assign(participant="t" + table["participant"], people="tuned on")
    found = real_brains.compare(pd.concat([table, tuned]), families={"random-brain-tuned": "variants"})
    against = found[found["reference"] == "pretrained"]
    assert against["family"].nunique() == 4 and against["people"].value_counts().tolist() == [4, 4]
    assert {"pie held out: variants against pretrained", "pie tuned on: conditions against pretrained"} <= set(
        against["family"]
    )
    one = against[(against["people"] == "held out") & (against["condition"] == "brain-tuned")]
    np.testing.assert_allclose(one["q"], stats.false_discovery_q(one["p"].to_numpy()))
    assert real_brains.people_of(pd.concat([tuned, table]), "pie") == [f"pie{n}" for n in range(N_PEOPLE)]
    assert real_brains.people_of(tuned, "pie") == [f"tpie{n}" for n in range(N_PEOPLE)]


def test_a_map_outlines_parcels_and_the_groups_that_they_belong_to():
    atlas = parcels.sphere_atlas([(-58, -20, 4), (-46, 18, 14), (46, 18, 14)])
    cortex = parcels.parcel_cortex(atlas, [1, 2, 3])
    fig = real_brains.draw_map(cortex, np.array([0.1, 0.3, np.nan]), "r", "Drawn")
    assert isinstance(fig, Figure)
    legend = [text.get_text() for ax in fig.axes if ax.get_legend() for text in ax.get_legend().get_texts()]
    assert "late language" in legend and "primary auditory" not in legend
    nowhere = tiny.cortex()
    nowhere = parcels.Cortex(
        parcels.fs_lr(), parcels.hcp_mmp_labels(), np.array([""]), parcels.csr_matrix((parcels.fs_lr().n_vertices, 1))
    )
    tiny.refused(lambda: real_brains.draw_map(nowhere, np.array([1.0]), "r", ""), "none on the cortex", "centroids")


class Regions(Dataset):
    """Three regions that people have in common."""

    def region_names(self, participant):
        return ("7", "8", "9")

    def cortex(self, participant):
        return parcels.parcel_cortex(parcels.sphere_atlas([(-58, -20, 4), (-46, 18, 14), (46, 18, 14)]), [1, 2, 3])


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / "results"))
    tiny.encoder("hubert").save_pretrained(tmp_path / "backbone")
    content = tiny.study_content(tmp_path, tmp_path / "backbone") | {"conditions": ["pretrained", "brain-tuned"]}
    return load_study(tiny.write_yaml(tmp_path / "tiny.yaml", content))


def test_scores_of_the_steps_become_one_tidy_table(study):
    for participant, run in study.alignments():
        r = np.arange(9.0).reshape(3, 3) / 10 + (run.condition == "brain-tuned")
        r[:, 1] = np.nan
        save_arrays(study.scores_file(participant, run), {"r": r, "ceiling": np.array([0.4, 0.1, 0.5])}, {})
        save_arrays(study.nuisance_file(participant), {"r": np.array([0.2, np.nan, 0.3])}, {})
        if run.condition == "brain-tuned":
            shares = [1.0, 0.9] if participant == "P1" else [1.0, 1.1]
            study.model_folder(run).mkdir(parents=True, exist_ok=True)
            pd.DataFrame({"share_of_untuned": shares}).to_csv(study.model_folder(run) / "history.csv")
    table = real_brains.gather(study, Regions())
    assert tuple(table.columns) == real_brains.COLUMNS and set(table["layer"]) == {2}
    assert len(table) == 2 * len(study.participants) * 2 and set(table["region"]) == {"7", "9"}
    row = table[(table["condition"] == "brain-tuned") & (table["region"] == "9")].iloc[0]
    assert row["score"] == pytest.approx(1.8) and (row["nuisance_score"], row["ceiling"]) == (0.3, 0.5)
    assert set(table["story"]) == set(study.stories.test)
    left = table[table["untuned"]]
    assert len(left) and set(left["condition"]) == {"brain-tuned"} and "P1" not in set(left["participant"])


def test_groups_of_the_same_regions_are_one_row_one_test_and_one_outline():
    table = drawn_table(("pie",)).query("region == 'late_language'").drop(columns="region")
    regions = pd.concat([table.assign(region="7"), table.assign(region="8", score=table["score"] / 2)])
    where = pd.DataFrame({"story": "pie", "region": ["7", "8"], "label": ["A1", "A5"]})
    found = real_brains.by_group(regions, where)
    assert list(found["region"].unique()) == ["primary_auditory + early_auditory", "late_language", "all regions"]
    apart = real_brains.by_group(regions, where.assign(label=["A1", "RI"]))
    assert list(apart["region"].unique()) == ["primary_auditory", "early_auditory + all regions"]
    tests = real_brains.compare(found).query("reference == 'pretrained' and condition == 'brain-tuned'")
    assert len(tests) == 3 and tests["p"].notna().all()
    single = real_brains.by_group(table.assign(region="x"), where.assign(region=["x", "y"], label=""))
    assert set(single["region"]) == {"all regions"}
    atlas = parcels.sphere_atlas([(-46, -24, 8), (-58, -40, 4)])
    cortex = replace(parcels.parcel_cortex(atlas, [1, 2]), voxel_labels=np.array(["A1", "A5"]))
    fig = real_brains.draw_map(cortex, np.array([0.1, 0.3]), "r", "Drawn")
    legend = [text.get_text() for ax in fig.axes if ax.get_legend() for text in ax.get_legend().get_texts()]
    assert legend == ["primary auditory + early auditory", "late language"]


def test_a_model_left_as_pretrained_is_marked_and_not_tested_again():
    table = drawn_table(("pie",))
    same = table[table["condition"] == "pretrained"].assign(condition="brain-tuned", untuned=True)
    table = pd.concat([table[table["condition"] != "brain-tuned"], same])
    found = real_brains.compare(table)
    of_same, others = found[found["condition"] == "brain-tuned"], found[found["condition"] != "brain-tuned"]
    assert of_same["untuned"].all() and of_same[["p", "q"]].isna().all(axis=None) and not of_same["star"].any()
    assert not others["untuned"].any() and others["p"].notna().all()
    assert (of_same.loc[of_same["reference"] == "pretrained", ["difference", "low", "high"]] == 0).all(axis=None)
    chance = others[others["reference"] == "chance"]
    np.testing.assert_allclose(chance["q"], stats.false_discovery_q(chance["p"].to_numpy()))
    fig = real_brains.draw(table, found, CONDITIONS, "Drawn")
    for ax in fig.axes:
        marks = [(round(text.get_position()[0]), text.get_text()) for text in ax.texts]
        assert [place for place, text in marks if text == "="] == [1]


def test_maps_are_means_over_people_and_of_what_tuning_changed(study):
    rows = [
        (person, "", study.stories.test[0], condition, "small", 2, False, region, score, 0.0, 0.5)
        for person, own in (("P1", 0.0), ("P2", 0.2))
        for condition, gain in (("pretrained", 0.0), ("brain-tuned", 0.1))
        for region, score in (("7", own + gain), ("9", own + 3 * gain))
    ]
    found = real_brains.maps(study, Regions(), pd.DataFrame(rows, columns=real_brains.COLUMNS), "brain-tuned")
    ((story, (values, change, cortex, who)),) = found.items()
    assert story == study.stories.test[0] and cortex.n_voxels == 3 and who == "mean of 2 people"
    np.testing.assert_allclose(values, [0.2, np.nan, 0.4])
    np.testing.assert_allclose(change, [0.1, np.nan, 0.3])


def test_where_regions_lie_has_a_row_a_region_with_its_group_and_shares(study):
    where = real_brains.where_regions_lie(study, Regions())
    assert where["region"].tolist() == ["7", "8", "9"] and set(where["story"]) == set(study.stories.test)
    assert where["groups"].tolist() == ["early_auditory", "late_language", "late_language"]
    assert where["label"].isin(GROUPS["late_language"]).tolist() == [False, True, True]
    assert where["vertices"].gt(30).all() and where["late_language"].between(0, 1).all()
    tuned_on = study.model_copy(update={"lacks": {study.participants[0]: study.stories.test}})
    pd.testing.assert_frame_equal(real_brains.where_regions_lie(tuned_on, Regions()), where)
    several = study.stories.model_copy(update={"test": ("begin", "end")})
    both = real_brains.where_regions_lie(study.model_copy(update={"stories": several}), Regions())
    assert both["story"].unique().tolist() == ["begin, end"] and len(both) == len(where)
