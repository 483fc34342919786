"""Claims: planted differences come back with their direction and verdict, whatever they were measured on."""

import numpy as np
import pandas as pd
import pytest
from braintuning import claims
from braintuning.claims import Claim
from braintuning.study import load_study

PARTICIPANTS = tuple(f"SIM{n:02d}" for n in range(1, 7))
LISTENERS = [f"SIM{n:02d}" for n in range(1, 8)]


@pytest.fixture(scope="module")
def study():
    six = {"participants": PARTICIPANTS, "tuned_together": PARTICIPANTS[:4]}
    return load_study("demo-full").model_copy(update=six)


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
    assert found["brain-tuning leaves primary auditory"] == "not contradicted"
    assert found["the permuted control harms late language"] == "supported"
    assert found["brain-tuning beats a text model"] == "contradicted"
    assert found["joint tuning helps who took no part"] == "too few participants"
    changed = verdicts(claims.judge(study, table(study, {("brain-tuned", auditory): 0.05})))
    assert changed["brain-tuning leaves primary auditory"] == "contradicted"
    assert changed["brain-tuning raises late language"] == "not shown"


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
    assert len(judged) == 3 * sum(claim.measure == "alignment" for claim in claims.CLAIMS)


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
    return load_study("demo-full").model_copy(update={"participants": participants})


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


def claim_of(measure: str, direction: int, roi: str = "") -> claims.Claim:
    return claims.Claim("planted", "brain-tuned", "pretrained", roi, direction, measure=measure)


@pytest.mark.parametrize(
    ("effect", "direction", "verdict"),
    [
        (0.5, 1, "supported"),
        (0.5, -1, "contradicted"),
        (-0.5, -1, "supported"),
        (-0.5, 0, "contradicted"),
        (0.0, 1, "not shown"),
        (0.0, 0, "not contradicted"),
    ],
)
@pytest.mark.parametrize("measure", claims.MEASURES)
def test_planted_effect_and_its_verdict(measure, effect, direction, verdict):
    study = study_of(LISTENERS)
    judged = claims.judge(study, {measure: planted(study, effect)}, (claim_of(measure, direction),))
    assert set(judged["backbone"]) == set(study.tuned_backbones)
    assert judged["effect"].to_numpy() == pytest.approx(effect, abs=0.02)
    assert ((judged["low"] <= judged["effect"]) & (judged["effect"] <= judged["high"])).all()
    assert set(judged["verdict"]) == {verdict}


def test_few_participants_get_no_verdict():
    study = study_of(LISTENERS[:5])
    judged = claims.judge(study, {"alignment": planted(study, 0.5)}, (claim_of("alignment", 1),))
    assert set(judged["verdict"]) == {"too few participants"}
    assert judged["q"].isna().all()


def test_claims_without_their_measure_are_left_out():
    study = study_of(LISTENERS)
    asked = (claim_of(claims.IMPACT, -1), claim_of(claims.PREFERENCE, 1))
    judged = claims.judge(study, {claims.PREFERENCE: planted(study, 0.5)}, asked)
    assert set(judged["measure"]) == {claims.PREFERENCE}


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
    spread = claims.for_everybody(table, study)
    assert list(zip(spread["participant"], spread["value"], strict=True)) == [("SIM01", 1), ("SIM02", 1), ("SIM02", 2)]


def test_figure_has_a_panel_a_measure_and_backbone():
    study = study_of(LISTENERS)
    tables = {measure: planted(study, 0.3) for measure in claims.MEASURES}
    judged = claims.judge(study, tables, tuple(claim_of(measure, 1) for measure in claims.MEASURES))
    fig = claims.draw(study, judged, "note")
    assert len(fig.axes) == len(claims.MEASURES) * len(study.tuned_backbones)


def test_few_participants_are_tested_one_by_one(monkeypatch):
    study = study_of(LISTENERS[:3])
    table = planted(study, 0.5, "late_language")
    asked = []

    def within(study, dataset, participant, backbone, condition, roi, against):
        asked.append((participant, backbone, condition, roi, against))
        return {"difference": 0.5, "p": {"SIM01": 0.001, "SIM02": 0.004, "SIM03": 0.002}[participant]}

    monkeypatch.setattr(claims.comparison, "within_participant", within)
    judged = claims.judge(study, {"alignment": table}, (claim_of("alignment", 1, "late_language"),), dataset=object())
    assert judged["p"].to_list() == pytest.approx([0.004] * len(study.tuned_backbones))
    assert set(judged["test"]) == {claims.CONJUNCTION} and set(judged["verdict"]) == {"supported"}
    assert asked[0] == ("SIM01", study.tuned_backbones[0], "brain-tuned", "late_language", "pretrained")


def test_a_difference_that_is_defined_in_nobody_has_no_verdict():
    study = study_of(LISTENERS)
    table = planted(study, 0.5).assign(value=np.nan)
    judged = claims.judge(study, {claims.IMPACT: table}, (claim_of(claims.IMPACT, -1),))
    assert set(judged["verdict"]) == {"not defined"} and set(judged["n_participants"]) == {0}
    claims.draw(study, judged, "note")


def test_two_regions_of_one_model_are_compared():
    study = study_of(LISTENERS)
    both = pd.concat(
        [planted(study, 0.0, "late_language"), planted(study, 0.0, "primary_auditory").eval("value = value + 3")]
    )
    claim = claims.Claim(
        "less", "pretrained", "pretrained", "late_language", -1, measure=claims.IMPACT, reference_roi="primary_auditory"
    )
    judged = claims.judge(study, {claims.IMPACT: both}, (claim,))
    assert judged["effect"].to_numpy() == pytest.approx(-3, abs=0.02)
    assert set(judged["verdict"]) == {"supported"}
