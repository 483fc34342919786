"""Seeds and variants of tuning, on drawn scores of which the truth is known."""

import numpy as np
import pandas as pd
import pytest
import tiny
from braintuning.alignment import stats
from braintuning.figures import real_brains, seeds
from braintuning.study import load_study
from tiny_people import content

VARIANTS = {
    "keeping": {"condition": "multi-brain-tuned", "tuning": {"keep_weight": 1.0}},
    "again": {"condition": "multi-brain-tuned", "tuning": {"seed": 7}},
    "permuted-again": {"condition": "multi-random-brain-tuned", "tuning": {"seed": 7}},
    "two": {"condition": "multi-brain-tuned", "tuning": {"seed": 8}, "n_together": 2},
}
TUNED, PERMUTED = "multi-brain-tuned, 2 seeds", "multi-random-brain-tuned, 2 seeds"
GAIN = {"multi-brain-tuned": 0.0, "again": 0.04, "multi-random-brain-tuned": -0.02, "permuted-again": -0.04}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    (folder / "pie" / "responses").mkdir(parents=True)
    (folder / "tale" / "responses").mkdir(parents=True)
    for recording, person in (("pie", "sub-01"), ("pie", "sub-02"), ("pie", "sub-03"), ("tale", "s1")):
        np.save(folder / recording / "responses" / f"{person}.npy", np.zeros((3, 6)))
    made = content(folder, folder)
    made |= {"conditions": [*made["conditions"], *VARIANTS], "variants": VARIANTS}
    return load_study(tiny.write_yaml(folder / "seeds.yaml", made))


@pytest.fixture(scope="module")
def table(study):
    rng, rows = np.random.default_rng(0), []
    for person in range(8):
        own = rng.normal(0.1, 0.05)
        for condition in study.conditions:
            score, untuned = own + GAIN.get(condition, 0.0), condition == "multi-brain-tuned"
            rows.append((f"s{person}", "held out", "tale", condition, "small", 2, untuned, "x", score, 0.05, 0.5))
    return pd.DataFrame(rows, columns=real_brains.COLUMNS)


def test_seeds_are_those_that_differ_in_nothing_else(study):
    assert seeds.seeds_of(study) == {
        TUNED: ["multi-brain-tuned", "again"],
        PERMUTED: ["multi-random-brain-tuned", "permuted-again"],
    }
    assert seeds.controls_of(study) == dict.fromkeys(["multi-brain-tuned", "again", TUNED], PERMUTED)
    assert seeds.families_of(study) == dict.fromkeys(VARIANTS, "variants") | dict.fromkeys(
        (TUNED, PERMUTED), "means over seeds"
    )


def test_means_over_seeds_are_compared_with_the_pretrained_model_and_the_permuted_control(study, table):
    found = seeds.with_means_over_seeds(study, table)
    assert len(found) == len(table) + 2 * 8 and tuple(found) == real_brains.COLUMNS
    wide = found.pivot(index="participant", columns="condition", values="score")
    np.testing.assert_allclose(wide[TUNED], wide["pretrained"] + 0.02)
    assert not found.loc[found["condition"].isin([TUNED, PERMUTED]), "untuned"].any()
    statistics = real_brains.compare(found, families=seeds.families_of(study), controls=seeds.controls_of(study))
    of_mean = statistics[statistics["condition"] == TUNED].set_index("reference")
    assert set(of_mean.index) == {"chance", "nuisance", PERMUTED, "pretrained"}
    assert of_mean.loc["pretrained", "difference"] == pytest.approx(0.02)
    assert of_mean.loc[PERMUTED, "difference"] == pytest.approx(0.05)
    assert of_mean.loc[PERMUTED, "p"] == stats.signed_rank_p(np.full(8, 0.05))
    assert of_mean.loc[PERMUTED, "family"] == f"tale held out: means over seeds against {PERMUTED}"
    assert set(statistics.loc[statistics["reference"] == PERMUTED, "condition"]) == {
        "multi-brain-tuned",
        "again",
        TUNED,
    }


def test_every_model_is_a_line_with_its_difference_and_interval(study, table):
    found = seeds.with_means_over_seeds(study, table)
    statistics = real_brains.compare(found, families=seeds.families_of(study), controls=seeds.controls_of(study))
    fig = seeds.draw(study, statistics, "Drawn")
    (ax,) = fig.axes
    labels = [text.get_text() for text in ax.get_yticklabels()]
    assert labels == [TUNED, "seed 0", "seed 7", PERMUTED, "seed 0", "seed 7", "keeping", "two"]
    assert [text.get_text() for text in ax.texts].count("=") == 1
    points = [line.get_xydata()[0] for line in ax.lines if line.get_marker() in "os"]
    drawn = {round(float(y), 2): float(x) for x, y in points}
    assert drawn[-0.17] == pytest.approx(0.02) and drawn[0.17] == pytest.approx(0.05)
    assert 0.83 not in drawn and drawn[1.17] == pytest.approx(0.03) and drawn[1.83] == pytest.approx(0.04)
    assert ax.get_ylabel() == "tale\n8 people held out" and ax.get_xlabel() == "change in r"
    inks = {text.get_position()[0]: text.get_color() for text in ax.texts if text.get_text() == " *"}
    starred = statistics[statistics["star"] & (statistics["reference"] == PERMUTED)]
    assert len(starred) and all(inks[high] == seeds.LOOKS[1]["color"] for high in starred["high"])


def test_one_person_has_differences_without_intervals(study, table):
    alone = seeds.with_means_over_seeds(study, table[table["participant"] == "s0"])
    statistics = real_brains.compare(alone, controls=seeds.controls_of(study))
    (ax,) = seeds.draw(study, statistics, "Drawn").axes
    ends = statistics.loc[statistics["reference"].isin(["pretrained", PERMUTED]), "difference"].abs().max()
    assert ax.get_xlim() == pytest.approx((-1.1 * ends, 1.1 * ends))


def test_maps_show_the_mean_over_seeds_and_time_courses_a_seed_that_learnt(study, table):
    assert seeds.shown_tuned(study, table) == (TUNED, "again")
    nobody = table.assign(untuned=table["condition"] != "pretrained")
    assert seeds.shown_tuned(study, nobody) == (TUNED, "multi-brain-tuned")
    alone = study.model_copy(update={"conditions": ("pretrained",)})
    assert seeds.shown_tuned(alone, nobody) == ("pretrained", "pretrained")


def test_findings_say_what_the_tables_have(study, table):
    found = seeds.with_means_over_seeds(study, table).assign(region=real_brains.ALL)
    given = {"families": seeds.families_of(study), "controls": seeds.controls_of(study)}
    lines = seeds.findings(study, found, real_brains.compare(found, **given))
    level = found.loc[found["condition"] == "pretrained", "score"].mean()
    assert lines[0].endswith("left as pretrained: multi-brain-tuned.")
    assert f"r = {level:.3f} with the pretrained model, 0.050 with word rate" in lines[1] and "0.500." in lines[1]
    assert f"{TUNED} minus pretrained +0.0200" in lines[3] and f"{TUNED} minus {PERMUTED} +0.0500" in lines[4]
    assert f"{TUNED} minus {PERMUTED}" in lines[-1] and "keeping minus" not in lines[-1]
    same = found.assign(score=np.random.default_rng(2).normal(0.1, 0.01, len(found)), untuned=False)
    lines = seeds.findings(study, same, real_brains.compare(same, **given))
    assert lines[-1].endswith("differences between models, q < 0.05 in none.")
