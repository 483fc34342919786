"""Claims: planted differences come back with their direction and verdict, whatever they were measured on."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from braintuning.figures import claims, evidence, impact, panels, preference, tables, tasks
from braintuning.figures.claims import CLAIMS, too_small
from braintuning.figures.evidence import FIFTH, IMPACT, MEASURES, PREFERENCE, RISE, SCORE, Claim
from braintuning.results import REPOSITORY
from braintuning.study import load_study
from tiny import refused

PARTICIPANTS = tuple(f"SIM{n:02d}" for n in range(1, 7))
GRID = REPOSITORY / "tests" / "grid.yaml"
LISTENERS = [f"SIM{n:02d}" for n in range(1, 8)]


@pytest.fixture(scope="module")
def study():
    six = {"participants": PARTICIPANTS, "tuned_together": PARTICIPANTS[:4]}
    return load_study(GRID).model_copy(update=six)


SAME_TIMES = SimpleNamespace(tr_times=lambda participant, story: np.arange(30.0))


def table(study, gains):
    """Measures of a study: an alignment of 0.3 and a bit by participant, and what each condition gains."""
    rows = []
    for backbone in study.backbones:
        for condition in study.conditions_of(backbone):
            for k, participant in enumerate(PARTICIPANTS):
                for roi in ("late_language", "primary_auditory"):
                    gain = gains.get((condition, roi), 0.0) * (1 + 0.1 * k)
                    rows.append((participant, backbone, condition, roi, 0.3 + 0.01 * k + gain))
    found = pd.DataFrame(rows, columns=["participant", "backbone", "condition", "roi", "value"])
    return {"alignment": found}


def verdicts(judged, backbone="hubert-small"):
    return judged[judged["backbone"] == backbone].set_index("claim")["verdict"]


def test_planted_gains_are_found_claim_by_claim(study):
    late, auditory = "late_language", "primary_auditory"
    gains = {("brain-tuned", late): 0.05, ("random-brain-tuned", late): -0.02, ("lm-tuned", late): 0.09}
    found = verdicts(claims.judge(study, table(study, {**gains, ("multi-brain-tuned", late): 0.02})))
    assert found["brain-tuning raises late language"] == "supported"
    assert found["brain-tuning leaves primary auditory"] == "no evidence of change"
    assert found["the permuted control harms late language"] == "supported"
    assert found["brain-tuning beats a text model"] == "contradicted"
    assert found["joint tuning helps who took no part"] == "no verdict (n = 2)"
    changed = verdicts(claims.judge(study, table(study, {("brain-tuned", auditory): 0.05})))
    assert changed["brain-tuning leaves primary auditory"] == "contradicted"
    assert changed["brain-tuning raises late language"] == "not shown"


def test_nothing_is_planted_in_the_negative_control(study):
    gains = {("brain-tuned", "late_language"): 0.05}
    judged = claims.judge(study, table(study, gains)).set_index("claim")["planted"]
    assert judged["brain-tuning raises late language"].all() and not judged.all()
    without = study.dataset.simulation.model_copy(update={"meaning": False})
    control = study.model_copy(update={"dataset": study.dataset.model_copy(update={"simulation": without})})
    assert not claims.judge(control, table(control, gains))["planted"].any()
    assert not load_study("no-meaning").dataset.simulation.meaning


def test_a_study_that_no_claim_is_about_is_told_so(study):
    alone = study.model_copy(
        update={"conditions": ("pretrained",), "backbones": dict(list(study.backbones.items())[:1])}
    )
    refused(lambda: claims.judge(alone, table(alone, {})), "no claim", "(pretrained)", "expected brain-tuned")


def test_effects_are_means_over_the_right_participants(study):
    judged = claims.judge(study, table(study, {("brain-tuned", "late_language"): 0.1}))
    row = judged[judged["claim"] == "brain-tuning raises late language"].iloc[0]
    assert row["effect"] == pytest.approx(0.1 * 1.25) and row["n_participants"] == 6
    assert row["p"] == pytest.approx(2 / 64) and row["low"] > 0.1
    joint = judged[judged["claim"] == "joint tuning helps who took no part"].iloc[0]
    assert joint["n_participants"] == 2 and np.isnan(joint["p"])


def test_backbones_without_the_conditions_are_left_out(study):
    judged = claims.judge(study, table(study, {}))
    assert "whisper-base" not in set(judged["backbone"])
    once = sum(claim.beside_large for claim in CLAIMS if claim.measure == "alignment")
    assert len(judged) == 3 * sum(claim.measure == "alignment" for claim in CLAIMS) - 2 * once


def test_a_large_effect_in_two_participants_alone_is_not_sure(study):
    data = table(study, {})["alignment"]
    lifted = (data["condition"] == "brain-tuned") & data["participant"].isin(PARTICIPANTS[:2])
    data.loc[lifted, "value"] += 0.2
    assert verdicts(claims.judge(study, {"alignment": data}))["brain-tuning raises late language"] == "not shown"


def test_the_figure_has_a_point_for_each_claim(study):
    judged = claims.judge(study, table(study, {}), (Claim("a", "brain-tuned", "pretrained", "late_language", 1),))
    figure = claims.draw(study, judged, "")
    assert [ax.get_title() for ax in figure.axes] == ["whisper-tiny.en", "wav2vec2-small", "hubert-small"]


def study_of(participants: list[str]):
    return load_study(GRID).model_copy(update={"participants": participants})


def planted(study, effect: float, roi: str = "") -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows = []
    for backbone in study.backbones:
        for participant in study.participants:
            base = rng.normal()
            for condition, more in (("pretrained", 0.0), ("brain-tuned", effect)):
                value = base + more + 0.01 * rng.normal()
                rows.append((backbone, condition, participant, roi, value))
    return pd.DataFrame(rows, columns=["backbone", "condition", "participant", "roi", "value"])


def claim_of(measure: str, direction: int, roi: str = "") -> Claim:
    return Claim("planted", "brain-tuned", "pretrained", roi, direction, measure=measure)


@pytest.mark.parametrize(
    ("effect", "direction", "verdict"),
    [
        (0.5, 1, "supported"),
        (0.5, -1, "contradicted"),
        (-0.5, -1, "supported"),
        (-0.5, 0, "contradicted"),
        (0.0, 1, "not shown"),
        (0.0, 0, "no evidence of change"),
    ],
)
@pytest.mark.parametrize("measure", MEASURES)
def test_planted_effect_and_its_verdict(measure, effect, direction, verdict):
    study = study_of(LISTENERS)
    judged = claims.judge(study, {measure: planted(study, effect)}, (claim_of(measure, direction),))
    assert set(judged["backbone"]) == set(study.tuned_backbones)
    assert judged["effect"].to_numpy() == pytest.approx(effect, abs=0.02)
    assert ((judged["low"] <= judged["effect"]) & (judged["effect"] <= judged["high"])).all()
    assert set(judged["verdict"]) == {verdict}


def test_claims_without_their_measure_are_left_out():
    study = study_of(LISTENERS)
    asked = (claim_of(IMPACT, -1), claim_of(PREFERENCE, 1))
    judged = claims.judge(study, {PREFERENCE: planted(study, 0.5)}, asked)
    assert set(judged["measure"]) == {PREFERENCE}


def test_a_claim_reads_its_own_region():
    study = study_of(LISTENERS)
    both = pd.concat([planted(study, 0.5, "late_language"), planted(study, -0.5, "primary_auditory")])
    judged = claims.judge(study, {"alignment": both}, (claim_of("alignment", 1, "primary_auditory"),))
    assert judged["effect"].to_numpy() == pytest.approx(-0.5, abs=0.02)


def test_a_model_of_nobody_counts_for_everybody():
    study = study_of(LISTENERS[:2])
    table = pd.DataFrame(
        {"participant": ["", "SIM02"], "condition": ["pretrained", "brain-tuned"], "value": [1.0, 2.0]}
    )
    spread = evidence.for_everybody(table, study)
    assert list(zip(spread["participant"], spread["value"], strict=True)) == [("SIM01", 1), ("SIM02", 1), ("SIM02", 2)]


def test_figure_has_a_panel_a_measure_and_backbone():
    study = study_of(LISTENERS)
    tables = {measure: planted(study, 0.3) for measure in MEASURES}
    judged = claims.judge(study, tables, tuple(claim_of(measure, 1) for measure in MEASURES))
    fig = claims.draw(study, judged, "note")
    assert len(fig.axes) == len(MEASURES) * len(study.tuned_backbones)
    assert "hollow" not in fig.texts[-1].get_text()
    fig = claims.draw(study, judged.assign(direction=0), "note")
    assert "hollow: claimed not to differ" in fig.texts[-1].get_text().replace("\n", " ")


def within_rows(monkeypatch, p, values=(0.4, 0.5, 0.6)):
    """Let every participant's difference be made of the same blocks of TRs, and have the p that is given."""
    asked = []

    def within(study, dataset, participant, backbone, condition, roi, against, other):
        asked.append((participant, backbone, condition, roi, against, other))
        row = {
            "participant": participant,
            "difference": np.mean(values),
            "p": p[participant],
            "tr_values": np.repeat(values, 10),
        }
        return row | dict(zip(("low", "high"), evidence.stats.mean_interval(values), strict=True))

    monkeypatch.setattr(evidence.compare, "within_participant", within)
    return asked


