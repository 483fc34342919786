"""What stands behind a difference between conditions: in each participant, and over participants."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from braintuning.alignment import stats
from braintuning.alignment.encoding import scored_trs
from braintuning.cortex import regions as rois
from braintuning.datasets.base import Dataset
from braintuning.pipeline.steps import used_voxels
from braintuning.results import generator, load_arrays
from braintuning.study import Run, Study

EVERYONE = "all"
WITHIN = "blocks of TRs swapped between models"
ABOVE_CHANCE = "blocks of TRs permuted"
OVER = "Wilcoxon signed-rank"
LEVEL = 0.05


def compare(
    study: Study,
    dataset: Dataset,
    regions: Sequence[str],
    reference: str = "pretrained",
) -> pd.DataFrame:
    """Each condition against a reference and against chance at the figure's layer, region by region.

    In each participant the difference has a permutation p (blocks of TRs), a bootstrap 95 % interval over voxels (how
    evenly the region shows it: voxels share noise, so it is too narrow for anything else), and one over blocks of TRs
    (`stats.block_values`). Over at least six participants it has a signed-rank p, and over two or more an interval.

    The false discovery rate is controlled within families. A family is what one look at the figure asks: over
    participants, or in one of them, all backbones x conditions x regions against the reference. Tests against chance,
    which any model passes, are families of their own, and so are a study's variants, which another figure shows;
    otherwise the many that are small would let more of the others through.

    Parameters
    ----------
    study : Study
    dataset : Dataset
    regions : sequence of str
        Keys of `rois.GROUPS`.
    reference : str
        A condition of the study.

    Returns
    -------
    DataFrame
        backbone, condition, reference ('chance' where the condition's own alignment is tested), roi, participant ('all'
        over participants), n_participants (those in whom the difference is defined), n_voxels, difference, low, high,
        p, test, low_blocks, high_blocks (NaN over participants), family, q, star (whether the figure has one).
    """
    rows = []
    for backbone, condition, roi, against in product(study.backbones, study.conditions, regions, (reference, "chance")):
        if against != condition and condition in study.conditions_of(backbone):
            within = [
                within_participant(study, dataset, participant, backbone, condition, roi, against)
                for participant in study.participants
            ]
            rows += [*within, _over(within)]
    table = pd.DataFrame(rows).drop(columns="block_values")
    table["family"] = [_family(study, row) for row in table.itertuples()]
    table["q"] = table.groupby("family")["p"].transform(lambda p: stats.false_discovery_q(p.to_numpy()))
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
    """A row of `compare` for one participant: a condition against another one, or against 'chance'.

    The other condition may be one of another backbone. A region without a voxel of the participant's gives NaN.
    `block_values` in the row, which the table leaves out, are those of `stats.block_values`.
    """
    used = used_voxels(study, participant)
    inside = (rois.members(dataset.cortex(participant).voxel_labels, roi) & used)[used]
    row = {
        "backbone": backbone, "condition": condition, "reference": against, "roi": roi, "participant": participant,
        "n_participants": int(inside.any()), "n_voxels": int(inside.sum()),
        "difference": np.nan, "low": np.nan, "high": np.nan, "p": np.nan,
        "test": ABOVE_CHANCE if against == "chance" else WITHIN, "low_blocks": np.nan, "high_blocks": np.nan,
        "block_values": np.empty(0),
    }  # fmt: skip
    if not inside.any():
        return row
    first, second, truth, difference = _compared(
        study, dataset, participant, (backbone, condition), (against_backbone or backbone, against), inside
    )
    rng = generator(study.encoding.seed, "compare", backbone, condition, roi, participant, against)
    settings = study.encoding
    blocks = {"block_rows": settings.permutation_block_rows, "n_permutations": settings.permutations}
    if second is None:
        p = stats.correlation_p(first["predicted"], truth, 1 / first["ceiling"], rng, **blocks)
    else:
        p = stats.difference_p(first["predicted"], second["predicted"], truth, 1 / first["ceiling"], rng, **blocks)
    low, high = stats.bootstrap_interval(difference, rng)
    values = stats.block_values(
        first["predicted"], second and second["predicted"], truth, 1 / first["ceiling"], blocks["block_rows"]
    )
    low_blocks, high_blocks = stats.mean_interval(values)
    found = {"difference": difference.mean(), "low": low, "high": high, "p": p}
    return row | found | {"low_blocks": low_blocks, "high_blocks": high_blocks, "block_values": values}


def _compared(
    study: Study,
    dataset: Dataset,
    participant: str,
    model: tuple[str, str],
    other: tuple[str, str],
    inside: np.ndarray,
) -> tuple[dict, dict | None, np.ndarray, np.ndarray]:
    """Scores of two models (None for chance), measured responses, and differences of the used voxels `inside`."""
    used = used_voxels(study, participant)
    test, voxels = study.stories_for(participant).test, np.zeros(len(used), bool)
    voxels[np.flatnonzero(used)[inside]] = True
    truth = scored_trs({story: dataset.responses(participant, story, voxels) for story in test}, test, study.encoding)
    first = _scores(study, participant, study.run(*model, participant), voxels, inside)
    if other[1] == "chance":
        return first, None, truth, first["alignment"]
    second = _scores(study, participant, study.run(*other, participant), voxels, inside)
    return first, second, truth, first["alignment"] - second["alignment"]


def _scores(study: Study, participant: str, run: Run, voxels: np.ndarray, inside: np.ndarray) -> dict[str, np.ndarray]:
    scores = load_arrays(study.scores_file(participant, run))
    return {
        "alignment": scores["alignment"][study.figures.layer][voxels],
        "predicted": scores["predicted"][:, inside].astype(np.float64),
        "ceiling": scores["ceiling"][voxels],
    }


def _over(within: list[dict]) -> dict:
    """A row over participants, of those in whom the difference is defined."""
    differences = np.array([row["difference"] for row in within if np.isfinite(row["difference"])])
    first = within[0]
    rng = generator(0, "over", first["backbone"], first["condition"], first["roi"], first["reference"])
    low, high = stats.bootstrap_interval(differences, rng)
    return first | {
        "participant": EVERYONE,
        "n_participants": len(differences),
        "n_voxels": sum(row["n_voxels"] for row in within),
        "difference": differences.mean() if len(differences) else np.nan,
        "low": low,
        "high": high,
        "p": stats.signed_rank_p(differences),
        "test": OVER,
        "low_blocks": np.nan,
        "high_blocks": np.nan,
    }


def starred(table: pd.DataFrame, level: float = LEVEL) -> pd.DataFrame:
    """Rows that earn a star: differences over participants whose q is below `level`; never those of one participant."""
    return table[(table["participant"] == EVERYONE) & (table["reference"] != "chance") & (table["q"] < level)]
