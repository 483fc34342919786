"""The stage that compares: encoding models of every layer of a model, and how well they predict a participant."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from braintuning.alignment import encoding
from braintuning.alignment.encoding import predict_layers, region_table, scored_trs
from braintuning.datasets.base import Dataset
from braintuning.pipeline.card import write_scores
from braintuning.pipeline.steps import extract_features, measure_ceiling, prepare, require_device, used_voxels
from braintuning.results import (
    fingerprint,
    inputs_fingerprint,
    is_done,
    load_arrays,
    provenance,
    provenance_columns,
    provenance_of,
    save_arrays,
    save_table,
)
from braintuning.study import Run, Study

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Comparison:
    """A participant's responses and a model's features, ready to be compared."""

    study: Study
    features: Mapping[str, np.ndarray]
    responses: Mapping[str, np.ndarray]
    test: Sequence[str]
    used: np.ndarray
    ceiling: np.ndarray
    device: str

    def score(self, train: Sequence[str]) -> dict[str, np.ndarray]:
        """Correlations, alignment and, at the figure's layer, predictions, of encoding models fitted to `train`."""
        settings = self.study.encoding
        truth, scores, kept = scored_trs(self.responses, self.test, settings), [], []
        layers = predict_layers(self.features, self.responses, train, self.test, settings, self.device)
        n_layers = len(self.features[train[0]])
        for layer, predicted in enumerate(layers):
            scores.append(encoding.correlation(predicted, truth))
            if layer == self.study.figures.layer % n_layers:
                kept = predicted.astype(np.float16)
        r = np.full((n_layers, len(self.used)), np.nan, np.float32)
        r[:, self.used] = scores
        alignment = (r / np.where(self.used, self.ceiling, np.nan)).astype(np.float32)
        return {"r": r, "alignment": alignment, "predicted": kept}


def _prepared(
    study: Study, dataset: Dataset, participant: str, features_file: Path, names: Sequence[str], device: str
) -> _Comparison:
    used, ceiling = used_voxels(study, participant), load_arrays(study.ceiling_file(participant))["ceiling"]
    test = study.stories_for(participant).test
    responses = {story: dataset.responses(participant, story, used) for story in (*names, *test)}
    return _Comparison(study, load_arrays(features_file), responses, test, used, ceiling, device)


def _recipe(study: Study, dataset: Dataset, participant: str, features_file: Path, names: Sequence[str]) -> dict:
    test = study.stories_for(participant).test
    return {
        "stage": "align",
        "participant": participant,
        "features": fingerprint(provenance_of(features_file)["recipe"]),
        "ceiling": fingerprint(provenance_of(study.ceiling_file(participant))["recipe"]),
        "settings": study.encoding.model_dump(),
        "layer": study.figures.layer,
        "regions": fingerprint(dataset.cortex(participant).voxel_labels.tolist()),
        "fitted": list(names),
        "test": test,
        "inputs": inputs_fingerprint([dataset.responses_file(participant, s) for s in (*names, *test)], dataset.root),
    }


def align(study: Study, participant: str, run: Run, device: str = "cpu") -> Path:
    """Score every layer of a run's model on a participant's responses to the test story, voxel by voxel and by region.

    The scores file holds `r` and `alignment` (r over the noise ceiling), (layers + 1, voxels) float32, NaN where the
    ceiling is below the threshold; `predicted`, (rows, used voxels) float16, responses to the test story predicted at
    the figure's layer; and, where the study has held-out stories, the same from encoding models fitted to those
    (`held_out_r` and so on). The CSV beside it holds the means over each region group, and a tuned model's card too.
    """
    require_device(device)
    dataset, path = prepare(study), study.scores_file(participant, run)
    measure_ceiling(study, participant)
    features_file = extract_features(study, run, device)
    stories = study.stories_for(participant)
    names = stories.train + stories.held_out
    recipe, table_path = _recipe(study, dataset, participant, features_file, names), path.with_suffix(".csv")
    if is_done(path, recipe) and table_path.is_file():
        write_scores(study, run, recipe["features"])
        return path
    comparison = _prepared(study, dataset, participant, features_file, names, device)
    labels = dataset.cortex(participant).voxel_labels
    arrays = {"ceiling": comparison.ceiling, **comparison.score(stories.train)}
    table = region_table(arrays["alignment"], labels)
    table["alignment_held_out"] = np.nan
    if stories.held_out:
        held_out = comparison.score(stories.held_out)
        arrays |= {f"held_out_{name}": array for name, array in held_out.items()}
        table["alignment_held_out"] = region_table(held_out["alignment"], labels)["alignment"]
    carried = provenance(recipe, device=device, weights=provenance_of(features_file)["weights"])
    save_arrays(path, arrays, carried)
    for column, value in enumerate((participant, run.backbone, run.condition)):
        table.insert(column, ("participant", "backbone", "condition")[column], value)
    columns = provenance_columns(study.name, carried)
    save_table(table_path, table.assign(**columns, regions=recipe["regions"], seed=study.tuning.seed))
    write_scores(study, run, recipe["features"])
    log.info(f"{participant}: {run.name} aligned, {comparison.used.sum()} voxels")
    return path


def align_first(study: Study, participant: str, run: Run, n_stories: int, device: str = "cpu") -> Path:
    """As `align`, with encoding models fitted to the first `n_stories` training stories alone; a table by region."""
    dataset, features_file = prepare(study), extract_features(study, run, device)
    measure_ceiling(study, participant)
    names = study.stories_for(participant).train[:n_stories]
    scores_file = study.scores_file(participant, run)
    path = scores_file.with_name(f"{scores_file.stem}.first-{n_stories}.h5")
    recipe = _recipe(study, dataset, participant, features_file, names)
    if not is_done(path, recipe):
        comparison = _prepared(study, dataset, participant, features_file, names, device)
        carried = provenance(recipe, device=device, weights=provenance_of(features_file)["weights"])
        alignment = comparison.score(names)["alignment"]
        table = region_table(alignment, dataset.cortex(participant).voxel_labels)
        hours = sum(len(dataset.audio(story)) for story in names) / 16_000 / 3600
        table = table.assign(participant=participant, backbone=run.backbone, condition=run.condition)
        table = table.assign(n_stories=n_stories, hours=hours, **provenance_columns(study.name, carried))
        save_table(path.with_suffix(".csv"), table)
        save_arrays(path, {"alignment": alignment}, carried)
    return path