def test_few_participants_are_tested_one_by_one(monkeypatch):
    study = study_of(LISTENERS[:3])
    asked = within_rows(monkeypatch, {"SIM01": 0.001, "SIM02": 0.004, "SIM03": 0.002})
    table = planted(study, 0.5, "late_language")
    judged = claims.judge(study, {"alignment": table}, (claim_of("alignment", 1, "late_language"),), dataset=SAME_TIMES)
    assert judged["p"].to_list() == pytest.approx([0.004] * len(study.tuned_backbones))
    assert set(judged["test"]) == {evidence.EVERY} and set(judged["verdict"]) == {"no verdict (n = 3)"}
    assert set(judged["family"]) == {"alignment, within participants"}
    backbone = study.tuned_backbones[0]
    assert asked[0] == ("SIM01", backbone, "brain-tuned", "late_language", "pretrained", backbone)
    half = 4.302653 * 0.1 / np.sqrt(3)
    assert (judged["high"] - judged["effect"]).to_numpy() == pytest.approx(half, abs=1e-4)
    assert set(judged["interval"]) == {"blocks of TRs"}


def test_of_a_claim_of_no_change_the_smallest_p_within_participants_is_kept(monkeypatch):
    study, p = study_of(LISTENERS[:3]), (0.002, 0.9, 0.8)
    within_rows(monkeypatch, dict(zip(LISTENERS, p, strict=False)), (-0.4, 0.1, 0.6))
    table = planted(study, 0.1, "primary_auditory")
    claim = claim_of("alignment", 0, "primary_auditory")
    judged = claims.judge(study, {"alignment": table}, (claim,), dataset=SAME_TIMES)
    assert judged["p"].to_numpy() == pytest.approx(0.006)
    assert set(judged["test"]) == {evidence.ANY} and set(judged["verdict"]) == {"no verdict (n = 3)"}


