"""What stands behind a difference between conditions: in each participant, and over participants."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd

from braintuning import rois, stats
from braintuning.alignment import measured
from braintuning.datasets.interface import Dataset
from braintuning.results import load_arrays
from braintuning.seeding import generator
from braintuning.stages import used_voxels
from braintuning.study import Run, Study

EVERYONE = "all"
WITHIN = "blocks of TRs swapped between models"
ABOVE_CHANCE = "blocks of TRs permuted"
OVER = "Wilcoxon signed-rank"


def compare(
    study: Study,
    dataset: Dataset,
    regions: Sequence[str],
    reference: str = "pretrained",
) -> pd.DataFrame:
    """Each condition against a reference and against chance at the figure's layer, region by region.

    In each participant the difference has a bootstrap 95 % interval over voxels and a permutation p (blocks of TRs).
    Over at least six participants it has an interval over participants and a signed-rank p. Within each kind of test
    the false discovery rate is controlled over all rows.

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
        over participants), n_participants, n_voxels, difference, low, high, p, q, test.
    """
    rows = []
    for backbone, condition, roi, against in product(study.backbones, study.conditions, regions, (reference, "chance")):
        if against != condition and condition in study.conditions_of(backbone):
            within = [
                within_participant(study, dataset, participant, backbone, condition, roi, against)
                for participant in study.participants
            ]
            rows += [*within, _over(within)]
    table = pd.DataFrame(rows)
    table["q"] = table.groupby("test")["p"].transform(lambda p: stats.false_discovery_q(p.to_numpy()))
    return table


def within_participant(
    study: Study,
    dataset: Dataset,
    participant: str,
    backbone: str,
    condition: str,
    roi: str,
    against: str,
) -> dict:
    """A row of `compare` for one participant: a condition against another one, or against 'chance'."""
    used = used_voxels(study, participant)
    inside = (rois.members(dataset.cortex(participant).voxel_labels, roi) & used)[used]
    test = study.stories_for(participant).test
    voxels = np.zeros(len(used), bool)
    voxels[np.flatnonzero(used)[inside]] = True
    truth = measured({story: dataset.responses(participant, story, voxels) for story in test}, test, study.encoding)
    first = _scores(study, participant, study.run(backbone, condition, participant), voxels, inside)
    rng = generator(study.encoding.seed, "compare", backbone, condition, roi, participant, against)
    blocks = {
        "block_rows": study.encoding.permutation_block_rows,
        "n_permutations": study.encoding.permutations,
    }
    row = {
        "backbone": backbone, "condition": condition, "reference": against, "roi": roi, "participant": participant,
        "n_participants": 1, "n_voxels": int(inside.sum()),
    }  # fmt: skip
    if against == "chance":
        difference = first["alignment"]
        p = stats.correlation_p(first["predicted"], truth, 1 / first["ceiling"], rng, **blocks)
    else:
        second = _scores(study, participant, study.run(backbone, against, participant), voxels, inside)
        difference = first["alignment"] - second["alignment"]
        p = stats.difference_p(first["predicted"], second["predicted"], truth, 1 / first["ceiling"], rng, **blocks)
    low, high = stats.bootstrap_interval(difference, rng)
    test_name = ABOVE_CHANCE if against == "chance" else WITHIN
    return row | {"difference": difference.mean(), "low": low, "high": high, "p": p, "test": test_name}


def _scores(study: Study, participant: str, run: Run, voxels: np.ndarray, inside: np.ndarray) -> dict[str, np.ndarray]:
    scores = load_arrays(study.scores_file(participant, run))
    return {
        "alignment": scores["alignment"][study.figures.layer][voxels],
        "predicted": scores["predicted"][:, inside].astype(np.float64),
        "ceiling": scores["ceiling"][voxels],
    }


def _over(within: list[dict]) -> dict:
    differences = np.array([row["difference"] for row in within])
    first = within[0]
    rng = generator(0, "over", first["backbone"], first["condition"], first["roi"], first["reference"])
    low, high = stats.bootstrap_interval(differences, rng)
    return first | {
        "participant": EVERYONE,
        "n_participants": len(within),
        "n_voxels": sum(row["n_voxels"] for row in within),
        "difference": differences.mean(),
        "low": low,
        "high": high,
        "p": stats.signed_rank_p(differences),
        "test": OVER,
    }


def starred(table: pd.DataFrame, level: float = 0.05) -> pd.DataFrame:
    """Rows that earn a star: differences over participants whose q is below `level`; never those of one participant."""
    return table[(table["participant"] == EVERYONE) & (table["reference"] != "chance") & (table["q"] < level)]
