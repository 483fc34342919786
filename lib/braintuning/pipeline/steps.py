"""What the steps share. A step reads files, writes one result and calls no other step."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np
import pandas as pd
import torch

from braintuning import timing
from braintuning.backbone.precision import precision
from braintuning.datasets import Dataset
from braintuning.errors import InputError
from braintuning.pipeline import recipes
from braintuning.results import (
    fingerprint,
    inputs_fingerprint,
    made_result,
    provenance,
    provenance_columns,
    provenance_of,
    save_arrays,
    save_table,
)
from braintuning.study import Run, Study

if TYPE_CHECKING:
    from braintuning.backbone.encoder import SpeechEncoder


def require_device(device: str) -> str:
    """Return `device` if this machine has it, else raise `InputError`."""
    if device not in ("cpu", "cuda"):
        raise InputError(f"device: found {device!r}, expected 'cpu' or 'cuda'")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device: found no CUDA GPU that torch can use, expected one for 'cuda'; use 'cpu'")
    return device


def recipe_of(path: Path) -> str:
    """Fingerprint of the recipe of an earlier step's result; `InputError` where that is not there."""
    return fingerprint(made_result(path)["recipe"])


def measured(
    study: Study, dataset: Dataset, participant: str, stories: Sequence[str], audio: bool = False
) -> dict[str, str]:
    """What of a participant decides how a model compares: noise ceiling, regions, responses and `audio` of stories."""
    files = [dataset.responses_file(participant, story) for story in stories]
    files += [dataset.audio_file(story) for story in stories] if audio else []
    return {
        "ceiling": recipe_of(study.ceiling_file(participant)),
        "regions": fingerprint(dataset.cortex(participant).voxel_labels.tolist()),
        "inputs": inputs_fingerprint(files, dataset.root),
    }


def made_on(device: str) -> str:
    """Device and precision as a result names them."""
    return f"{device}, {precision(device)}"


def clip_ends(study: Study, run: Run, dataset: Dataset, story: str) -> np.ndarray:
    """When each clip of a story that a run hears ends, in seconds after the audio's start; (TRs,) float64.

    The TRs are those of the participants that the run is tuned on; of controls that have one model for all, those of
    the study's first participant who heard the story. Raises `InputError` where participants who tune one model had
    the story at different times, since they share its clips.
    """
    heard = [participant for participant in study.participants if story not in study.lacks.get(participant, ())]
    first, *others = study.tuned_on(run) or heard[:1] or study.participants[:1]
    times = dataset.tr_times(first, story)
    for other in others:
        if not np.array_equal(dataset.tr_times(other, story), times):
            found = f"{first} and {other} have {story} at other TR times"
            raise InputError(f"{run.name}: {found}, expected the same of all who tune one model: a TR has one clip")
    return times + (study.tuning_of(run.condition).clip_ends - dataset.row_offset) * timing.spacing(times)


class Grid(NamedTuple):
    """Times at which features of a story are read, and what features at these times are called in a file.

    Attributes
    ----------
    times : (lead + TRs,) float64
        Seconds after the start of the audio: a participant's TRs, and as many before them as the delays reach.
    names : list of str
        What features at these times are called in a file: `<story>` where the first participant has them, and
        `<story> of <participant>` for every other participant who has.
    read : (n,) float64
        When features are computed: at `times`, or throughout a recording that is filtered as a whole.
    filtered : callable
        Takes features at `read`, (..., n, dim), and gives those at `times`, filtered as the responses were.
    """

    times: np.ndarray
    names: list[str]
    read: np.ndarray
    filtered: Callable[[np.ndarray], np.ndarray]


def grids(study: Study, dataset: Dataset, stories: Sequence[str], listeners: Sequence[str]) -> dict[str, list[Grid]]:
    """Distinct times at which features are read, by story: one grid where all who heard it have the same TRs."""
    found: dict[str, dict[bytes, Grid]] = {}
    for participant in listeners:
        for story in [story for story in stories if story not in study.lacks.get(participant, ())]:
            times, of_story = dataset.tr_times(participant, story), found.setdefault(story, {})
            if times.tobytes() not in of_story:
                lead = times[0] + timing.spacing(times) * np.arange(-max(study.encoding.delays), 0)
                whole = np.concatenate([lead, times])
                of_story[times.tobytes()] = Grid(whole, [], *dataset.filtering(participant, story, whole))
            grid = of_story[times.tobytes()]
            grid.names.append(story if len(of_story) == 1 else f"{story} of {participant}")
    return {story: list(of_story.values()) for story, of_story in found.items()}


