"""The paper's claims, one by one: what the pipeline concludes, beside what a simulation planted."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from braintuning import comparison, figure2, figure3, figure4, figure5, plots, stats
from braintuning.datasets.interface import Dataset
from braintuning.figure2 import at_layer
from braintuning.figure_multi import held_out
from braintuning.low_level_features import TOGETHER
from braintuning.seeding import generator
from braintuning.study import Study
from braintuning.word_pairs import PAIR_TYPES

LEVEL = 0.05
CONJUNCTION = f"{comparison.WITHIN}, in every participant"


@dataclass(frozen=True)
class Claim:
    """A difference between two conditions, and the direction in which the paper has it.

    `direction` is 1 (more), -1 (less) or 0 (no change). `among` says which participants it is about, `measure` what
    differs: a key of what `measured` returns. `roi` is empty where a measure knows no regions; `reference_roi` is the
    reference's where that is another. `planted`: the simulated listeners were made so that it holds for a model that
    can learn what drives them.
    """

    text: str
    condition: str
    reference: str
    roi: str
    direction: int
    among: str = "all"
    measure: str = "alignment"
    reference_roi: str = ""
    planted: bool = False


MEASURES = ("alignment", "low-level impact R (%)", "semantic preference", "task score")
_, IMPACT, PREFERENCE, SCORE = MEASURES
CLAIMS = (
    Claim("brain-tuning raises late language", "brain-tuned", "pretrained", "late_language", 1, planted=True),
    Claim("brain-tuning leaves primary auditory", "brain-tuned", "pretrained", "primary_auditory", 0),
    Claim("brain-tuning beats its permuted control", "brain-tuned", "random-brain-tuned", "late_language", 1,
          planted=True),
    Claim("the permuted control harms late language", "random-brain-tuned", "pretrained", "late_language", -1),
    Claim("brain-tuning beats a larger speech model", "brain-tuned", "bigslm-tuned", "late_language", 1),
    Claim("brain-tuning beats a text model", "brain-tuned", "lm-tuned", "late_language", 1),
    Claim("brain-tuning beats more of the same sound", "brain-tuned", "stimulus-tuned", "late_language", 1),
    Claim("joint tuning helps who took no part", "multi-brain-tuned", "pretrained", "late_language", 1, "held out",
          planted=True),
    Claim("late language leans less on sound", "pretrained", "pretrained", "late_language", -1, measure=IMPACT,
          reference_roi="primary_auditory", planted=True),
    Claim("brain-tuning lowers low-level impact", "brain-tuned", "pretrained", "late_language", -1, measure=IMPACT,
          planted=True),
    Claim("brain-tuning prefers meaning", "brain-tuned", "pretrained", "", 1, measure=PREFERENCE, planted=True),
    Claim("brain-tuning helps semantic tasks", "brain-tuned", "pretrained", "", 1, measure=SCORE),
    Claim("it helps them more than a larger model", "brain-tuned", "bigslm-tuned", "", 1, measure=SCORE),
)  # fmt: skip
NOT_SEMANTIC = ("emotion", "mfcc")  # tasks that the paper expects no gain in


def measured(study: Study, device: str = "cpu") -> dict[str, pd.DataFrame]:
    """Every measure of the study's figures that claims are about, one value a participant and model.

    Alignment and impact R are those at the figure's layer, preference too; a task score is the mean over the semantic
    tasks, each at the layer that validates best. A model that belongs to no participant counts for each of them.

    Returns
    -------
    dict of DataFrame
        Under each of `MEASURES` that the study's figures show: backbone, condition, participant, roi, value.
    """
    layer, shown = study.figures.layer, study.figures.notebooks
    tables = {"alignment": at_layer(figure2.gather(study, device), layer).assign(value=lambda t: t["alignment"])}
    if "fig3" in shown:
        impact = figure3.gather(study, device)
        impact = at_layer(impact[impact["feature"] == TOGETHER], layer)
        tables[IMPACT] = impact.assign(value=impact["r_percent"])
    if "fig5" in shown:
        preference = figure5.gather(study, device)
        preference = at_layer(preference[preference["pair_type"] == PAIR_TYPES[0]], layer)
        tables[PREFERENCE] = for_everybody(preference.assign(value=preference["preference"]), study)
    semantic = [task for task in study.probes.tasks if task not in NOT_SEMANTIC]
    if "fig4" in shown and semantic:
        scores = figure4.best_layer(figure4.gather(study, device))
        scores = scores[scores["task"].isin(semantic)]
        mean = scores.groupby(["backbone", "condition", "participant"], as_index=False)["value"].mean()
        tables[SCORE] = for_everybody(mean, study)
    return tables


def for_everybody(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Give a model that belongs to no participant to each of them, and `roi` its empty name."""
    owners = [[name] if name else list(study.participants) for name in table["participant"]]
    return table.assign(participant=owners, roi="").explode("participant", ignore_index=True)


