"""Which voxels are tuned to and scored."""

from collections.abc import Mapping

import numpy as np

from braintuning.study.settings import Encoding

FALSE_DISCOVERIES = 0.05


def voxels_in_use(measured: Mapping[str, np.ndarray], settings: Encoding) -> np.ndarray:
    """Voxels that are tuned to and scored, (voxels,) bool; `measured` holds `ceiling` and `q`."""
    if settings.mask_by == "ceiling":
        return np.nan_to_num(measured["ceiling"]) > settings.ceiling_threshold
    return np.nan_to_num(measured["q"], nan=1.0) < FALSE_DISCOVERIES
