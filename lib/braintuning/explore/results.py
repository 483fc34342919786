"""What there is to see in a study: maps, scores and time courses of places, from its results."""

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from braintuning.alignment.correlation import zscore
from braintuning.alignment.encoding import scored_trs
from braintuning.cortex.colours import Reliability
from braintuning.cortex.parcels import drawn_parcels
from braintuning.cortex.regions import GROUPS
from braintuning.cortex.surface import HEMISPHERES, Surface
from braintuning.datasets import open_dataset
from braintuning.datasets.textgrid import Interval
from braintuning.errors import InputError, nearest
from braintuning.explore.tables import NAMES_OF_GROUPS, TABLE, Place, Tables, drawn
from braintuning.figures.tables import faded, noise_ceiling_of
from braintuning.lowlevel.nuisance import spoken_words
from braintuning.pipeline import recipes
from braintuning.pipeline.align import Comparison, align, comparison_of
from braintuning.pipeline.extract import extract_layers
from braintuning.pipeline.steps import features_of
from braintuning.results import REPOSITORY, fingerprint, load_arrays
from braintuning.study import STUDIES, Run, Study, given_name
from braintuning.study.settings import Backbone

log = logging.getLogger(__name__)

QUANTITIES = ("alignment", "correlation", "noise ceiling")


