import numpy as np
import pandas as pd
import pytest
from braintuning import claims
from braintuning.claims import Claim
from braintuning.study import load_study

PARTICIPANTS = tuple(f"SIM{n:02d}" for n in range(1, 7))


@pytest.fixture(scope="module")
def study():
    six = {"participants": PARTICIPANTS, "tuned_together": PARTICIPANTS[:4]}
    return load_study("demo-full").model_copy(update=six)


def table(study, gains):
    """Alignment of 0.3 and a bit by participant, and what each condition gains."""
    rows = []
    for backbone in study.backbones:
        for condition in study.conditions_of(backbone):
            for k, participant in enumerate(PARTICIPANTS):
                for roi in ("late_language", "primary_auditory"):
                    for layer in range(3):
                        gain = gains.get((condition, roi), 0.0) * (1 + 0.1 * k) if layer == 2 else 9.0
                        rows.append((participant, backbone, condition, layer, roi, 0.3 + 0.01 * k + gain))
    return pd.DataFrame(rows, columns=["participant", "backbone", "condition", "layer", "roi", "alignment"])


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
    assert len(judged) == 3 * len(claims.CLAIMS)


def test_a_large_effect_in_two_participants_alone_is_not_sure(study):
    data = table(study, {})
    lifted = (data["condition"] == "brain-tuned") & data["participant"].isin(PARTICIPANTS[:2])
    data.loc[lifted, "alignment"] += 0.2
    assert verdicts(claims.judge(study, data))["brain-tuning raises late language"] == "not shown"


def test_the_figure_has_a_point_for_each_claim(study):
    judged = claims.judge(study, table(study, {}), (Claim("a", "brain-tuned", "pretrained", "late_language", 1),))
    figure = claims.draw(study, judged, "")
    assert [ax.get_title() for ax in figure.axes] == ["whisper-tiny.en", "wav2vec2-small", "hubert-small"]
