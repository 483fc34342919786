"""The interactive viewer of a study: alignment before and after brain-tuning, the difference, the noise ceiling."""

from pathlib import Path

import numpy as np

from braintuning.cortex.surface import fs_lr
from braintuning.cortex.viewer import Layer, write_viewer
from braintuning.datasets.base import Dataset
from braintuning.errors import InputError
from braintuning.figures.tables import alignment_map, on_the_map, reliability
from braintuning.study import Study


def write_study_viewer(study: Study, dataset: Dataset) -> Path:
    """Write `viewer/` into the study's figures folder, maps averaged over participants.

    `InputError` if these do not share the surface fs_LR-32k, or the study does not brain-tune.
    """
    shown = on_the_map(study, dataset)
    surface = dataset.cortex(shown[0]).surface
    if surface.name != fs_lr().name:
        raise InputError(f"viewer of study {study.name}: participants lie on {surface.name}, expected {fs_lr().name}")
    if "brain-tuned" not in study.conditions_of(study.figure_backbone):
        raise InputError(f"viewer of study {study.name}: found no condition brain-tuned, expected pretrained and it")
    backbone, ceiling = study.figure_backbone, reliability(study, dataset)
    maps = {c: alignment_map(study, dataset, backbone, c) for c in ("brain-tuned", "pretrained")}
    highest = float(np.nanpercentile(np.concatenate(list(maps.values())), 99))
    layers = {f"alignment, {c}": Layer(values, vmin=0, vmax=highest) for c, values in maps.items()}
    change = alignment_map(study, dataset, backbone, "brain-tuned", minus="pretrained")
    layers["alignment, brain-tuned minus pretrained"] = Layer(change, symmetric=True)
    layers[ceiling.label] = Layer(ceiling.values, vmin=0, vmax=1, threshold=ceiling.low)
    return write_viewer(study.figures_folder / "viewer", layers, title=f"{study.title}: {backbone}")
