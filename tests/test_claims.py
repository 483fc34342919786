"""Claims: planted differences come back with their direction and verdict, whatever they were measured on."""

import numpy as np
import pandas as pd
import pytest
from braintuning import claims
from braintuning.study import load_study

LISTENERS = [f"SIM{number:02d}" for number in range(1, 8)]


def study_of(participants: list[str]):
    return load_study("demo-full").model_copy(update={"participants": participants})


def planted(study, effect: float, roi: str = "") -> pd.DataFrame:
    rng = np.random.default_rng(3)
    rows = []
    for backbone in study.tuned_backbones:
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
