"""Evidence on a claim: the tables of what is measured, and how sure a difference between two models is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from braintuning.alignment import stats
from braintuning.datasets.base import Dataset
from braintuning.figures import compare, impact, panels, preference, tables, tasks
from braintuning.figures.tables import MODEL, at_layer
from braintuning.lowlevel.features import TOGETHER
from braintuning.pipeline.pictures import pictures_of
from braintuning.preference.pairs import PAIR_TYPES
from braintuning.study import Study

MEASURES = (
    "alignment",
    "low-level impact R (%)",
    "semantic preference",
    "task score",
    "rise from middle to last layer",
    "alignment, joint model on a fifth of the data",
)
ALIGNMENT, IMPACT, PREFERENCE, SCORE, RISE, FIFTH = MEASURES
LATE = "late_language"
NOT_SEMANTIC = ("emotion", "mfcc")
"""Tasks that the paper expects no gain in."""
HALF_WIDTH = 1.959964
"""Half of a normal 95 % interval, in standard errors."""
EVERY = f"{compare.WITHIN}: the largest p"
ANY = f"{compare.WITHIN}: the smallest p times their number"
RESAMPLED = {PREFERENCE: "words", SCORE: "test speakers"}
Tables = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class Claim:
    """A difference between two models, and the direction in which the paper has it.

    `direction` is 1 (more), -1 (less) or 0 (no change); of no change, `against` is the sign that alone would contradict
    it (a control that 'improves nothing' may harm), 0 either. `among` is 'all' participants or those 'held out',
    `measure` one of `MEASURES`. `roi` is empty where a measure has no regions; `reference_roi` is the reference's where
    it differs. `beside_large`: the reference is the larger model of panel A2. `planted`: the simulated listeners were
    made so that it holds for a model that can learn what drives them.
    """

    text: str
    condition: str
    reference: str
    roi: str
    direction: int
    among: str = "all"
    measure: str = ALIGNMENT
    reference_roi: str = ""
    planted: bool = False
    against: int = 0
    beside_large: bool = False


class Evidence(NamedTuple):
    """A 95 % interval of a mean difference, what it is over, a two-sided p and the name of its test.

    NaN and '' where there is none. A `test` over participants is `compare.OVER`; `EVERY` and `ANY` are made of tests
    within participants, and say nothing of others.
    """

    low: float = float("nan")
    high: float = float("nan")
    p: float = float("nan")
    test: str = ""
    interval: str = ""


def gather(study: Study) -> Tables:
    """Every measure of the study's figures that claims are about, one value a participant and model.

    Alignment, impact R and preference are those at the figure's layer, R after the removal that the study draws; a task
    score is the mean over the semantic tasks, each at the layer that validates best. A model that belongs to no
    participant counts for each of them.

    Returns
    -------
    dict of DataFrame
        Under each of `MEASURES` that the study's figures show: backbone, condition, participant, roi, value; of
        preference and tasks `spread` too, the value's standard error over words or test speakers (of
        preference, of the change from pretrained).
    """
    layer, aligned = study.figures.layer, tables.gather(study)
    shown = pictures_of(study, *study.figures.notebooks)
    found = {ALIGNMENT: at_layer(aligned, layer).assign(value=lambda t: t["alignment"]), RISE: rise(aligned)}
    if "fig3" in shown:
        table = impact.drawn(study, impact.gather(study))
        table = at_layer(table[table["feature"] == TOGETHER], layer)
        found[IMPACT] = table.assign(value=table["r_percent"])
    if "fig5" in shown:
        table = preference.gather(study)
        table = at_layer(table[table["pair_type"] == PAIR_TYPES[0]], layer)
        changes = at_layer(preference.compare(study), layer)
        found[PREFERENCE] = for_everybody(_with_spread(table, changes), study)
    semantic = [task for task in study.probes.tasks if task not in NOT_SEMANTIC]
    if "fig4" in shown and semantic:
        table = tasks.best_layer(tasks.gather(study))
        found[SCORE] = for_everybody(mean_score(table[table["task"].isin(semantic)]), study)
    if "figB1" in shown:
        found[FIFTH] = a_fifth(panels.gather_amounts(study))
    return found


def rise(table: pd.DataFrame) -> pd.DataFrame:
    """How far alignment with late language regions rises from a model's middle layer to its last.

    It tells a bell-shaped curve, which falls there, from a rise without picking a layer by its height.
    """
    chosen = table[table["roi"] == LATE]
    last = chosen.groupby("backbone")["layer"].transform("max")
    ends = [chosen[chosen["layer"] == layer].set_index(MODEL)["alignment"] for layer in (last, last // 2)]
    return (ends[0] - ends[1]).rename("value").reset_index().assign(roi=LATE)


def a_fifth(table: pd.DataFrame) -> pd.DataFrame:
    """Late-language alignment at the best layer: joint models on a fifth of the stories, pretrained ones on all.

    The fifth is the smallest number of first stories that makes up at least a fifth of the time. The layer is that of
    `tables.at_best_layer`, one for all participants.
    """
    late = table[table["roi"] == LATE]
    best = tables.at_best_layer(late, ["backbone", "condition", "roi", "n_stories"])
    best["hours"] = best.groupby("n_stories")["hours"].transform("mean")
    most = best["hours"].max()
    little = best.loc[best["hours"] >= most / 5 - 1e-9, "hours"].min()
    joint, whole = best["condition"] == panels.JOINTLY_TUNED, best["condition"] == "pretrained"
    chosen = best[(joint & (best["hours"] == little)) | (whole & (best["hours"] == most))]
    return chosen.rename(columns={"alignment": "value"})


def _with_spread(table: pd.DataFrame, changes: pd.DataFrame) -> pd.DataFrame:
    """Preference of each model and the standard error of its change from pretrained, 0 for pretrained models."""
    spread = changes.set_index(MODEL).eval("high - low") / 2 / HALF_WIDTH
    found = spread.reindex(pd.MultiIndex.from_frame(table[MODEL])).fillna(0.0)
    return table.assign(value=table["preference"], spread=found.to_numpy())


def mean_score(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean of each model over tasks, and its standard error over test speakers, from each task's interval.

    The lower half of the interval says how wide it is, since the upper end is cut at 1. Tasks on the same corpus have
    the same speakers: their errors are added as if they were fully correlated.
    """
    errors = scores.assign(spread=(scores["value"] - scores["low"]) / HALF_WIDTH)
    together = errors.groupby([*MODEL, "corpus"], as_index=False)["spread"].sum(min_count=1)
    spread = together.groupby(MODEL)["spread"].agg(lambda values: np.sqrt((values**2).sum(skipna=False)))
    of_model = errors.groupby(MODEL)["value"]
    return pd.DataFrame({"value": of_model.mean(), "spread": spread / of_model.size()}).reset_index()


