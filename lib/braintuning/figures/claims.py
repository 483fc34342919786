"""The paper's claims, one by one: what the pipeline concludes, beside what a simulation planted."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from braintuning.alignment.stats import FEWEST_PARTICIPANTS, false_discovery_q
from braintuning.cortex.page import NOTE_POINTS
from braintuning.datasets.base import Dataset
from braintuning.errors import InputError
from braintuning.figures.compare import LEVEL, OVER
from braintuning.figures.evidence import (
    ALIGNMENT,
    FIFTH,
    IMPACT,
    LATE,
    PREFERENCE,
    RISE,
    SCORE,
    Claim,
    Tables,
    evidence_for,
)
from braintuning.figures.impact import which_removal
from braintuning.figures.style import BRAIN_TUNED, letter, small_print_below
from braintuning.figures.tables import unlearnt
from braintuning.results import REPOSITORY
from braintuning.study import Study

TOO_LITTLE_ALIGNMENT = 0.05
AUDITORY = "primary_auditory"
CONTROL = "random-brain-tuned"
CLAIMS = (
    Claim("brain-tuning raises late language", BRAIN_TUNED, "pretrained", LATE, 1, planted=True),
    Claim("brain-tuning leaves primary auditory", BRAIN_TUNED, "pretrained", AUDITORY, 0),
    Claim("brain-tuning beats its permuted control", BRAIN_TUNED, CONTROL, LATE, 1, planted=True),
    Claim("the permuted control harms late language", CONTROL, "pretrained", LATE, -1),
    Claim("brain-tuning beats a larger speech model", BRAIN_TUNED, "bigslm-tuned", LATE, 1),
    Claim("brain-tuning beats a text model", BRAIN_TUNED, "lm-tuned", LATE, 1),
    Claim("brain-tuning beats more of the same sound", BRAIN_TUNED, "stimulus-tuned", LATE, 1),
    Claim("joint tuning helps who took no part", "multi-brain-tuned", "pretrained", LATE, 1, "held out", planted=True),
    Claim("brain-tuned base reaches a large model", BRAIN_TUNED, "pretrained", LATE, 0, against=-1, beside_large=True),
    Claim("late language leans less on sound", "pretrained", "pretrained", LATE, -1, measure=IMPACT,
          reference_roi=AUDITORY, planted=True),
    Claim("brain-tuning lowers low-level impact", BRAIN_TUNED, "pretrained", LATE, -1, measure=IMPACT, planted=True),
    Claim("the permuted control does not lower it", CONTROL, "pretrained", LATE, 0, measure=IMPACT, against=-1),
    Claim("brain-tuned base has less than a large model", BRAIN_TUNED, "pretrained", LATE, -1, measure=IMPACT,
          beside_large=True),
    Claim("brain-tuning prefers meaning", BRAIN_TUNED, "pretrained", "", 1, measure=PREFERENCE, planted=True),
    Claim("the permuted control does not prefer it", CONTROL, "pretrained", "", 0, measure=PREFERENCE, against=1),
    Claim("brain-tuning helps semantic tasks", BRAIN_TUNED, "pretrained", "", 1, measure=SCORE),
    Claim("it helps them more than a larger model", BRAIN_TUNED, "bigslm-tuned", "", 1, measure=SCORE),
    Claim("the permuted control does not help them", CONTROL, "pretrained", "", 0, measure=SCORE, against=1),
    Claim("late language's layer curve rises more", BRAIN_TUNED, "pretrained", LATE, 1, measure=RISE),
    Claim("joint model reaches pretrained on all data", "multi-brain-tuned", "pretrained", LATE, 0, "held out",
          measure=FIFTH, against=-1),
)  # fmt: skip


def judge(
    study: Study, tables: Tables, claims: tuple[Claim, ...] = CLAIMS, dataset: Dataset | None = None
) -> pd.DataFrame:
    """Every claim whose measure the study has, in every tuned backbone that has its conditions.

    The effect is the mean over participants of the difference; interval and p are those of `evidence.evidence_for`. The
    false discovery rate is controlled within each measure, over claims and backbones, apart for tests over participants
    and for those within them. `tables` are from `evidence.gather`; without a dataset's responses alignment in fewer
    than six participants has no p. `InputError` where no claim is about the conditions of the study.

    Returns
    -------
    DataFrame
        claim, backbone, measure, roi, participants, n_participants (those in whom the difference is defined), effect,
        low, high, p, q, test, direction, planted (in a simulation), condition, reference, interval (what it is over),
        family (of the false discovery rate), verdict, note (where the model is too small to show it).

        With fewer than six participants there is 'no verdict (n = 2)', whatever the interval or the tests within them.
        Verdicts 'supported' and 'contradicted' need an interval without zero and q below .05. Otherwise a claim of a
        change is 'not shown', and for one of no change there is 'no evidence of change', which is no support. 'Not
        defined' are differences that no participant has. All verdicts are on the test stories of the study.
    """
    rows = []
    for backbone in study.tuned_backbones:
        for claim in claims:
            backbones = _models(study, tables, backbone, claim)
            if backbones:
                rows.append(_row(study, tables, dataset, backbones, claim))
    if not rows:
        found = f"no claim of the paper is about its conditions ({', '.join(study.conditions)})"
        raise InputError(f"study {study.name}: {found}, expected brain-tuned beside pretrained or a control")
    judged = pd.DataFrame(rows)
    judged["family"] = judged["measure"] + np.where(judged["test"].isin(["", OVER]), "", ", within participants")
    q = judged.groupby("family")["p"].transform(false_discovery_q)
    judged.insert(judged.columns.get_loc("p") + 1, "q", q)
    judged["verdict"] = [_verdict(row) for row in judged.itertuples()]
    if ALIGNMENT in tables:
        notes = {name: too_small(study, tables[ALIGNMENT], name) for name in judged["backbone"].unique()}
        judged["note"] = judged["backbone"].map(notes)
    return judged.drop(columns="against")


def _models(study: Study, tables: Tables, backbone: str, claim: Claim) -> tuple[str, str] | None:
    """Backbones of a claim's condition and of its reference; None where the study does not have both."""
    other = backbone
    if claim.beside_large:
        base, other = study.figures.base_and_large or (None, None)
        if backbone != base:
            return None
    if claim.measure not in tables or claim.condition not in study.conditions_of(backbone):
        return None
    there = claim.reference in study.conditions_of(other) and backbone in set(tables[claim.measure]["backbone"])
    return (backbone, other) if there else None