def test_p_within_participants_does_not_help_a_test_over_participants(monkeypatch):
    """Of seven participants two are held out: what is sure within these two is a family of its own."""
    seven = load_study(GRID).model_copy(
        update={"participants": tuple(LISTENERS), "tuned_together": tuple(LISTENERS[:5])}
    )
    within_rows(monkeypatch, dict.fromkeys(LISTENERS, 0.001))
    table = planted(seven, 0.5, "late_language")
    asked = [claim_of("alignment", 1, "late_language")]
    asked.append(Claim("held", "brain-tuned", "pretrained", "late_language", 1, among="held out"))
    judged = claims.judge(seven, {"alignment": table}, tuple(asked), dataset=SAME_TIMES).set_index("claim")
    assert judged.loc["planted", "q"].to_numpy() == pytest.approx(2 / 2**7)
    assert set(judged.loc["planted", "verdict"]) == {"supported"}
    assert set(judged.loc["held", "verdict"]) == {"no verdict (n = 2)"}


@pytest.mark.parametrize(
    ("effect", "verdict"), [(0.5, "contradicted"), (-0.5, "supported"), (0, "no evidence of change")]
)
def test_what_improves_nothing_may_harm(effect, verdict):
    study = study_of(LISTENERS)
    claim = Claim("", "brain-tuned", "pretrained", "", 0, measure=SCORE, against=1)
    assert set(claims.judge(study, {SCORE: planted(study, effect)}, (claim,))["verdict"]) == {verdict}


