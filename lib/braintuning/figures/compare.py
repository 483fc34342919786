"""Significance tests between conditions, in each participant and over participants."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from braintuning.alignment import stats
from braintuning.alignment.mask import used_voxels
from braintuning.cortex.regions import GROUPS
from braintuning.datasets.base import Dataset
from braintuning.figures.style import BRAIN_TUNED
from braintuning.figures.tables import people_tested
from braintuning.results import generator, load_arrays
from braintuning.study import Study

EVERYONE = "all"
WITHIN = "blocks of TRs swapped between models, within one participant"
ABOVE_CHANCE = "blocks of TRs permuted, within one participant"
OVER = "Wilcoxon signed-rank"
LEVEL = 0.05
CONTROLS = {BRAIN_TUNED: "random-brain-tuned", "multi-brain-tuned": "multi-random-brain-tuned"}
"""Tuned to the same responses, their blocks permuted."""
CHANCE, NUISANCE, *_ = ASIDE = ("chance", "nuisance", *CONTROLS.values())
"""What conditions are compared with beside pretrained, outside the figure's stars: chance (no other model), the
encoding model of word rate, envelope and position alone, and their permuted control."""


def compare(study: Study, dataset: Dataset, regions: Sequence[str]) -> pd.DataFrame:
    """Each condition against pretrained, chance, the nuisance baseline and its control at the figure's layer.

    Within a participant, the difference has a permutation p and a 95 % interval over blocks of TRs (`block_interval`),
    which are at least the study's `permutation_block_rows` long, or as the autocorrelation requires
    (`stats.block_length`). Over participants there is an interval from two on, and a signed-rank p from six on.

    The false discovery rate is controlled within families: over participants, or within one of them, all backbones x
    conditions x regions against pretrained. Tests against chance, the nuisance baseline and a permuted control, and
    variants, are families of their own: their many small p would let more of the others through.

    Parameters
    ----------
    regions : sequence of str
        Keys of `cortex.regions.GROUPS`.

    Returns
    -------
    DataFrame
        backbone, condition, reference ('chance' where the condition's own alignment is tested, 'nuisance' where it is
        against word rate, envelope and position alone, else a condition), roi, participant ('all' over participants),
        n_participants (those in whom the difference is defined), n_voxels, difference, low, high, p, test, block_rows
        (NaN over participants), family, q, star (whether the figure has one).
    """
    rows = []
    for backbone, condition, roi in product(study.backbones, study.conditions, regions):
        there = study.conditions_of(backbone)
        control = [name for name in there if name == CONTROLS.get(condition)]
        others = ["pretrained", CHANCE, NUISANCE, *control] if condition in there else []
        for against in [other for other in others if other != condition]:
            within = [
                within_participant(study, dataset, participant, backbone, condition, roi, against)
                for participant in people_tested(study)
            ]
            rows += [*within, _over(within)]
    table = pd.DataFrame(rows).drop(columns="tr_values")
    table["family"] = [_family(study, row) for row in table.itertuples()]
    table["q"] = table.groupby("family")["p"].transform(stats.false_discovery_q)
    return table.assign(star=table.index.isin(starred(table).index))


def _family(study: Study, row: tuple) -> str:
    who = "over participants" if row.participant == EVERYONE else row.participant
    what = "variants" if row.condition in study.variants else "conditions"
    return f"{who}: {what} against {row.reference}"


def within_participant(
    study: Study,
    dataset: Dataset,
    participant: str,
    backbone: str,
    condition: str,
    roi: str,
    against: str,
    against_backbone: str | None = None,
) -> dict:
    """A row of `compare` for one participant: a condition against another one, or against one of `ASIDE`.

    The other condition may be one of another backbone. A region without a used voxel gives NaN. `stats.tr_values` are
    in the row, but not in the table.
    """
    used = used_voxels(study, participant)
    voxels = np.isin(dataset.cortex(participant).voxel_labels, GROUPS[roi]) & used
    row = {
        "backbone": backbone, "condition": condition, "reference": against, "roi": roi, "participant": participant,
        "n_participants": int(voxels.any()), "n_voxels": int(voxels.sum()),
        "difference": np.nan, "low": np.nan, "high": np.nan, "p": np.nan,
        "test": ABOVE_CHANCE if against == CHANCE else WITHIN, "block_rows": np.nan, "tr_values": np.empty(0),
    }  # fmt: skip
    if not voxels.any():
        return row

    def scores(model: str, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if name == NUISANCE:
            kept = load_arrays(study.nuisance_file(participant))
            alignment = kept["alignment"]
        else:
            kept = load_arrays(study.scores_file(participant, study.run(model, name, participant)))
            alignment = kept["alignment"][study.figures.layer]
        return alignment[voxels], kept["predicted"][:, voxels[used]].astype(np.float64), 1 / kept["ceiling"][voxels]

    settings, test = study.encoding, study.stories_for(participant).test
    rng = generator(settings.seed, "compare", backbone, condition, roi, participant, against)
    truth = np.concatenate([dataset.responses(participant, s, voxels)[settings.test_skip_rows :] for s in test])
    difference, predicted, weights = scores(backbone, condition)
    other = None
    if against != CHANCE:
        alignment, other, _ = scores(against_backbone or backbone, against)
        difference = difference - alignment
    values = stats.tr_values(predicted, other, truth, weights)
    block_rows = stats.block_length(values, settings.permutation_block_rows)
    blocks = {"block_rows": block_rows, "n_permutations": settings.permutations}
    if other is None:
        p = stats.correlation_p(predicted, truth, weights, rng, **blocks)
    else:
        p = stats.difference_p(predicted, other, truth, weights, rng, **blocks)
    low, high = stats.block_interval(values, block_rows)
    found = {"difference": difference.mean(), "low": low, "high": high, "p": p, "block_rows": block_rows}
    return row | found | {"tr_values": values}


def _over(within: list[dict]) -> dict:
    """A row over participants, of those in whom the difference is defined."""
    differences = [row["difference"] for row in within if np.isfinite(row["difference"])]
    row = within[0] | {"participant": EVERYONE, "n_participants": len(differences), "test": OVER}
    row |= {"n_voxels": sum(row["n_voxels"] for row in within), "block_rows": np.nan}
    return row | over_participants(differences)


def over_participants(differences: Sequence[float]) -> dict[str, float]:
    """Mean of differences, its 95 % interval (Student's) and signed-rank p (NaN for fewer than six participants)."""
    differences = np.asarray(differences)
    low, high = stats.mean_interval(differences)
    mean = differences.mean() if len(differences) else np.nan
    return {"difference": mean, "low": low, "high": high, "p": stats.signed_rank_p(differences)}


def starred(statistics: pd.DataFrame, level: float = LEVEL) -> pd.DataFrame:
    """Differences over participants whose q is below `level`, which have a star in the figure."""
    asked = ~statistics["reference"].isin(ASIDE) if "reference" in statistics else True
    return statistics[(statistics["participant"] == EVERYONE) & (statistics["q"] < level) & asked]
