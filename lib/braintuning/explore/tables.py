"""What there is to see in a study whose tables alone are here: alignment of groups of regions."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from braintuning.cortex.regions import GROUPS, hcp_mmp_labels
from braintuning.cortex.surface import Surface, fs_lr
from braintuning.errors import InputError, nearest
from braintuning.figures.style import ROI_TITLES
from braintuning.figures.tables import read_tables
from braintuning.results import REPOSITORY
from braintuning.study import Run, Study

TABLE = "fig2.csv"
NAMES_OF_GROUPS = {ROI_TITLES[group]: group for group in GROUPS}
NARROW_LAST = ("late_language", "early_auditory", *[g for g in GROUPS if g not in ("late_language", "early_auditory")])


def drawn(study: Study, name: str) -> Path:
    """A figure or table that was made here or, where there is none, that comes with the project."""
    return made if (made := study.figures_folder / name).is_file() else REPOSITORY / "figures" / study.name / name


class Place(NamedTuple):
    """A region, a group of regions or a voxel: its name, its voxels (voxels,) bool and vertices (n_vertices,) bool."""

    name: str
    voxels: np.ndarray
    vertices: np.ndarray


class Tables:
    """Scores by group of regions, as they stand in the table of Figure 2, where a study's results are not here.

    Attributes
    ----------
    study : Study
    models : list of (participant, Run)
        What there is, participant by participant.
    has_courses : bool
        Whether there are time courses, and models can be added.
    """

    has_courses = False

    def __init__(self, study: Study) -> None:
        self.study, self._table = study, read_tables([drawn(study, TABLE)])
        rows = self._table[["participant", "backbone", "condition"]].drop_duplicates()
        self.models = [(row.participant, Run(row.backbone, row.condition)) for row in rows.itertuples()]

    def surface(self, participant: str) -> tuple[Surface, np.ndarray]:
        """Surface of a participant and the region at each vertex."""
        return fs_lr(), hcp_mmp_labels()

    def names(self, participant: str) -> list[str]:
        """Places that can be chosen by name."""
        return [ROI_TITLES[group] for group in NARROW_LAST]

    def place(self, participant: str, name: str) -> Place:
        """The place of a name; `InputError` for another."""
        if name not in NAMES_OF_GROUPS:
            raise InputError(f"region {name!r}: unknown{nearest(name, self.names(participant))}")
        vertices = np.isin(hcp_mmp_labels(), GROUPS[NAMES_OF_GROUPS[name]])
        return Place(name, vertices, vertices)

    def place_at(self, participant: str, vertex: int, voxel: bool = False) -> Place | None:
        """The narrowest group around a vertex, None where there is none; `voxel` makes no difference."""
        around = [group for group in NARROW_LAST if hcp_mmp_labels()[vertex] in GROUPS[group]]
        return self.place(participant, ROI_TITLES[around[-1]]) if around else None

    def n_layers(self, participant: str, run: Run) -> int:
        """Layers that a model has scores of, the input of the first block included."""
        return int(self._rows(participant, run)["layer"].max()) + 1

    def values(self, participant: str, run: Run, layer: int, quantity: str = "alignment") -> np.ndarray:
        """A map, (n_vertices,) float64, NaN where nothing is known."""
        if quantity != "alignment":
            raise InputError(f"study {self.study.name}: only tables are here, which have alignment, not {quantity}")
        rows, shown = self._rows(participant, run), np.full(fs_lr().n_vertices, np.nan)
        found = rows[rows["layer"] == layer].set_index("roi")["alignment"]
        for group in NARROW_LAST:
            shown[np.isin(hcp_mmp_labels(), GROUPS[group])] = found.get(group, np.nan)
        return shown

    def opacity(self, participant: str) -> np.ndarray | None:
        """Share of the colour at each vertex by its noise ceiling, (n_vertices,); None where all are in full colour."""
        return None

    def highest(self, participant: str, quantity: str = "alignment") -> float:
        """End of the colour map for all models, layers and participants."""
        return float(self._table["alignment"].max())

    def scores(self, participant: str, place: Place) -> pd.DataFrame:
        """Alignment of a place in every layer of every model: backbone, condition, layer, alignment."""
        table, group = self._table, NAMES_OF_GROUPS[place.name]
        rows = table[(table["participant"] == participant) & (table["roi"] == group)]
        return rows[["backbone", "condition", "layer", "alignment"]].reset_index(drop=True)

    def _rows(self, participant: str, run: Run) -> pd.DataFrame:
        table, wanted = self._table, [participant, run.backbone, run.condition]
        return table[(table[["participant", "backbone", "condition"]] == wanted).all(axis=1)]
