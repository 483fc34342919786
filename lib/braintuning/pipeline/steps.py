"""The stages of a study: each writes its result to its path, and does nothing if that result is there already."""

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from braintuning.alignment import encoding
from braintuning.alignment.features import story_features
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.weights import weights_fingerprint
from braintuning.datasets import open_dataset
from braintuning.datasets.base import Dataset
from braintuning.datasets.responses import invalid_columns
from braintuning.errors import InputError
from braintuning.results import (
    fingerprint,
    inputs_fingerprint,
    is_done,
    load_arrays,
    provenance,
    provenance_of,
    save_arrays,
)
from braintuning.study import Run, Study

log = logging.getLogger(__name__)

MODELS_AT_ONCE = 12
"""Models held at a time when one pass over the sound serves several."""


def require_device(device: str) -> str:
    """Return `device` if this machine has it, else raise `InputError`."""
    if device not in ("cpu", "cuda"):
        raise InputError(f"device: found {device!r}, expected 'cpu' or 'cuda'")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device: found no CUDA GPU that torch can use, expected one for 'cuda'; use 'cpu'")
    return device


def prepare(study: Study) -> Dataset:
    """Open the study's dataset, making the simulated listeners first where a study has them and they are not there."""
    simulation = study.dataset.simulation
    wanted = {
        "participants": study.participants,
        "stories": study.stories.all,
        "tr": study.dataset.tr,
        "settings": simulation.model_dump() if simulation else None,
    }
    marker = study.root / "simulation.json"
    if simulation and not (marker.is_file() and json.loads(marker.read_text()) == json.loads(json.dumps(wanted))):
        from braintuning.demo.dataset import write_dataset

        log.info(
            f"making {len(study.participants)} simulated listeners and {len(study.stories.all)} stories in {study.root}"
        )
        write_dataset(
            study.root, study.participants, study.stories.all, study.stories.test, study.dataset.tr, simulation
        )
    return open_dataset(study)


def measure_ceiling(study: Study, participant: str) -> Path:
    """Noise ceiling of every voxel of a participant, from the repeats of the story that the study names.

    The file holds `ceiling`, (voxels,) float64, and `broken`, (voxels,) bool: voxels that are NaN or constant in any of
    the participant's stories. These have no ceiling, so that nothing is tuned to them or scored in them.
    """
    dataset, path = prepare(study), study.ceiling_file(participant)
    story, stories = ceiling_story(study, participant), study.stories_for(participant).all
    recipe = {
        "stage": "ceiling",
        "participant": participant,
        "story": story,
        "skip_rows": _skipped(study, story),
        "stories": stories,
        "inputs": inputs_fingerprint([dataset.responses_file(participant, name) for name in stories], dataset.root),
    }
    if not is_done(path, recipe):
        repeats = dataset.repeats(participant, story)
        ceiling = encoding.noise_ceiling(repeats[:, _skipped(study, story) :])
        broken = np.any([invalid_columns(repeat) for repeat in repeats], axis=0)
        del repeats
        for name in stories:
            broken |= invalid_columns(dataset.responses(participant, name))
        ceiling[broken] = np.nan
        save_arrays(path, {"ceiling": ceiling, "broken": broken}, provenance(recipe))
        above = int((ceiling > study.encoding.ceiling_threshold).sum())
        masked = f", {broken.sum()} broken" if broken.any() else ""
        log.info(
            f"{participant}: {above} of {len(ceiling)} voxels above {study.encoding.ceiling_threshold}, from {story}"
            f"{masked}"
        )
    return path


def ceiling_story(study: Study, participant: str) -> str:
    """The story whose repeats give a participant's noise ceiling: the first of those that `mask_from` names."""
    return getattr(study.stories_for(participant), study.encoding.mask_from)[0]


def used_voxels(study: Study, participant: str) -> np.ndarray:
    """Whether each voxel's noise ceiling is above the study's threshold; (voxels,) bool."""
    ceiling = load_arrays(study.ceiling_file(participant))["ceiling"]
    used = np.nan_to_num(ceiling) > study.encoding.ceiling_threshold
    if not used.any():
        raise InputError(
            f"{study.ceiling_file(participant)}: no voxel has a noise ceiling above {study.encoding.ceiling_threshold}"
        )
    return used


def _skipped(study: Study, story: str) -> int:
    return study.encoding.test_skip_rows if story in study.stories.test else 0