class Results(Tables):
    """Everything that a study's results say; what has been read or computed once is kept in memory.

    Attributes
    ----------
    study, models, has_courses
        As of `Tables`.
    dataset : Dataset
    device : str
        `cpu` or `cuda`, for encoding models and for models that are added.
    """

    has_courses = True

    def __init__(self, study: Study, device: str = "cpu") -> None:
        self.study, self.dataset, self.device, self._kept = study, open_dataset(study), device, {}
        every = chain(study.alignments(), recipes.of_means(study))
        self.models = [one for one in every if study.scores_file(*one).is_file()]

    def _once(self, key: tuple, make: Callable[[], object]) -> object:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def _of(self, participant: str, run: Run) -> dict[str, np.ndarray]:
        return self._once(("scores", participant, run), lambda: load_arrays(self.study.scores_file(participant, run)))

    def surface(self, participant: str) -> tuple[Surface, np.ndarray]:
        """Surface of a participant and the region at each vertex: the dataset's own regions where it has such."""
        cortex = self.dataset.cortex(participant)
        if not self.dataset.voxels_are_regions:
            return cortex.surface, cortex.vertex_labels
        names = np.array(["", *self.dataset.region_names(participant)])
        return cortex.surface, self._once(("labels", participant), lambda: names[drawn_parcels(cortex)])

    def names(self, participant: str) -> list[str]:
        """Places that can be chosen by name: groups of regions, then regions with their hemisphere."""
        if self.dataset.voxels_are_regions:
            return list(self.dataset.region_names(participant))
        regions = sorted(set(self.dataset.cortex(participant).voxel_labels.tolist()) - {""})
        return [*super().names(participant), *(f"{region} ({side})" for region in regions for side in HEMISPHERES)]

    def place(self, participant: str, name: str) -> Place:
        """The place of a name; `InputError` for another."""
        if name not in self.names(participant):
            raise InputError(f"region {name!r}: unknown{nearest(name, self.names(participant))}")
        (surface, labels), cortex = self.surface(participant), self.dataset.cortex(participant)
        if self.dataset.voxels_are_regions:
            return Place(name, np.array(self.dataset.region_names(participant)) == name, labels == name)
        if name in NAMES_OF_GROUPS:
            regions = GROUPS[NAMES_OF_GROUPS[name]]
            return Place(name, np.isin(cortex.voxel_labels, regions), np.isin(labels, regions))
        region, side = name.removesuffix(")").split(" (")
        on_side = np.zeros(surface.n_vertices, bool)
        on_side[surface.vertices(side)] = True
        reached = cortex.vertices_from_voxels.T @ on_side.astype(float) > 0
        return Place(name, (cortex.voxel_labels == region) & reached, (labels == region) & on_side)

    def place_at(self, participant: str, vertex: int, voxel: bool = False) -> Place | None:
        """The region at a vertex, or the voxel that it samples most; None where there is none."""
        (surface, labels), own_regions = self.surface(participant), self.dataset.voxels_are_regions
        row = self.dataset.cortex(participant).vertices_from_voxels[[vertex]]
        if voxel and not own_regions and row.nnz:
            column, known = int(row.indices[row.data.argmax()]), self.dataset.n_voxels(participant)
            name = f"voxel {column} in {labels[vertex] or 'no region'}"
            return Place(name, np.arange(known) == column, np.arange(surface.n_vertices) == vertex)
        side = HEMISPHERES[vertex >= surface.vertices("right").start]
        name = str(labels[vertex]) if own_regions else f"{labels[vertex]} ({side})"
        return self.place(participant, name) if name in self.names(participant) else None

    def n_layers(self, participant: str, run: Run) -> int:
        """Layers that a model has scores of, the input of the first block included."""
        return len(self._of(participant, run)["alignment"])

    def values(self, participant: str, run: Run, layer: int, quantity: str = "alignment") -> np.ndarray:
        """A map, (n_vertices,) float64, NaN where nothing is known or the noise ceiling does not suffice."""
        if quantity == "noise ceiling":
            return self.dataset.cortex(participant).to_vertices(self._ceiling(participant))
        kept = self._of(participant, run)["alignment" if quantity == "alignment" else "r"]
        return self.dataset.cortex(participant).to_vertices(kept[layer])

    def opacity(self, participant: str) -> np.ndarray | None:
        """Share of the colour at each vertex by its noise ceiling, between the limits of `figures.tables.faded`.

        None where voxels are regions, which are few and each reliable or not in use.
        """
        if self.dataset.voxels_are_regions:
            return None
        ceilings = self.dataset.cortex(participant).to_vertices(self._ceiling(participant))
        return Reliability(ceilings, "noise ceiling", *faded(self.study)).alpha(self.surface(participant)[0])

    def highest(self, participant: str, quantity: str = "alignment") -> float:
        """End of the colour map for all models and layers of a participant: the 99th percentile over voxels, or 1."""
        if quantity == "noise ceiling":
            return 1.0
        key = "alignment" if quantity == "alignment" else "r"
        mine = [one for one in self.models if one[0] == participant]
        every = ("highest", participant, key, len(mine))
        return self._once(every, lambda: float(np.nanpercentile([self._of(*one)[key].max(axis=0) for one in mine], 99)))

    def scores(self, participant: str, place: Place) -> pd.DataFrame:
        """Alignment of a place in every layer of every model: backbone, condition, layer, alignment."""
        rows = []
        for run in [run for person, run in self.models if person == participant]:
            inside = self._of(participant, run)["alignment"][:, place.voxels]
            inside = inside[:, np.isfinite(inside[0])]
            means = inside.mean(axis=1) if inside.size else []
            rows += [(run.backbone, run.condition, layer, float(mean)) for layer, mean in enumerate(means)]
        return pd.DataFrame(rows, columns=["backbone", "condition", "layer", "alignment"])

    def course(self, participant: str, run: Run, layer: int, place: Place) -> pd.DataFrame:
        """Time course of a place in the test story: the z-scored mean over its voxels in use, each z-scored.

        Away from the figure's layer, encoding models are fitted when a layer is first asked for.

        Returns
        -------
        DataFrame
            time (s after the start of the audio), measured, predicted; two of them correlate as far as the model
            predicts the mean of the place.

        Raises
        ------
        InputError
            No voxel of the place is in use, or a layer's features are not here.
        """
        compared = self.compared(participant, run)
        chosen = place.voxels[compared.used]
        if not chosen.any():
            raise InputError(f"{place.name} of {participant}: no voxel has a sufficient noise ceiling, expected some")
        story, skipped = compared.test[0], self.study.encoding.test_skip_rows
        times = self.dataset.tr_times(participant, story)[skipped:]
        truth = scored_trs(compared.responses, [story], self.study.encoding)[:, chosen].astype(np.float64)
        predicted = self._predicted(participant, run, layer)[: len(times), chosen].astype(np.float64)
        measured = zscore(zscore(truth).mean(axis=1, keepdims=True))[:, 0]
        expected = zscore(predicted.mean(axis=1, keepdims=True))[:, 0]
        return pd.DataFrame({"time": times, "measured": measured, "predicted": expected})

    def sound(self, story: str) -> tuple[np.ndarray, list[Interval]]:
        """Audio of a story, (samples,) float32 at 16 kHz, and its words, none where the dataset has none."""
        return self.dataset.audio(story), spoken_words(self.dataset, story)

    def add_model(self, name: str, participant: str) -> Run:
        """Compare any speech model with a participant, as `SpeechEncoder.from_pretrained` names it; its run.

        The sound of all stories goes through it, and encoding models of all its layers are fitted; both are kept among
        the study's results. Errors are those of the steps.
        """
        backbone = re.sub(r"[^\w.-]+", "-", Path(name).name)
        if self.study.backbones.get(backbone, Backbone(name=name)).name != name:
            backbone += f"-{fingerprint(name)[:6]}"  # results of another model lie under that name
        if backbone not in self.study.backbones:
            more = {backbone: Backbone(name=name, pad_to_30s=False, conditions=("pretrained",))}
            conditions = tuple(dict.fromkeys((*self.study.conditions, "pretrained")))
            update = {"backbones": {**self.study.backbones, **more}, "conditions": conditions}
            self.study = self.study.model_copy(update=update)
        run = Run(backbone, "pretrained")
        extract_layers(self.study, [run], self.device)
        align(self.study, participant, run, self.device)
        self.models = list(dict.fromkeys([*self.models, (participant, run)]))
        return run

    def _ceiling(self, participant: str) -> np.ndarray:
        return self._once(("ceiling", participant), lambda: noise_ceiling_of(self.study, participant))

    def compared(self, participant: str, run: Run, layer: int | None = None) -> Comparison:
        """Responses of a participant beside the features of a run at one layer, or without features."""
        fitted = self.study.stories_for(participant).train
        empty = self._once(
            ("responses", participant),
            lambda: comparison_of(self.study, self.dataset, participant, {}, fitted, self.device),
        )
        of_run = {} if layer is None else features_of(self.study, self.dataset, run, participant)
        return replace(empty, features={story: layers[[layer]] for story, layers in of_run.items()})

    def _predicted(self, participant: str, run: Run, layer: int) -> np.ndarray:
        """Predicted responses to the test story at a layer, (TRs, used voxels)."""
        kept = self._of(participant, run)
        if layer == self.study.figures.layer % len(kept["r"]):
            return kept["predicted"]

        def fit() -> np.ndarray:
            log.info(f"{participant}: fitting encoding models to layer {layer} of {run.name}, once")
            predicted = self.compared(participant, run, layer).predicted(self.study.stories_for(participant).train)
            return next(iter(predicted)).astype(np.float16)

        return self._once(("predicted", participant, run, layer), fit)


def with_results(names: Sequence[str] | None = None) -> list[str]:
    """Studies of `data/studies` (or of some) that there is something to see of: results, or tables in `figures`."""
    found = []
    for name in names or sorted(path.stem for path in STUDIES.glob("*.yaml")):
        made = Study.model_construct(name=name)
        has_scores = any(made.results.glob("alignment/*/*.h5"))
        found += [name] if has_scores or drawn(made, TABLE).is_file() else []
    return found


def open_source(study: Study, device: str = "cpu") -> Tables:
    """Results of a study where these are here, else its tables; `InputError` where there are neither."""
    if any(study.results.glob("alignment/*/*.h5")) and (source := Results(study, device)).models:
        return source
    if drawn(study, TABLE).is_file():
        return Tables(study)
    command = f"`make figures STUDY={given_name(study)}`"
    found = f"found neither results in {study.results} nor {drawn(study, TABLE)}"
    raise InputError(
        f"study {study.name}: {found}, expected either; {command} makes both".replace(f"{REPOSITORY}/", "")
    )
