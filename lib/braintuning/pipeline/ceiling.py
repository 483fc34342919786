"""Step: noise ceiling of a participant."""

import logging
from pathlib import Path

import numpy as np

from braintuning.alignment.ceiling import noise_ceiling
from braintuning.datasets import open_dataset
from braintuning.datasets.responses import invalid_columns
from braintuning.pipeline import recipes
from braintuning.results import inputs_fingerprint, is_done, provenance, save_arrays
from braintuning.study import Study

log = logging.getLogger(__name__)


def measure_ceiling(study: Study, participant: str) -> Path:
    """Noise ceiling of every voxel of a participant, from the repeats of the story that the study names.

    The file holds `ceiling`, (voxels,) float64, and `broken`, (voxels,) bool: voxels that are NaN or constant in any of
    the participant's stories. These have no ceiling, so that nothing is tuned to them or scored in them.
    """
    dataset, path, stored = open_dataset(study), study.ceiling_file(participant), recipes.ceiling(study, participant)
    files = [dataset.responses_file(participant, story) for story in stored.stored["stories"]]
    recipe = {**stored.stored, "inputs": inputs_fingerprint(files, dataset.root)}
    if is_done(path, recipe):
        return path
    repeats = dataset.repeats(participant, recipe["story"])
    ceiling = noise_ceiling(repeats[:, recipe["skip_rows"] :])
    invalid = np.any([invalid_columns(repeat) for repeat in repeats], axis=0)
    del repeats
    for story in recipe["stories"]:
        invalid |= invalid_columns(dataset.responses(participant, story))
    ceiling[invalid] = np.nan
    save_arrays(path, {"ceiling": ceiling, "broken": invalid}, provenance(recipe))
    threshold = study.encoding.ceiling_threshold
    masked = f", {invalid.sum()} invalid" if invalid.any() else ""
    above = f"{(ceiling > threshold).sum()} of {len(ceiling)} voxels above {threshold}"
    log.info(f"{participant}: {above}, from {recipe['story']}{masked}")
    return path
