"""Step: noise ceiling of a participant."""

import logging
from functools import partial
from pathlib import Path

import numpy as np

from braintuning.alignment import ceiling as ceilings
from braintuning.datasets import Dataset, open_dataset
from braintuning.datasets.responses import invalid_columns
from braintuning.errors import InputError
from braintuning.pipeline import recipes
from braintuning.results import generator, inputs_fingerprint, is_done, provenance, save_arrays
from braintuning.study import Study

log = logging.getLogger(__name__)

NULL_OF_PEOPLE, FEWEST_NULL = 5, 1000
"""Draws of the null distribution where ceilings are measured between people, each of every region, and the fewest
values of all regions together, so that few regions can have a small q as well."""


def measure_ceiling(study: Study, participant: str) -> Path:
    """Noise ceiling of every voxel of a participant, from the story that the study names.

    From the story's repeats; in a dataset without such, from people who heard it: the mean correlation of one with all
    others (`shared_ceiling`), and of the mean over people that of split halves. The file holds `ceiling`, (voxels,)
    float64, and `broken`, (voxels,) bool: voxels that are NaN or constant in any of the participant's stories. These
    have no ceiling, so that nothing is tuned to them or scored in them. `q`, (voxels,) float64, is that of `ceiling_q`,
    and `noise`, (101,) float64, `noise_above`. Of people there are also `own`, the participant's own correlation with
    all others, and `split_half`.
    """
    dataset, path, stored = open_dataset(study), study.ceiling_file(participant), recipes.ceiling(study, participant)
    people = dataset.people(participant, stored.stored["story"])
    files = [dataset.responses_file(person, s) for person in people for s in study.stories_for(person).all]
    recipe = {**stored.stored, "inputs": inputs_fingerprint(dict.fromkeys(files), dataset.root)}
    if is_done(path, recipe):
        return path
    rng = generator(study.encoding.seed, "null ceilings", participant)
    measure = _between_people if dataset.between_people else _between_repeats
    arrays, null = measure(dataset, participant, recipe["story"], recipe["skip_rows"], rng)
    ceiling, invalid = arrays["ceiling"], arrays["broken"]
    for story in recipe["stories"]:
        invalid |= invalid_columns(dataset.responses(participant, story))
    ceiling[invalid] = np.nan
    arrays |= {"q": ceilings.ceiling_q(ceiling, null), "noise": ceilings.noise_above(ceiling, null)}
    save_arrays(path, arrays, provenance(recipe))
    threshold = study.encoding.ceiling_threshold
    n_noise = arrays["noise"][round(100 * threshold)]
    masked = f", {invalid.sum()} invalid" if invalid.any() else ""
    above = f"{(ceiling > threshold).sum()} of {len(ceiling)} voxels above {threshold}, about {n_noise:.0f} by chance"
    log.info(f"{participant}: {above}, from {recipe['story']}{masked}")
    return path


def require_others(dataset: Dataset, participant: str, story: str) -> None:
    """Raise `InputError` where nobody else heard a story from whom a participant's noise ceiling can be measured."""
    if len(dataset.people(participant, story)) < 2:
        found = f"found no other participant who heard {story} and is tuned on or held out like {participant}"
        expected = "expected one for a noise ceiling; where people are few, say `tuned_together: all`"
        raise InputError(f"{dataset.responses_file(participant, story)}: {found}, {expected}")


def draw_ceilings(study: Study) -> None:
    """Draw panel A1 from noise ceilings alone, long before what the other panels of Figure A show."""
    from braintuning.figures import panels  # matplotlib takes seconds

    panels.make(study, open_dataset(study), "figA1")


def _between_repeats(
    dataset: Dataset, participant: str, story: str, skipped: int, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Ceiling and invalid voxels by the repeats of a story, and null ceilings."""
    repeats = dataset.repeats(participant, story)[:, skipped:]
    invalid = np.any([invalid_columns(repeat) for repeat in repeats], axis=0)
    return {"ceiling": ceilings.noise_ceiling(repeats), "broken": invalid}, ceilings.null_ceilings(repeats, rng)


def _between_people(
    dataset: Dataset, participant: str, story: str, skipped: int, rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Ceilings and invalid regions by the people who heard a story, and null ceilings."""
    require_others(dataset, participant, story)
    people = dataset.everyone(participant, story)[:, skipped:]
    arrays = {"split_half": ceilings.split_half_ceiling(people, rng), "broken": np.zeros(people.shape[2], bool)}
    if participant in dataset.people(participant, story):
        arrays["own"] = ceilings.leave_one_out_correlation(people)[0]
        measure = ceilings.shared_ceiling
        arrays["ceiling"] = measure(people)
    else:
        measure = partial(ceilings.split_half_ceiling, rng=rng, n_splits=10)
        arrays["ceiling"] = arrays["split_half"].copy()
    n_draws = max(NULL_OF_PEOPLE, -(-FEWEST_NULL // people.shape[2]))
    return arrays, ceilings.null_ceilings(people, rng, n_draws, measure)
