"""Step: noise ceiling of a participant."""

import logging
from pathlib import Path

import numpy as np

from braintuning.alignment.ceiling import ceiling_q, noise_above, noise_ceiling, null_ceilings
from braintuning.datasets import open_dataset
from braintuning.datasets.responses import invalid_columns
from braintuning.pipeline import recipes
from braintuning.results import generator, inputs_fingerprint, is_done, provenance, save_arrays
from braintuning.study import Study

log = logging.getLogger(__name__)


def measure_ceiling(study: Study, participant: str) -> Path:
    """Noise ceiling of every voxel of a participant, from the repeats of the story that the study names.

    The file holds `ceiling`, (voxels,) float64, and `broken`, (voxels,) bool: voxels that are NaN or constant in any of
    the participant's stories. These have no ceiling, so that nothing is tuned to them or scored in them. `q`, (voxels,)
    float64, is that of `ceiling_q`, and `noise`, (101,) float64, `noise_above`.
    """
    dataset, path, stored = open_dataset(study), study.ceiling_file(participant), recipes.ceiling(study, participant)
    files = [dataset.responses_file(participant, story) for story in stored.stored["stories"]]
    recipe = {**stored.stored, "inputs": inputs_fingerprint(files, dataset.root)}
    if is_done(path, recipe):
        return path
    repeats = dataset.repeats(participant, recipe["story"])
    repeats = repeats[:, recipe["skip_rows"] :]
    ceiling = noise_ceiling(repeats)
    null = null_ceilings(repeats, generator(study.encoding.seed, "null ceilings", participant))
    invalid = np.any([invalid_columns(repeat) for repeat in repeats], axis=0)
    del repeats
    for story in recipe["stories"]:
        invalid |= invalid_columns(dataset.responses(participant, story))
    ceiling[invalid] = np.nan
    arrays = {"ceiling": ceiling, "broken": invalid, "q": ceiling_q(ceiling, null), "noise": noise_above(ceiling, null)}
    save_arrays(path, arrays, provenance(recipe))
    threshold = study.encoding.ceiling_threshold
    n_noise = arrays["noise"][round(100 * threshold)]
    masked = f", {invalid.sum()} invalid" if invalid.any() else ""
    above = f"{(ceiling > threshold).sum()} of {len(ceiling)} voxels above {threshold}, about {n_noise:.0f} by chance"
    log.info(f"{participant}: {above}, from {recipe['story']}{masked}")
    return path
