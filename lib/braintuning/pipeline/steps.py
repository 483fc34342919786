"""What the steps share. A step reads files, writes one result and calls no other step."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.precision import precision
from braintuning.backbone.weights import weights_fingerprint
from braintuning.errors import InputError
from braintuning.pipeline import recipes
from braintuning.results import (
    fingerprint,
    load_arrays,
    provenance,
    provenance_columns,
    provenance_of,
    save_arrays,
    save_table,
)
from braintuning.study import Run, Study


def require_device(device: str) -> str:
    """Return `device` if this machine has it, else raise `InputError`."""
    if device not in ("cpu", "cuda"):
        raise InputError(f"device: found {device!r}, expected 'cpu' or 'cuda'")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device: found no CUDA GPU that torch can use, expected one for 'cuda'; use 'cpu'")
    return device


def recipe_of(path: Path) -> str:
    """Fingerprint of the recipe of an earlier step's result; raises InputError where that result is not there."""
    made = provenance_of(path)
    if made is None:
        raise InputError(f"{path}: not there, expected the result of an earlier step; `make figures` makes it")
    return fingerprint(made["recipe"])


def made_on(device: str) -> str:
    """Device and precision as a result names them."""
    return f"{device}, {precision(device)}"


def used_voxels(study: Study, participant: str) -> np.ndarray:
    """Whether each voxel's noise ceiling is above the study's threshold; (voxels,) bool."""
    recipe_of(study.ceiling_file(participant))
    ceiling = load_arrays(study.ceiling_file(participant))["ceiling"]
    used = np.nan_to_num(ceiling) > study.encoding.ceiling_threshold
    if not used.any():
        raise InputError(
            f"{study.ceiling_file(participant)}: no voxel has a noise ceiling above {study.encoding.ceiling_threshold}"
        )
    return used


def pretrained(study: Study, run: Run) -> SpeechEncoder:
    """The encoder of a run before any tuning."""
    backbone = study.backbones[run.backbone]
    return SpeechEncoder.from_pretrained(backbone.name, pad_to_30s=backbone.pad_to_30s)


def load_encoder(study: Study, run: Run) -> SpeechEncoder:
    """The encoder of a run, pretrained or tuned; raises InputError where it has not been tuned yet."""
    if study.base(run.condition) == "pretrained":
        return pretrained(study, run)
    recipe_of(study.model_folder(run))
    return SpeechEncoder.from_pretrained(
        str(study.model_folder(run)), pad_to_30s=study.backbones[run.backbone].pad_to_30s
    )


def model_recipe(study: Study, run: Run) -> dict[str, Any]:
    """What decides the weights of a run's model."""
    recipe = {**recipes.model(study, run).stored, "weights": weights_fingerprint(study.backbones[run.backbone].name)}
    if study.base(run.condition) != "pretrained":
        made = provenance_of(study.model_folder(run))
        recipe["tuned"] = fingerprint(made["recipe"]) if made else None
    return recipe


def weights_from(study: Study, run: Run, encoder: SpeechEncoder) -> str:
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

    Parameters
    ----------
    owner : tuple of str
        The table's first columns: participant, and of a model backbone and condition.
    carried : str
        Device and weights.
    """
    made = provenance(recipe, **carried)
    for place, value in enumerate(owner):
        table.insert(place, ("participant", "backbone", "condition")[place], value)
    save_table(path.with_suffix(".csv"), table.assign(**provenance_columns(study.name, made)))
    save_arrays(path, arrays, made)
