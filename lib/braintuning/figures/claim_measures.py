"""What claims are judged by: one value a participant and model of everything that a study measures."""

import numpy as np
import pandas as pd

from braintuning.figures import impact as figure3
from braintuning.figures import preference as figure5
from braintuning.figures import tables as figure2
from braintuning.figures import tasks as figure4
from braintuning.figures.joint import MULTI, gather_amounts
from braintuning.figures.paper_claims import ALIGNMENT, FIFTH, IMPACT, LATE, PREFERENCE, RISE, SCORE
from braintuning.figures.tables import at_layer
from braintuning.lowlevel.features import TOGETHER
from braintuning.preference.pairs import PAIR_TYPES
from braintuning.study import Study

NOT_SEMANTIC = ("emotion", "mfcc")
"""Tasks that the paper expects no gain in."""
HALF_WIDTH = 1.959964
"""Half of a normal 95 % interval, in standard errors."""
MODEL = ["backbone", "condition", "participant"]
Tables = dict[str, pd.DataFrame]


def measured(study: Study) -> Tables:
    """Every measure of the study's figures that claims are about, one value a participant and model.

    Alignment and impact R are those at the figure's layer, preference too; a task score is the mean over the semantic
    tasks, each at the layer that validates best. A model that belongs to no participant counts for each of them.

    Returns
    -------
    dict of DataFrame
        Under each of `paper_claims.MEASURES` that the study's figures show: backbone, condition, participant, roi,
        value; of preference and tasks `spread` too, the value's standard error over pairs of words or test speakers
        (of preference, of the change from pretrained).
    """
    layer, shown, aligned = study.figures.layer, study.figures.notebooks, figure2.gather(study)
    tables = {ALIGNMENT: at_layer(aligned, layer).assign(value=lambda t: t["alignment"]), RISE: rise(aligned)}
    if "fig3" in shown:
        impact = figure3.gather(study)
        impact = at_layer(impact[impact["feature"] == TOGETHER], layer)
        tables[IMPACT] = impact.assign(value=impact["r_percent"])
    if "fig5" in shown:
        preference = figure5.gather(study)
        preference = at_layer(preference[preference["pair_type"] == PAIR_TYPES[0]], layer)
        changes = at_layer(figure5.compare(study), layer)
        tables[PREFERENCE] = for_everybody(_with_spread(preference, changes), study)
    semantic = [task for task in study.probes.tasks if task not in NOT_SEMANTIC]
    if "fig4" in shown and semantic:
        scores = figure4.best_layer(figure4.gather(study))
        tables[SCORE] = for_everybody(mean_score(scores[scores["task"].isin(semantic)]), study)
    if "figB1" in shown and study.held_out and study.figures.story_counts:
        tables[FIFTH] = a_fifth(gather_amounts(study))
    return tables


def rise(table: pd.DataFrame) -> pd.DataFrame:
    """How far alignment with late language regions rises from a model's middle layer to its last.

    A curve like a bell falls there, so that this difference tells a bell from a rise without picking a layer by its
    height.
    """
    chosen = table[table["roi"] == LATE]
    last = chosen.groupby("backbone")["layer"].transform("max")
    ends = [chosen[chosen["layer"] == layer].set_index(MODEL)["alignment"] for layer in (last, last // 2)]
    return (ends[0] - ends[1]).rename("value").reset_index().assign(roi=LATE)


def a_fifth(table: pd.DataFrame) -> pd.DataFrame:
    """Best layer's late-language alignment: joint models on the first fifth of the stories, pretrained ones on all.

    The fifth is the smallest number of stories that makes up at least a fifth of the time.
    """
    late = table[table["roi"] == LATE]
    best = late.groupby([*MODEL, "roi", "hours"], as_index=False)["alignment"].max()
    most = best["hours"].max()
    little = best.loc[best["hours"] >= most / 5 - 1e-9, "hours"].min()
    joint, whole = best["condition"] == MULTI, best["condition"] == "pretrained"
    chosen = best[(joint & (best["hours"] == little)) | (whole & (best["hours"] == most))]
    return chosen.rename(columns={"alignment": "value"})


def _with_spread(preference: pd.DataFrame, changes: pd.DataFrame) -> pd.DataFrame:
    """Preference of each model and the standard error of its change from pretrained, 0 for pretrained models."""
    spread = changes.set_index(MODEL).eval("high - low") / 2 / HALF_WIDTH
    found = spread.reindex(pd.MultiIndex.from_frame(preference[MODEL])).fillna(0.0)
    return preference.assign(value=preference["preference"], spread=found.to_numpy())


def mean_score(scores: pd.DataFrame) -> pd.DataFrame:
    """Mean of each model over tasks, and its standard error over test speakers, from each task's interval.

    Tasks on the same corpus hear the same speakers: their errors are added as if they went together.
    """
    errors = scores.assign(spread=(scores["high"] - scores["low"]) / 2 / HALF_WIDTH)
    together = errors.groupby([*MODEL, "corpus"], as_index=False)["spread"].sum()
    spread = together.groupby(MODEL)["spread"].agg(lambda values: np.sqrt((values**2).sum()))
    of_model = errors.groupby(MODEL)["value"]
    return pd.DataFrame({"value": of_model.mean(), "spread": spread / of_model.size()}).reset_index()


def for_everybody(table: pd.DataFrame, study: Study) -> pd.DataFrame:
    """Give a model that belongs to no participant to each of them, and `roi` its empty name."""
    owners = [[name] if name else list(study.participants) for name in table["participant"]]
    return table.assign(participant=owners, roi="").explode("participant", ignore_index=True)
