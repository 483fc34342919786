"""The paper's claims, one by one: what the pipeline concludes, beside what a simulation planted."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from braintuning import stats
from braintuning.figure2 import at_layer
from braintuning.figure_multi import held_out
from braintuning.seeding import generator
from braintuning.study import Study

LEVEL = 0.05


@dataclass(frozen=True)
class Claim:
    """A difference between two conditions in a region, and the direction in which the paper has it.

    `direction` is 1 (more), -1 (less) or 0 (no change). `among` says which participants it is about.
    """

    text: str
    condition: str
    reference: str
    roi: str
    direction: int
    among: str = "all"


CLAIMS = (
    Claim("brain-tuning raises late language", "brain-tuned", "pretrained", "late_language", 1),
    Claim("brain-tuning leaves primary auditory", "brain-tuned", "pretrained", "primary_auditory", 0),
    Claim("brain-tuning beats its permuted control", "brain-tuned", "random-brain-tuned", "late_language", 1),
    Claim("the permuted control harms late language", "random-brain-tuned", "pretrained", "late_language", -1),
    Claim("brain-tuning beats a larger speech model", "brain-tuned", "bigslm-tuned", "late_language", 1),
    Claim("brain-tuning beats a text model", "brain-tuned", "lm-tuned", "late_language", 1),
    Claim("brain-tuning beats more of the same sound", "brain-tuned", "stimulus-tuned", "late_language", 1),
    Claim("joint tuning helps who took no part", "multi-brain-tuned", "pretrained", "late_language", 1, "held out"),
)


def judge(study: Study, table: pd.DataFrame, claims: tuple[Claim, ...] = CLAIMS) -> pd.DataFrame:
    """Every claim in every backbone that has its conditions, at the figure's layer.

    The effect is the mean over participants of the difference in alignment, with a bootstrap 95 % interval over
    participants and, from six participants on, a signed-rank p whose false discovery rate is controlled over the table.

    Parameters
    ----------
    study : Study
    table : DataFrame
        From `figure2.gather`.
    claims : tuple of Claim

    Returns
    -------
    DataFrame
        claim, backbone, roi, participants, n_participants, effect, low, high, p, q, direction, verdict: 'supported' and
        'contradicted' need an interval without zero and q below .05; a claim of no change is 'not contradicted'
        otherwise, a claim of a change 'not shown'; with fewer than six participants there are 'too few participants'.
    """
    chosen, rows = at_layer(table, study.figures.layer), []
    wide = chosen.pivot(index=["backbone", "roi", "participant"], columns="condition", values="alignment")
    for backbone in study.backbones:
        for claim in claims:
            if not {claim.condition, claim.reference} <= set(study.conditions_of(backbone)):
                continue
            names = list(held_out(study) if claim.among == "held out" else study.participants)
            cells = wide.loc[(backbone, claim.roi)].loc[names]
            differences = (cells[claim.condition] - cells[claim.reference]).to_numpy()
            low, high = stats.bootstrap_interval(differences, generator(0, "claims", backbone, claim.text))
            rows.append(
                {
                    "claim": claim.text, "backbone": backbone, "roi": claim.roi, "participants": claim.among,
                    "n_participants": len(differences), "effect": differences.mean(), "low": low, "high": high,
                    "p": stats.signed_rank_p(differences), "direction": claim.direction,
                }
            )  # fmt: skip
    judged = pd.DataFrame(rows)
    judged.insert(judged.columns.get_loc("p") + 1, "q", stats.false_discovery_q(judged["p"]))
    judged["verdict"] = [_verdict(row) for row in judged.itertuples()]
    return judged


def _verdict(row: tuple) -> str:
    if row.n_participants < stats.FEWEST_PARTICIPANTS:
        return "too few participants"
    sure = (row.low > 0 or row.high < 0) and row.q < LEVEL
    if row.direction == 0:
        return "contradicted" if sure else "not contradicted"
    if not sure:
        return "not shown"
    return "supported" if np.sign(row.effect) == row.direction else "contradicted"


def draw(study: Study, judged: pd.DataFrame, note: str) -> Figure:
    """Effects and their intervals, a row for each claim, a column for each backbone."""
    backbones, texts = list(dict.fromkeys(judged["backbone"])), list(dict.fromkeys(judged["claim"]))
    fig = Figure(figsize=(7.2, 0.8 + 0.26 * len(texts)), layout="constrained")
    inks = {"supported": "#0072b2", "contradicted": "#d55e00"}
    axes = fig.subplots(1, len(backbones), sharex=True, sharey=True, squeeze=False)[0]
    for ax, backbone in zip(axes, backbones, strict=True):
        for row in judged[judged["backbone"] == backbone].itertuples():
            place, ink = len(texts) - texts.index(row.claim), inks.get(row.verdict, "0.45")
            ax.plot([row.low, row.high], [place, place], color=ink, lw=1.2)
            ax.plot(row.effect, place, "o", ms=4, mfc=ink if row.direction else "white", mec=ink)
        ax.axvline(0, color="black", lw=0.6)
        ax.set_title(backbone)
        ax.set_yticks(range(len(texts), 0, -1), texts)
    fig.supxlabel("difference in alignment, mean and 95 % interval over participants", fontsize=7)
    fig.suptitle(f"blue: supported, red: contradicted, grey: neither. {note}", fontsize=5, color="0.35")
    return fig