@pytest.mark.parametrize("measure", [IMPACT, RISE])
def test_few_participants_have_an_interval_of_students(measure):
    study = study_of(LISTENERS[:4])
    judged = claims.judge(study, {measure: planted(study, -0.5)}, (claim_of(measure, -1),))
    assert set(judged["verdict"]) == {"no verdict (n = 4)"} and set(judged["test"]) == {""}
    assert judged["p"].isna().all() and set(judged["interval"]) == {"participants"}
    table = planted(study, -0.5).pivot(index=["backbone", "participant"], columns="condition", values="value")
    for row in judged.itertuples():
        change = (table["brain-tuned"] - table["pretrained"]).loc[row.backbone]
        half = 3.182446 * change.std() / 2
        assert (row.low, row.high) == pytest.approx((change.mean() - half, change.mean() + half), abs=1e-6)


@pytest.mark.parametrize("spread", [0.05, 0.5])
@pytest.mark.parametrize(("measure", "over"), [(PREFERENCE, "words"), (SCORE, "test speakers")])
def test_preference_and_tasks_are_as_sure_as_what_they_were_measured_on(measure, over, spread):
    study = study_of(LISTENERS[:2])
    judged = claims.judge(study, {measure: planted(study, 0.5).assign(spread=spread)}, (claim_of(measure, 1),))
    assert (judged["high"] - judged["low"]).to_numpy() == pytest.approx(2 * 1.959964 * np.sqrt(2) * spread)
    assert set(judged["verdict"]) == {"no verdict (n = 2)"} and judged["p"].isna().all()
    assert set(judged["interval"]) == {over}


@pytest.mark.parametrize("n", [1, 5, 6])
@pytest.mark.parametrize("measure", MEASURES)
def test_no_number_of_participants_under_six_gives_a_verdict(measure, n):
    study = study_of(LISTENERS[:n])
    table = planted(study, 5.0).assign(spread=1e-6) if measure in (PREFERENCE, SCORE) else planted(study, 5.0)
    for direction in (1, 0, -1):
        judged = claims.judge(study, {measure: table}, (claim_of(measure, direction),))
        found = set(judged["verdict"])
        if (measure, n) == ("alignment", 5):
            assert judged["q"].isna().all() and (judged["low"] < judged["high"]).all()
        assert (found == {f"no verdict (n = {n})"}) if n < 6 else (found <= {"supported", "contradicted"})


def test_a_base_model_is_set_beside_the_large_one():
    study = study_of(LISTENERS)
    base, large = study.figures.base_and_large
    table = planted(study, 0.0)
    table.loc[table["backbone"] == large, "value"] -= 100.0
    claim = Claim("reaches", "brain-tuned", "pretrained", "late_language", 0, against=-1, beside_large=True)
    judged = claims.judge(study, {"alignment": table.assign(roi="late_language")}, (claim,))
    (row,) = judged.itertuples()
    assert row.backbone == base and row.reference == f"pretrained {large}"
    assert row.effect == pytest.approx(100, abs=3) and row.verdict == "supported"