def judge(
    study: Study, tables: dict[str, pd.DataFrame], claims: tuple[Claim, ...] = CLAIMS, dataset: Dataset | None = None
) -> pd.DataFrame:
    """Every claim whose measure the study has, in every tuned backbone that has its conditions.

    The effect is the mean over participants of the difference, with a bootstrap 95 % interval over participants. From
    six participants on p is the signed-rank test's. With fewer, a claim about alignment is tested in each of them
    (`comparison.within_participant`) and its p is that of their conjunction (Berger 1982: the largest), so that the
    verdict is on these participants, not on people. Within each test the false discovery rate is controlled.

    Parameters
    ----------
    study : Study
    tables : dict of DataFrame
        From `measured`.
    claims : tuple of Claim
    dataset : Dataset, optional
        The measured responses; without them fewer than six participants are not tested.

    Returns
    -------
    DataFrame
        claim, backbone, measure, roi, participants, n_participants (those in whom the difference is defined), effect,
        low, high, p, q, test, direction, planted (in a simulation), verdict: 'supported' and 'contradicted' need an
        interval without zero and q below .05; a claim of no change is 'not contradicted' otherwise, a claim of a change
        'not shown'; without a test there are 'too few participants', or the difference is 'not defined'.
    """
    rows = []
    for backbone in study.tuned_backbones:
        for claim in claims:
            conditions = {claim.condition, claim.reference}
            if claim.measure not in tables or not conditions <= set(study.conditions_of(backbone)):
                continue
            differences = _differences(study, tables[claim.measure], backbone, claim)
            low, high = stats.bootstrap_interval(differences, generator(0, "claims", backbone, claim.text))
            p, test = _tested(study, dataset, backbone, claim, differences)
            rows.append(
                {
                    "claim": claim.text, "backbone": backbone, "measure": claim.measure, "roi": claim.roi,
                    "participants": claim.among, "n_participants": len(differences), "effect": differences.mean(),
                    "low": low, "high": high, "p": p, "test": test, "direction": claim.direction,
                    "planted": claim.planted if study.dataset.simulation else "",
                }
            )  # fmt: skip
    judged = pd.DataFrame(rows)
    q = judged.groupby("test")["p"].transform(lambda p: stats.false_discovery_q(p.to_numpy()))
    judged.insert(judged.columns.get_loc("p") + 1, "q", q)
    judged["verdict"] = [_verdict(row) for row in judged.itertuples()]
    return judged


def _participants(study: Study, claim: Claim) -> list[str]:
    return list(held_out(study) if claim.among == "held out" else study.participants)


def _differences(study: Study, table: pd.DataFrame, backbone: str, claim: Claim) -> pd.Series:
    """The claim's condition minus its reference in each participant that it is about and in whom both are defined."""
    values = table[table["backbone"] == backbone].set_index(["condition", "roi", "participant"])["value"].sort_index()
    first = values[claim.condition, claim.roi]
    second = values[claim.reference, claim.reference_roi or claim.roi]
    return (first - second).loc[_participants(study, claim)].dropna()


def _tested(
    study: Study, dataset: Dataset | None, backbone: str, claim: Claim, differences: pd.Series
) -> tuple[float, str]:
    """Two-sided p of the claim's difference, and the name of the test; NaN and '' where there is none."""
    if len(differences) >= stats.FEWEST_PARTICIPANTS:
        return stats.signed_rank_p(differences), comparison.OVER
    if dataset is None or claim.measure != "alignment" or claim.reference_roi:
        return float("nan"), ""
    within = [
        comparison.within_participant(study, dataset, name, backbone, claim.condition, claim.roi, claim.reference)
        for name in _participants(study, claim)
    ]
    return stats.conjunction_p([(row["difference"], row["p"]) for row in within]), CONJUNCTION


def _verdict(row: tuple) -> str:
    if row.n_participants == 0:
        return "not defined"
    if not row.test:
        return "too few participants"
    sure = (row.low > 0 or row.high < 0) and row.q < LEVEL
    if row.direction == 0:
        return "contradicted" if sure else "not contradicted"
    if not sure:
        return "not shown"
    return "supported" if np.sign(row.effect) == row.direction else "contradicted"


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
    legend = "mean and 95 % interval over participants; blue: supported, red: contradicted, grey: neither"
    plots.small_print_below(fig, f"{legend}. {note}")
    return fig


def _panel(ax: Axes, judged: pd.DataFrame, texts: list[str]) -> None:
    inks = {"supported": "#0072b2", "contradicted": "#d55e00"}
    for row in judged.itertuples():
        place, ink = len(texts) - texts.index(row.claim), inks.get(row.verdict, "0.45")
        if np.isnan(row.effect):
            ax.annotate("n/a", (0, place), (4, 0), textcoords="offset points", va="center", fontsize=6, color="0.35")
        ax.plot([row.low, row.high], [place, place], color=ink, lw=1.2)
        ax.plot(row.effect, place, "o", ms=4, mfc=ink if row.direction else "white", mec=ink)
    ax.axvline(0, color="black", lw=0.6)
    ax.set_yticks(range(len(texts), 0, -1), texts)
    ax.set_ylim(0.4, len(texts) + 0.6)
