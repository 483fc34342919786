"""Scores of people in regions of a study with parcellated responses, as one table."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from braintuning.datasets.parcels import ParcelsDataset
from braintuning.results import load_arrays
from braintuning.study import Study

COLUMNS = (
    *("participant", "story", "condition", "backbone", "layer", "region"),
    *("score", "nuisance_score", "ceiling", "own_ceiling", "held_out"),
)


def tidy_scores(study: Study, dataset: ParcelsDataset, layers: Sequence[int] | None = None) -> pd.DataFrame:
    """Every used region's score of every participant, and of the means over people, with every model.

    Parameters
    ----------
    study : Study
        Whose alignment and nuisance baselines have been made.
    dataset : ParcelsDataset
    layers : sequence of int, optional
        Negative ones count from the last; all by default.

    Returns
    -------
    DataFrame
        participant (`group-<recording>` of a mean), story (the test story), condition, backbone, layer, region, score
        (r), nuisance_score (r of word rate, envelope and position alone), ceiling (mean correlation of one with all
        others; of a mean that of split halves), own_ceiling (the participant's own correlation with all others, NaN of
        a mean), held_out (whether no joint model was tuned on the participant).
    """
    of_means = [(group, run) for group in study.groups for run in study.runs() if not run.participant]
    tables = []
    for participant, run in [*study.alignments(), *of_means]:
        scores, measured = (
            load_arrays(path) for path in (study.scores_file(participant, run), study.ceiling_file(participant))
        )
        chosen = np.arange(len(scores["r"]))[list(layers) if layers is not None else slice(None)]
        used = np.isfinite(scores["r"][0])
        index = pd.MultiIndex.from_product(
            [chosen, np.array(dataset.region_names(participant))[used]], names=["layer", "region"]
        )
        own = measured.get("own", np.full(len(used), np.nan))
        beside = {"nuisance_score": load_arrays(study.nuisance_file(participant))["r"]}
        beside |= {"ceiling": measured["ceiling"], "own_ceiling": own}
        table = pd.DataFrame({"score": scores["r"][chosen][:, used].ravel()}, index=index).reset_index()
        table = table.assign(**{name: np.tile(values[used], len(chosen)) for name, values in beside.items()})
        of_run = {"participant": participant, "condition": run.condition, "backbone": run.backbone}
        of_run |= {"story": ", ".join(study.stories_for(participant).test)}
        tables.append(table.assign(**of_run, held_out=participant not in study.tuned_together))
    return pd.concat(tables, ignore_index=True)[list(COLUMNS)]
