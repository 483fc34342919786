"""Steps: how well encoding models of every layer of a model, and of nuisance features alone, predict a participant."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from braintuning import timing
from braintuning.alignment.encoding import correlation_in_folds, predict_folds, predict_layers, scored_trs
from braintuning.alignment.mask import used_voxels
from braintuning.cortex.regions import region_table
from braintuning.datasets import Dataset, open_dataset
from braintuning.errors import InputError
from braintuning.lowlevel.nuisance import nuisance_features, spoken_words
from braintuning.pipeline import recipes
from braintuning.pipeline.steps import (
    features_of,
    grids,
    grids_fingerprint,
    made_on,
    measured,
    recipe_of,
    require_device,
    save_result,
)
from braintuning.results import fingerprint, is_done, load_arrays, provenance_of
from braintuning.study import Run, Study

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Comparison:
    """A participant's responses and a model's features, ready to be compared."""

    study: Study
    features: Mapping[str, np.ndarray]
    responses: Mapping[str, np.ndarray]
    test: Sequence[str]
    used: np.ndarray
    ceiling: np.ndarray
    device: str
    gap: int

    def score(self, train: Sequence[str]) -> dict[str, np.ndarray]:
        """Correlations, alignment and, at the figure's layer, predictions, of encoding models fitted to `train`.

        Without stories to fit to, each fold of the test story is predicted from the others, and the correlation is the
        mean over folds.
        """
        settings = self.study.encoding
        truth, scores, kept = scored_trs(self.responses, self.test, settings), [], []
        layers, n_layers = self.predicted(train), len(self.features[self.test[0]])
        for layer, predicted in enumerate(layers):
            scores.append(correlation_in_folds(predicted, truth, 1 if train else settings.folds))
            if layer == self.study.figures.layer % n_layers:
                kept = predicted.astype(np.float16)
        r = np.full((n_layers, len(self.used)), np.nan, np.float32)
        r[:, self.used] = scores
        alignment = (r / np.where(self.used, self.ceiling, np.nan)).astype(np.float32)
        return {"r": r, "alignment": alignment, "predicted": kept}

    def predicted(self, train: Sequence[str]) -> Iterator[np.ndarray]:
        """Responses to the test story, (TRs, used voxels), predicted layer by layer as `score` scores them."""
        settings = self.study.encoding
        if train:
            return predict_layers(self.features, self.responses, train, self.test, settings, self.device)
        (story,) = self.test
        return predict_folds(self.features[story], self.responses[story], settings, self.gap, self.device)


def align(study: Study, participant: str, run: Run, device: str = "cpu", first: int | None = None) -> Path:
    """Score every layer of a run's model on a participant's responses to the test story, voxel by voxel and by region.

    The scores file holds `r` and `alignment` (r over the noise ceiling), (layers + 1, voxels) float32, NaN in
    voxels that are not in use; `predicted`, (TRs, used voxels) float16, responses to the test story predicted at
    the figure's layer; and, where the study has held-out stories, the same from encoding models fitted to those
    (`held_out_r` and so on). The CSV beside it holds the means over each region group.

    With `first`, encoding models are fitted to so many training stories alone, and the file holds just `alignment`.
    """
    require_device(device)
    dataset, path = open_dataset(study), study.scores_file(participant, run, first)
    stories = study.stories_for(participant)
    n_train = len(stories.train)
    if first is not None and not 0 < first <= n_train:
        raise InputError(f"found first {first} training stories, expected 1 to {n_train} of {participant}")
    recipe = recipes.align(study, participant, None if first is None else stories.train[:first]).stored
    compared = measured(study, dataset, participant, (*recipe["fitted"], *recipe["test"]))
    recipe = {**recipe, "features": recipe_of(study.features_file(run)), **compared}
    if is_done(path, recipe) and path.with_suffix(".csv").is_file():
        return path
    features, labels = features_of(study, dataset, run, participant), dataset.cortex(participant).voxel_labels
    comparison = comparison_of(study, dataset, participant, features, recipe["fitted"], device)
    if first is None:
        arrays = {"ceiling": comparison.ceiling, **comparison.score(stories.train)}
        table = region_table(arrays["alignment"], labels).assign(alignment_held_out=np.nan)
        if stories.held_out:
            held_out = comparison.score(stories.held_out)
            arrays |= {f"held_out_{name}": array for name, array in held_out.items()}
            table["alignment_held_out"] = region_table(held_out["alignment"], labels)["alignment"]
        table = table.assign(regions=recipe["regions"], seed=study.tuning_of(run.condition).seed)
    else:
        arrays = {"alignment": comparison.score(recipe["fitted"])["alignment"]}
        seconds = sum(_seconds(dataset, participant, story) for story in recipe["fitted"])
        table = region_table(arrays["alignment"], labels).assign(n_stories=first, hours=seconds / 3600)
    owner, weights = (participant, run.backbone, run.condition), provenance_of(study.features_file(run))["weights"]
    save_result(path, arrays, table, study, recipe, owner=owner, device=made_on(device), weights=weights)
    what = f"{comparison.used.sum()} voxels" if first is None else f"first {first} stories"
    log.info(f"{participant}: {run.name} aligned, {what}")
    return path


def _seconds(dataset: Dataset, participant: str, story: str) -> float:
    """How long a story is: its audio, or TRs where the audio may be that of a recording which it is a part of."""
    if not dataset.between_people:
        return len(dataset.audio(story)) / timing.SAMPLE_RATE
    times = dataset.tr_times(participant, story)
    return len(times) * timing.spacing(times)


def align_nuisance(study: Study, participant: str, device: str = "cpu") -> Path:
    """Score an encoding model of word rate, envelope and position alone on a participant, as `align` scores a layer.

    Delays, ridge, splits, trimming, mask and noise ceiling are those of the models that it stands beside. The file
    holds `ceiling`, `r` and `alignment`, (voxels,) float32, and `predicted`, (TRs, used voxels) float16; with
    `low_level_` before its name each fitted to the stories of low-level impact, and with `held_out_` to held-out
    stories, where there are such. The CSV beside it holds the means over each region group, and which `features` there
    are: without words in the dataset no word rate.
    """
    require_device(device)
    dataset, path, stories = open_dataset(study), study.nuisance_file(participant), study.stories_for(participant)
    stored = recipes.nuisance(study, participant).stored
    heard = (*stored["fitted"], *stored["test"])
    found = grids(study, dataset, heard, [participant])
    labels = dataset.cortex(participant).voxel_labels
    recipe = {
        **stored,
        "times": grids_fingerprint(found),
        "spoken": fingerprint({story: spoken_words(dataset, story) for story in heard}),
        **measured(study, dataset, participant, heard, audio=True),
    }
    if is_done(path, recipe) and path.with_suffix(".csv").is_file():
        return path
    features, names = nuisance_features(dataset, {story: grid.read for story, [grid] in found.items()})
    one_layer = {story: grid.filtered(features[story][None]) for story, [grid] in found.items()}
    comparison = comparison_of(study, dataset, participant, one_layer, stored["fitted"], device)
    arrays, table, scored = {"ceiling": comparison.ceiling}, None, {}
    for kind, fitted in (("", stories.train), ("low_level_", stored["low_level"]), ("held_out_", stories.held_out)):
        if fitted or not kind:
            scores = scored[fitted] = scored.get(fitted) or comparison.score(fitted)
            means = region_table(scores["alignment"], labels).drop(columns="layer")
            table = means if table is None else table.assign(**{f"{kind}alignment": means["alignment"]})
            arrays |= {f"{kind}{name}": array if name == "predicted" else array[0] for name, array in scores.items()}
    table = table.assign(features=", ".join(names))
    save_result(path, arrays, table, study, recipe, owner=(participant,), device=made_on(device))
    log.info(f"{participant}: {', '.join(names)} alone aligned, {comparison.used.sum()} voxels")
    return path


def comparison_of(
    study: Study,
    dataset: Dataset,
    participant: str,
    features: Mapping[str, np.ndarray],
    fitted: Sequence[str],
    device: str,
) -> Comparison:
    """The comparison of a participant with some features, by story as `features_of` gives them."""
    used, ceiling = used_voxels(study, participant), load_arrays(study.ceiling_file(participant))["ceiling"]
    test = study.stories_for(participant).test
    responses = {story: dataset.responses(participant, story, used) for story in (*fitted, *test)}
    spread = dataset.reach(test[0]) / timing.spacing(dataset.tr_times(participant, test[0]))
    gap = max(study.encoding.delays) + math.ceil(spread)
    return Comparison(study, features, responses, test, used, ceiling, device, gap)