def test_rise_is_the_last_layer_over_the_middle_one_of_each_backbone():
    rows = [
        (backbone, "pretrained", "SIM01", layer, "late_language", value)
        for backbone, curve in {"a": [0.1, 0.2, 0.5, 0.4, 0.3], "b": [0.1, 0.2, 0.4]}.items()
        for layer, value in enumerate(curve)
    ]
    table = pd.DataFrame(rows, columns=["backbone", "condition", "participant", "layer", "roi", "alignment"])
    found = evidence.rise(table).set_index("backbone")["value"]
    assert found["a"] == pytest.approx(-0.2) and found["b"] == pytest.approx(0.2)


def test_a_fifth_of_the_data_is_set_beside_all_of_it():
    rows = [
        ("m", condition, "SIM03", layer, "late_language", hours, gain * hours + 0.01 * layer)
        for condition, gain in (("pretrained", 1.0), ("multi-brain-tuned", 3.0), ("brain-tuned", 9.0))
        for hours in (0.1, 0.2, 0.5, 0.9)
        for layer in (0, 1)
    ]
    columns = ["backbone", "condition", "participant", "layer", "roi", "hours", "alignment"]
    found = evidence.a_fifth(pd.DataFrame(rows, columns=columns).eval("n_stories = 10 * hours")).set_index("condition")[
        "value"
    ]
    assert found.to_dict() == pytest.approx({"pretrained": 0.91, "multi-brain-tuned": 0.61})
    study = study_of(["SIM01", "SIM02", "SIM03"])
    table = evidence.a_fifth(pd.DataFrame(rows, columns=columns).eval("n_stories = 10 * hours")).assign(
        backbone=study.figure_backbone
    )
    judged = claims.judge(study, {FIFTH: table}, tuple(c for c in CLAIMS if c.measure == FIFTH))
    assert judged["effect"].to_list() == pytest.approx([-0.3]) and set(judged["verdict"]) == {"no verdict (n = 1)"}


def test_the_layer_of_a_fifth_is_one_for_all_participants():
    """Each participant's own best layer would give both .5; the layer that is best on average gives .4 and .3."""
    curves = {"SIM03": [0.5, 0.4, 0.1], "SIM04": [0.0, 0.3, 0.5]}
    rows = [
        ("m", condition, participant, layer, "late_language", hours, value)
        for condition in ("pretrained", "multi-brain-tuned")
        for participant, curve in curves.items()
        for layer, value in enumerate(curve)
        for hours in (0.1, 0.5)
    ]
    columns = ["backbone", "condition", "participant", "layer", "roi", "hours", "alignment"]
    found = evidence.a_fifth(pd.DataFrame(rows, columns=columns).eval("n_stories = 10 * hours"))
    assert set(found["layer"]) == {1}
    assert found.groupby("participant")["value"].unique().explode().to_dict() == {"SIM03": 0.4, "SIM04": 0.3}


def test_participants_who_lack_a_story_stay_in_the_comparison_of_a_fifth():
    rows = [
        ("m", condition, participant, 0, "late_language", n, n * hours, n * 0.1)
        for condition in ("pretrained", "multi-brain-tuned")
        for participant, hours in (("SIM03", 0.2), ("SIM04", 0.18))
        for n in (1, 5)
    ]
    columns = ["backbone", "condition", "participant", "layer", "roi", "n_stories", "hours", "alignment"]
    found = evidence.a_fifth(pd.DataFrame(rows, columns=columns))
    assert found.groupby("condition")["participant"].apply(list).to_dict() == {
        "multi-brain-tuned": ["SIM03", "SIM04"],
        "pretrained": ["SIM03", "SIM04"],
    }


def test_mean_scores_add_the_errors_of_tasks_that_hear_the_same_speakers():
    rows = [("m", "pretrained", "", "phonemes", "one", 0.4), ("m", "pretrained", "", "asr", "one", 0.2)]
    rows += [("m", "pretrained", "", "intent", "two", 0.9)]
    table = pd.DataFrame(rows, columns=["backbone", "condition", "participant", "task", "corpus", "value"])
    table = table.assign(low=table["value"] - 1.959964 * 0.03, high=table["value"] + 1.959964 * 0.03)
    for of_scores in (table, table.assign(high=table["high"].clip(upper=0.91))):
        (row,) = evidence.mean_score(of_scores).itertuples()
        assert row.value == pytest.approx(0.5) and row.spread == pytest.approx(np.hypot(0.06, 0.03) / 3)
    (row,) = evidence.mean_score(table.assign(low=table["low"].where(table["task"] != "intent"))).itertuples()
    assert np.isnan(row.spread)


