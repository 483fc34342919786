"""Which voxels are tuned to and scored."""

from collections.abc import Mapping

import numpy as np

from braintuning.errors import InputError
from braintuning.results import load_arrays, made_result
from braintuning.study import Study
from braintuning.study.settings import Encoding

FALSE_DISCOVERIES = 0.05


def voxels_in_use(measured: Mapping[str, np.ndarray], settings: Encoding) -> np.ndarray:
    """Voxels that are tuned to and scored, (voxels,) bool; `measured` holds `ceiling` and `q`."""
    if settings.mask_by == "ceiling":
        return np.nan_to_num(measured["ceiling"]) > settings.ceiling_threshold
    return np.nan_to_num(measured["q"], nan=1.0) < FALSE_DISCOVERIES


def used_voxels(study: Study, participant: str) -> np.ndarray:
    """Which of a participant's voxels are in use; (voxels,) bool, some of them True.

    Raises `InputError` where the noise ceilings are not there, or none suffices.
    """
    path, settings = study.ceiling_file(participant), study.encoding
    made_result(path)
    used = voxels_in_use(load_arrays(path), settings)
    if not used.any():
        rule = f"above {settings.ceiling_threshold}" if settings.mask_by == "ceiling" else "that repeats"
        raise InputError(f"{path}: no voxel has a noise ceiling {rule}, expected some")
    return used
