"""The viewer of a study: alignment of every participant, condition and layer on the cortex."""

from pathlib import Path

import numpy as np

from braintuning.cortex.colours import Reliability, group_average, smoothed
from braintuning.cortex.surface import fs_lr
from braintuning.cortex.viewer import write_viewer
from braintuning.datasets.base import Dataset
from braintuning.errors import InputError
from braintuning.figures import tables
from braintuning.results import load_arrays
from braintuning.study import Study


def write_study_viewer(study: Study, dataset: Dataset) -> Path:
    """Write `viewer/index.html` into the study's figures folder: every participant, and the mean where there are some.

    Models are those of the figure's backbone. A value fades towards the threshold of the noise
    ceiling, which is smoothed, so that isolated vertices that pass by chance fade too. `InputError`
    if participants do not share the surface fs_LR-32k.
    """
    shown, backbone, surface = tables.on_the_map(study, dataset), study.figure_backbone, fs_lr()
    if (found := dataset.cortex(shown[0]).surface.name) != surface.name:
        raise InputError(f"viewer of study {study.name}: participants lie on {found}, expected {surface.name}")
    conditions, maps, ceilings = tables.shown_conditions(study, backbone), {}, {}
    for person in shown:
        cortex = dataset.cortex(person)
        ceilings[person] = cortex.to_vertices(tables.noise_ceiling_of(study, person))
        for condition in conditions:
            alignment = load_arrays(study.scores_file(person, study.run(backbone, condition, person)))["alignment"]
            maps |= {(person, condition, k): cortex.to_vertices(values) for k, values in enumerate(alignment)}
    everyone = f"mean of {len(shown)}"
    if len(shown) > 1:
        ceilings = {everyone: group_average(list(ceilings.values())), **ceilings}
        models = [key[1:] for key in maps if key[0] == shown[0]]
        maps = {(everyone, *m): group_average([maps[person, *m] for person in shown]) for m in models} | maps
    (low, high), smooth_mm = tables.faded(study), tables.SMOOTH_MM
    opacity = {
        person: Reliability(smoothed(surface, np.nan_to_num(values), smooth_mm), "ceiling", low, high).alpha(surface)
        for person, values in ceilings.items()
    }
    layers = {key[2] for key in maps}
    tuned = "brain-tuned" if "brain-tuned" in conditions else conditions[0]
    first = (next(iter(ceilings)), tuned, sorted(layers)[study.figures.layer])
    note = f"Grey: noise ceiling, smoothed by {smooth_mm:g} mm, below {low:g}; clear from {high:g}"
    note = f"{note}. {tables.SURFACE_SOURCES}"
    look = {"title": f"{study.title}, {backbone}", "unit": "alignment (r over noise ceiling)"}
    return write_viewer(study.figures_folder / "viewer", maps, **look, note=note, opacity=opacity, first=first)