def _row(study: Study, tables: Tables, dataset: Dataset | None, backbones: tuple[str, str], claim: Claim) -> dict:
    table = tables[claim.measure].set_index(["backbone", "condition", "roi", "participant"]).sort_index()
    table = table[[column for column in ("value", "spread") if column in table]]
    participants = list(study.held_out if claim.among == "held out" else study.participants)
    first = table.loc[backbones[0], claim.condition, claim.roi].reindex(participants)
    second = table.loc[backbones[1], claim.reference, claim.reference_roi or claim.roi].reindex(participants)
    defined = (first["value"] - second["value"]).notna()
    first, second = first[defined], second[defined]
    found = evidence_for(study, dataset, claim, backbones, first, second)
    simulation = study.dataset.simulation
    return {
        "claim": claim.text, "backbone": backbones[0], "measure": claim.measure, "roi": claim.roi,
        "participants": claim.among, "n_participants": len(first), "effect": (first["value"] - second["value"]).mean(),
        "low": found.low, "high": found.high, "p": found.p, "test": found.test, "direction": claim.direction,
        "planted": claim.planted and simulation.meaning if simulation else "", "condition": claim.condition,
        "reference": claim.reference if backbones[0] == backbones[1] else f"{claim.reference} {backbones[1]}",
        "interval": found.interval, "against": claim.against,
        "removal": study.low_level.removal if claim.measure == IMPACT else "",
    }  # fmt: skip


def _verdict(row: tuple) -> str:
    if row.n_participants == 0:
        return "not defined"
    if row.n_participants < FEWEST_PARTICIPANTS:
        return f"no verdict (n = {row.n_participants})"
    sign, sure = np.sign(row.effect), row.q < LEVEL and (row.low > 0 or row.high < 0)
    if row.direction == 0:
        if sure and row.against and sign == -row.against:
            return "supported"
        return "contradicted" if sure else "no evidence of change"
    if not sure:
        return "not shown"
    return "supported" if sign == row.direction else "contradicted"