def pretrained(study: Study, run: Run) -> SpeechEncoder:
    """The encoder of a run before any tuning."""
    backbone = study.backbones[run.backbone]
    return SpeechEncoder.from_pretrained(backbone.name, pad_to_30s=backbone.pad_to_30s)


def load_model(study: Study, run: Run) -> SpeechEncoder:
    """The encoder of a run, from its pretrained weights or from where tuning left it."""
    if run.condition == "pretrained":
        return pretrained(study, run)
    folder = study.model_folder(run)
    if not folder.is_dir():
        raise InputError(f"{folder}: this model has not been tuned yet, expected the result of stage 'tune'")
    return SpeechEncoder.from_pretrained(str(folder), pad_to_30s=study.backbones[run.backbone].pad_to_30s)


def model_recipe(study: Study, run: Run) -> dict[str, Any]:
    """What decides the weights of a run's model."""
    backbone = study.backbones[run.backbone]
    recipe = {
        "run": run.name,
        "backbone": backbone.model_dump(exclude={"teacher"}),
        "weights": weights_fingerprint(backbone.name),
    }
    if run.condition != "pretrained":
        made = provenance_of(study.model_folder(run))
        recipe["tuned"] = fingerprint(made["recipe"]) if made else None
    return recipe


def extract_features(study: Study, run: Run, device: str = "cpu") -> Path:
    """Features of every story that alignment needs, from every layer of a run's model.

    A story's array is (layers + 1, lead + rows, dim): `lead` rows before the first stored one, for the delays.
    """
    return sweep(study, [run], device)[0]


def sweep(study: Study, runs: Sequence[Run], device: str = "cpu") -> list[Path]:
    """Features of several runs in one pass over the sound, `MODELS_AT_ONCE` at a time, one front end for all of them.

    The sound of all stories is held in memory, 4 bytes a sample: 46 MB for 12 minutes.
    Runs that have their features already are left as they are. One whose front end is another goes on its own.
    """
    require_device(device)
    dataset = prepare(study)
    missing = [run for run in runs if not is_done(study.features_file(run), _features_recipe(study, run, dataset))]
    encoders = {}
    for run in missing:
        encoders[run] = load_model(study, run).to(device)
        if len(encoders) > 1 and not encoders[missing[0]].same_front_end(encoders[run]):
            del encoders[run]
        if len(encoders) == MODELS_AT_ONCE:
            break
    if encoders:
        _extract(study, encoders, dataset, device)
        return sweep(study, runs, device)
    return [study.features_file(run) for run in runs]


def _features_recipe(study: Study, run: Run, dataset: Dataset) -> dict[str, Any]:
    stories = _heard(study)
    return {
        "stage": "extract",
        "model": model_recipe(study, run),
        "settings": study.features.model_dump(exclude={"batch_size"}),
        "times": fingerprint(
            [dataset.tr_times(story).tolist() for story in stories] + [max(study.encoding.delays), dataset.tr]
        ),
        "stories": stories,
        "inputs": inputs_fingerprint([dataset.audio_file(s) for s in stories], dataset.root),
    }


def _heard(study: Study) -> tuple[str, ...]:
    return study.stories.train + study.stories.held_out + study.stories.test


def _extract(study: Study, encoders: Mapping[Run, SpeechEncoder], dataset: Dataset, device: str) -> None:
    stories, features = _heard(study), {run: {} for run in encoders}
    before = dataset.tr * np.arange(-max(study.encoding.delays), 0)
    grids = [np.concatenate([times[0] + before, times]) for times in map(dataset.tr_times, stories)]
    sounds, models = [dataset.audio(story) for story in stories], list(encoders.values())
    read = story_features(models, sounds, grids, dataset.tr, study.features, device)
    for number, (story, found) in enumerate(zip(stories, read, strict=True), 1):
        for run, rows in zip(encoders, found, strict=True):
            features[run][story] = rows
            log.info(f"{run.name}: {story}, {number} of {len(stories)}")
    for run, encoder in encoders.items():
        recipe = _features_recipe(study, run, dataset)
        carried = provenance(recipe, device=device, weights=weights_from(study, run, encoder))
        save_arrays(study.features_file(run), features[run], carried)


def weights_from(study: Study, run: Run, encoder: SpeechEncoder) -> str:
    """Where the weights that a run started from came from."""
    made = provenance_of(study.model_folder(run))
    return made["weights"] if made else encoder.weights_from