@pytest.mark.parametrize(("mfcc", "expected"), [(0.45, "layer 2 names 40.0% of phones, MFCCs 45.0%"), (0.35, "")])
def test_a_note_says_where_a_model_is_too_small_and_why(study, tmp_path, mfcc, expected):
    rows = [("MFCC and deltas", -1, mfcc, "synthesised"), ("MFCC and deltas", -1, 0.9, "real")]
    rows += [("pretrained", layer, 0.5 - 0.05 * layer, "synthesised") for layer in range(3)]
    columns = ["features", "layer", "accuracy", "speech"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "probe.csv", index=False)
    backbone = study.backbones["hubert-small"].model_copy(update={"name": str(tmp_path)})
    study = study.model_copy(update={"backbones": {**study.backbones, "hubert-small": backbone}})
    tables = table(study, {})
    judged = claims.judge(study, tables).groupby("backbone")["note"].unique().explode()
    assert judged["hubert-small"] == (f"too small to show it: {expected}" if expected else "")
    assert judged["whisper-tiny.en"] == ""
    low = too_small(study, tables["alignment"].assign(value=0.02), "whisper-tiny.en")
    assert low == "too small to show it: pretrained, its alignment with late language is 0.020, below 0.05"


def test_every_claim_is_judged_on_the_tables_of_the_whole_grid(monkeypatch):
    folder = REPOSITORY / "figures" / "demo-full"

    def stored(name):
        return lambda *_: pd.read_csv(folder / f"{name}.csv").fillna({"participant": ""})

    for module, name in ((tables, "fig2"), (impact, "fig3"), (tasks, "fig4"), (preference, "fig5")):
        monkeypatch.setattr(module, "gather", stored(name))
    monkeypatch.setattr(preference, "compare", stored("fig5_statistics"))
    monkeypatch.setattr(panels, "gather_amounts", stored("figB1"))
    whole = load_study("demo-full")
    found = evidence.gather(whole)
    assert tuple(sorted(found)) == tuple(sorted(MEASURES))
    judged = claims.judge(whole, found)
    assert set(judged["claim"]) == {claim.text for claim in CLAIMS}
    known = judged[judged["n_participants"] > 1]
    assert (known["low"] <= known["effect"]).all() and (known["effect"] <= known["high"]).all()
    assert set(judged["verdict"]) <= {"not defined", *(f"no verdict (n = {n})" for n in (1, 2, 3, 4))}


def test_a_difference_that_is_defined_in_nobody_has_no_verdict():
    study = study_of(LISTENERS)
    table = planted(study, 0.5).assign(value=np.nan)
    judged = claims.judge(study, {IMPACT: table}, (claim_of(IMPACT, -1),))
    assert set(judged["verdict"]) == {"not defined"} and set(judged["n_participants"]) == {0}
    figure = claims.draw(study, judged, "note")
    assert [[text.get_text() for text in ax.texts] for ax in figure.axes] == [[" n/a: not defined"]] * len(figure.axes)


def test_two_regions_of_one_model_are_compared():
    study = study_of(LISTENERS)
    both = pd.concat(
        [planted(study, 0.0, "late_language"), planted(study, 0.0, "primary_auditory").eval("value = value + 3")]
    )
    claim = Claim(
        "less", "pretrained", "pretrained", "late_language", -1, measure=IMPACT, reference_roi="primary_auditory"
    )
    judged = claims.judge(study, {IMPACT: both}, (claim,))
    assert judged["effect"].to_numpy() == pytest.approx(-3, abs=0.02)
    assert set(judged["verdict"]) == {"supported"}