def too_small(study: Study, alignment: pd.DataFrame, backbone: str) -> str:
    """A sentence where a pretrained model is too small for a claim to be judged on it; else nothing.

    It is if its mean alignment with late language regions is below `TOO_LITTLE_ALIGNMENT`, or if a linear probe decodes
    phones worse from the figure's layer than from MFCCs (`probe.csv` beside the weights: of synthesised speech where
    the listeners heard such, else of real speech). `alignment` is the table of that measure from `evidence.gather`.
    """
    found = []
    chosen = alignment[(alignment["backbone"] == backbone) & (alignment["roi"] == LATE)]
    mean = chosen.loc[chosen["condition"] == "pretrained", "value"].mean()
    if mean < TOO_LITTLE_ALIGNMENT:
        found.append(f"pretrained, its alignment with late language is {mean:.3f}, below {TOO_LITTLE_ALIGNMENT:g}")
    if phones := _phones(study, backbone):
        layer, own, mfcc = phones
        if own < mfcc:
            found.append(f"layer {layer} names {own:.1%} of phones, MFCCs {mfcc:.1%}")
    return f"too small to show it: {'; '.join(found)}" if found else ""


def _phones(study: Study, backbone: str) -> tuple[int, float, float] | None:
    """Figure's layer, its accuracy on phones and that of MFCCs; None where no probe lies beside the weights."""
    name = study.backbones[backbone].name
    path = next((f for f in (Path(name) / "probe.csv", REPOSITORY / name / "probe.csv") if f.is_file()), None)
    if path is None:
        return None
    probe = pd.read_csv(path)
    probe = probe[probe["speech"] == ("synthesised" if study.dataset.simulation else "real")]
    own = probe[probe["features"] == "pretrained"].set_index("layer")["accuracy"]
    layer = study.figures.layer % len(own)
    return layer, float(own[layer]), float(probe.loc[probe["features"] == "MFCC and deltas", "accuracy"].iloc[0])


def draw(study: Study, judged: pd.DataFrame, note: str) -> Figure:
    """Effects and their intervals: a column for each backbone, a row of panels for each measure, a line a claim."""
    backbones, measures = list(dict.fromkeys(judged["backbone"])), list(dict.fromkeys(judged["measure"]))
    texts = {m: list(dict.fromkeys(judged.loc[judged["measure"] == m, "claim"])) for m in measures}
    heights = [0.8 + 0.26 * len(texts[measure]) for measure in measures]
    fig = Figure(figsize=(7.2, 0.3 + sum(heights)), layout="constrained")
    grid = fig.subplots(len(measures), len(backbones), sharex="row", sharey="row", squeeze=False, height_ratios=heights)
    for axes, measure in zip(grid, measures, strict=True):
        for ax, backbone in zip(axes, backbones, strict=True):
            of_panel = judged[(judged["backbone"] == backbone) & (judged["measure"] == measure)]
            _panel(ax, of_panel, texts[measure])
        axes[len(backbones) // 2].set_xlabel(f"difference in {measure}")
    for ax, backbone in zip(grid[0], backbones, strict=True):
        ax.set_title(backbone)
    letter(grid[:, 0])
    kinds = judged.groupby("measure", sort=False)["interval"].unique()
    over = ", ".join(f"{measure}: {' or '.join(filter(None, kind))}" for measure, kind in kinds.items() if any(kind))
    legend = f"Mean over participants and 95 % interval ({over}); blue: supported, red: contradicted, grey: neither"
    legend += "; hollow: claimed not to differ" if (judged["direction"] == 0).any() else ""
    if IMPACT in measures:
        note = f"{note}. {which_removal(study)}"
    if (few := judged["n_participants"] < FEWEST_PARTICIPANTS).any():
        counts = " or ".join(map(str, sorted(set(judged.loc[few, "n_participants"]))))
        legend += f"; no verdict with {counts} participants, at least {FEWEST_PARTICIPANTS} are needed"
    shown = [run for run in study.main_runs() if run.condition in set(judged["condition"])]
    small_print_below(fig, ". ".join([legend, note, *unlearnt(study, shown)]))
    return fig


def _panel(ax: Axes, judged: pd.DataFrame, texts: list[str]) -> None:
    inks = {"supported": "#0072b2", "contradicted": "#d55e00"}
    for row in judged.itertuples():
        place, ink = len(texts) - texts.index(row.claim), inks.get(row.verdict, "0.45")
        if np.isnan(row.effect):
            ax.text(0, place, f" n/a: {row.verdict}", va="center", fontsize=NOTE_POINTS, color="0.35")
            continue
        ax.plot([row.low, row.high], [place, place], color=ink, lw=1.2)
        ax.plot(row.effect, place, "o", ms=4, mfc=ink if row.direction else "white", mec=ink)
    ax.axvline(0, color="black", lw=0.6)
    ax.set_yticks(range(len(texts), 0, -1), texts)
    ax.set_ylim(0.4, len(texts) + 0.6)
