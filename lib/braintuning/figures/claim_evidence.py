"""How sure a claim's difference is: over participants where there are enough, else within those there are."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import norm

from braintuning.alignment import stats
from braintuning.datasets.base import Dataset
from braintuning.figures import compare as comparison
from braintuning.figures.claim_measures import HALF_WIDTH
from braintuning.figures.paper_claims import ALIGNMENT, PREFERENCE, Claim
from braintuning.results import generator
from braintuning.study import Study

EVERY = f"{comparison.WITHIN}, in every participant"
ANY = f"{comparison.WITHIN}, in any participant, times their number"
T_TEST = "t over participants"
NORMAL = {True: "normal, pairs of words resampled", False: "normal, test speakers resampled"}


class Evidence(NamedTuple):
    """A 95 % interval of a mean difference, what it is over, a two-sided p and the name of its test.

    NaN and '' where there is none.
    """

    low: float = float("nan")
    high: float = float("nan")
    p: float = float("nan")
    test: str = ""
    interval: str = ""


def evidence(
    study: Study,
    dataset: Dataset | None,
    claim: Claim,
    backbones: tuple[str, str],
    first: pd.DataFrame,
    second: pd.DataFrame,
) -> Evidence:
    """How sure the mean over participants of `first` minus `second` is.

    From six participants on: the interval over participants, and the signed-rank test. With fewer, by what is known
    within them, so that the verdict is on these participants:

    - alignment: the interval over blocks of TRs (`stats.block_values`, averaged over participants, who heard the same).
      A claim of a change is tested in each of them and its p is that of their conjunction (Berger 1982: the largest);
      one of no change falls with the smallest p times their number (Bonferroni).
    - preference and tasks: an interval over pairs of words or test speakers, from the standard errors of the two
      values, and the p of a normal law. Both models met the same ones and so did all participants; the first is not
      made use of, which widens the interval, and errors are taken to be shared by the participants.
    - the rest, whose predictions are not kept: the interval and test after Student over participants, from two on,
      which take differences to be normal. They say that participants agree on the story that was tested, and nothing of
      another story; that alone makes small effects surer here than those of alignment.

    Parameters
    ----------
    study : Study
    dataset : Dataset, optional
        Without it alignment is not tested in fewer than six participants.
    claim : Claim
    backbones : (str, str)
        Of the claim's condition and of its reference.
    first, second : DataFrame
        Of the participants in whom both are defined, in the same order: value, and spread where it is known.
    """
    differences = (first["value"] - second["value"]).to_numpy()
    rng = generator(0, "claims", *backbones, claim.text)
    if len(differences) >= stats.FEWEST_PARTICIPANTS:
        interval = stats.bootstrap_interval(differences, rng)
        return Evidence(*interval, stats.signed_rank_p(differences), comparison.OVER, "participants")
    if not len(differences):
        return Evidence()
    if "spread" in first:
        spread = float(np.hypot(first["spread"], second["spread"]).mean())
        return _normal(differences.mean(), spread, claim.measure == PREFERENCE)
    if claim.measure != ALIGNMENT:
        known = len(differences) > 1
        interval = stats.mean_interval(differences)
        return Evidence(*interval, stats.mean_p(differences), T_TEST if known else "", "participants")
    if dataset is None:
        return Evidence(*stats.mean_interval(differences), interval="participants")
    return _within(study, dataset, claim, backbones, first.index, differences.mean())


def _normal(effect: float, spread: float, over_pairs: bool) -> Evidence:
    half = HALF_WIDTH * spread
    p = float(2 * norm.sf(abs(effect) / spread)) if spread > 0 else float("nan")
    over = "pairs of words" if over_pairs else "test speakers"
    return Evidence(effect - half, effect + half, p, NORMAL[over_pairs] if np.isfinite(p) else "", over)


def _within(
    study: Study,
    dataset: Dataset,
    claim: Claim,
    backbones: tuple[str, str],
    participants: Sequence[str],
    effect: float,
) -> Evidence:
    rows = [
        comparison.within_participant(
            study, dataset, name, backbones[0], claim.condition, claim.roi, claim.reference, backbones[1]
        )
        for name in participants
    ]
    low, high = _over_blocks(rows, effect)
    if claim.direction == 0:
        p, test = stats.bonferroni_p([row["p"] for row in rows]), ANY
    else:
        p, test = stats.conjunction_p([(row["difference"], row["p"]) for row in rows]), EVERY
    return Evidence(low, high, p, test, "blocks of TRs")


def _over_blocks(rows: Sequence[dict], effect: float) -> tuple[float, float]:
    """Interval over the blocks that all participants heard; where they heard different ones, the mean of their own."""
    if len({len(row["block_values"]) for row in rows}) > 1:
        return tuple(float(np.mean([row[bound] for row in rows])) for bound in ("low_blocks", "high_blocks"))
    values = np.mean([row["block_values"] for row in rows], axis=0)
    return stats.mean_interval(values - values.mean() + effect)