def grids_of(study: Study, run: Run, dataset: Dataset) -> dict[str, list[Grid]]:
    """Times of a run's features: those of everybody who is compared with it."""
    listeners = (run.participant,) if run.participant else study.listeners or dataset.participants
    return grids(study, dataset, study.encoded_stories, listeners)


def grids_fingerprint(found: Mapping[str, Sequence[Grid]]) -> str:
    """Short SHA-256 of times by the names that features have."""
    every = [grid for of_story in found.values() for grid in of_story]
    return fingerprint({name: grid.times.tolist() for grid in every for name in grid.names})


def own_array(file: h5py.Group, story: str, participant: str) -> np.ndarray:
    """The array of a story at a participant's own times where the file has them, else at those of the first."""
    own = f"{story} of {participant}"
    return file[own if own in file else story][()]


def features_of(study: Study, dataset: Dataset, run: Run, participant: str) -> dict[str, np.ndarray]:
    """Features of a run at a participant's TRs, by story; (layers + 1, lead + TRs, dim) float32.

    Raises `InputError` where they were made at other times than the TRs of those who are compared with the run.
    """
    path, lacks = study.features_file(run), study.lacks.get(participant, ())
    if made_result(path)["recipe"]["times"] != grids_fingerprint(grids_of(study, run, dataset)):
        raise InputError(f"{path}: found features at other times than those of {participant}'s TRs; delete the file")
    with h5py.File(path) as file:
        stories = [story for story in study.encoded_stories if story in file and story not in lacks]
        return {story: own_array(file, story, participant) for story in stories}


def pretrained(study: Study, run: Run, folder: Path | None = None) -> "SpeechEncoder":
    """The encoder of a run before any tuning, or with the weights in a folder."""
    from braintuning.backbone.encoder import SpeechEncoder  # transformers takes seconds; some steps need no model

    backbone = study.backbones[run.backbone]
    return SpeechEncoder.from_pretrained(str(folder or backbone.name), pad_to_30s=backbone.pad_to_30s)


def load_encoder(study: Study, run: Run) -> "SpeechEncoder":
    """The encoder of a run, pretrained or tuned; raises InputError where it has not been tuned yet."""
    if study.base(run.condition) == "pretrained":
        return pretrained(study, run)
    made_result(study.model_folder(run))
    return pretrained(study, run, study.model_folder(run))


def model_recipe(study: Study, run: Run) -> dict[str, Any]:
    """What a run's model is made of, with its weights themselves: the same settings may be tuned anew by other code."""
    from braintuning.backbone.weights import weights_fingerprint

    recipe = {**recipes.model(study, run).stored, "weights": weights_fingerprint(study.backbones[run.backbone].name)}
    if study.base(run.condition) != "pretrained":
        weights = sorted(study.model_folder(run).glob("model*.safetensors"))
        recipe["tuned"] = inputs_fingerprint(weights, study.model_folder(run)) if weights else None
    return recipe


def weights_from(study: Study, run: Run, encoder: "SpeechEncoder") -> str:
    """Where the weights that a run started from came from."""
    made = provenance_of(study.model_folder(run))
    return made["weights"] if made else encoder.weights_from


def save_result(
    path: Path,
    arrays: Mapping[str, np.ndarray],
    table: pd.DataFrame,
    study: Study,
    recipe: Mapping[str, Any],
    *,
    owner: tuple[str, ...] = (),
    **carried: str,
) -> None:
    """Write a table with columns of provenance and, last, since they mark the result as made, its arrays.

    `owner` is in the table's first columns: participant, and of a model backbone and condition. `carried` are device
    and weights.
    """
    made = provenance(recipe, **carried)
    for place, value in enumerate(owner):
        table.insert(place, ("participant", "backbone", "condition")[place], value)
    save_table(path.with_suffix(".csv"), table.assign(**provenance_columns(study.name, made)))
    save_arrays(path, arrays, made)