def for_everybody(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Give a model that belongs to no participant to each of them, and `roi` its empty name."""
    owners = [[name] if name else list(study.participants) for name in table["participant"]]
    return table.assign(participant=owners, roi="").explode("participant", ignore_index=True)


def evidence_for(
    study: Study,
    dataset: Dataset | None,
    claim: Claim,
    backbones: tuple[str, str],
    first: pd.DataFrame,
    second: pd.DataFrame,
) -> Evidence:
    """How sure the mean over participants of `first` minus `second` is.

    From six participants on: the interval over participants, and the signed-rank test. With fewer there is no test over
    participants, and the interval is over what is known within them:

    - alignment: over blocks of TRs (`stats.block_interval` of `stats.tr_values`, averaged over participants, who heard
      the same). The p is that of tests within each of them: of a claim of a change that of their conjunction (Berger
      1982: the largest), of one of no change the smallest times their number (Bonferroni).
    - preference and tasks: over words or test speakers, from the standard errors of the two values. Both models are
      scored on the same words or speakers; the interval ignores this, and so is too wide. Errors are taken to be shared
      by the participants.
    - the rest, whose predictions are not kept: Student's over participants, from two on, which takes differences to be
      normal. It says how far participants agree on the story that was tested, and nothing of another story. Alignment
      without a dataset is treated in the same way.

    `backbones` are those of the claim's condition and of its reference; `first` and `second` are of the participants in
    whom both are defined, in the same order: value, and spread where it is known.
    """
    differences = (first["value"] - second["value"]).to_numpy()
    if not len(differences):
        return Evidence()
    effect = differences.mean()
    if len(differences) >= stats.FEWEST_PARTICIPANTS:
        found = compare.over_participants(differences)
        return Evidence(found["low"], found["high"], found["p"], compare.OVER, "participants")
    if "spread" in first:
        half = HALF_WIDTH * float(np.hypot(first["spread"], second["spread"]).mean())
        return Evidence(effect - half, effect + half, interval=RESAMPLED[claim.measure])
    if claim.measure == ALIGNMENT and dataset is not None:
        return _within(study, dataset, claim, backbones, first.index, effect)
    return Evidence(*stats.mean_interval(differences), interval="participants")


def _within(
    study: Study, dataset: Dataset, claim: Claim, backbones: tuple[str, str], participants: Sequence[str], effect: float
) -> Evidence:
    asked = (backbones[0], claim.condition, claim.roi, claim.reference, backbones[1])
    rows = [compare.within_participant(study, dataset, participant, *asked) for participant in participants]
    low, high = _over_blocks(study, dataset, rows, effect)
    if claim.direction == 0:
        p, test = stats.bonferroni_p([row["p"] for row in rows]), ANY
    else:
        p, test = stats.conjunction_p([(row["difference"], row["p"]) for row in rows]), EVERY
    return Evidence(low, high, p, test, "blocks of TRs")


def _over_blocks(study: Study, dataset: Dataset, rows: Sequence[dict], effect: float) -> tuple[float, float]:
    """Interval over the TRs that all participants heard; where they heard different ones, the mean of their own."""
    participants = [row["participant"] for row in rows]
    heard = [np.concatenate([dataset.tr_times(p, s) for s in study.stories_for(p).test]) for p in participants]
    if not all(np.array_equal(times, heard[0]) for times in heard):
        bounds = ((row["low"], row["high"]) - row["tr_values"].mean() for row in rows)
        return tuple(float(bound) for bound in np.mean(list(bounds), axis=0) + effect)
    values = np.mean([row["tr_values"] for row in rows], axis=0)
    block_rows = stats.block_length(values, study.encoding.permutation_block_rows)
    return stats.block_interval(values - values.mean() + effect, block_rows)
