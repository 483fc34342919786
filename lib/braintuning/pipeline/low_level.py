"""Steps: low-level features of stories, what they explain alone, and alignment without them."""

import logging
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from braintuning.alignment.mask import used_voxels
from braintuning.cortex import regions as rois
from braintuning.datasets import Dataset, open_dataset
from braintuning.lowlevel import removal
from braintuning.lowlevel.features import NGRAMS, TOGETHER, low_level_features, name_of, phones_of, phones_within
from braintuning.lowlevel.impact import LowLevelFit
from braintuning.lowlevel.ngrams import rare_share
from braintuning.lowlevel.nuisance import spoken_words
from braintuning.lowlevel.partition import DRAWN, SHARES
from braintuning.pipeline import recipes
from braintuning.pipeline.steps import (
    features_of,
    grids,
    grids_fingerprint,
    made_on,
    measured,
    own_array,
    recipe_of,
    require_device,
    save_result,
)
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


def measure_low_level_features(study: Study, participant: str) -> Path:
    """Low-level features of a participant's stories, with as many TRs before the first as the delays reach.

    The file is that of all who heard the same stories. It holds `<kind>/<story>`, (lead + TRs, dim) float32, under the
    names of `steps.Grid`.
    """
    dataset, path = open_dataset(study), study.low_level_features_file(participant)
    train, test = study.low_level_stories(participant)
    stories = (*train, *test)
    found = grids(study, dataset, stories, recipes.sharing(study, participant))
    recipe = {
        **recipes.low_level_features(study, participant).stored,
        "times": grids_fingerprint(found),
        "inputs": inputs_fingerprint([dataset.audio_file(story) for story in stories], dataset.root),
        "spoken": _spoken(dataset, stories),
    }
    if not is_done(path, recipe):
        flat = {}
        for number in range(max(map(len, found.values()))):
            chosen = {story: of_story[number] for story, of_story in found.items() if number < len(of_story)}
            made = low_level_features(dataset, {s: grid.read for s, grid in chosen.items()}, train, recipe["kinds"])
            for story, grid in chosen.items():
                rows = {kind: grid.filtered(made[kind][story]) for kind in recipe["kinds"]}
                flat |= {f"{kind}/{name}": rows[kind] for kind in recipe["kinds"] for name in grid.names}
        save_arrays(path, flat, provenance(recipe))
    return path


def measure_low_level_alone(study: Study, participant: str, device: str = "cpu") -> Path:
    """Share of a participant's variance that low-level features explain by themselves, the same beside every model.

    The file holds `explained`, (used voxels,) float64, NaN outside the region groups.
    """
    require_device(device)
    dataset, path = open_dataset(study), study.low_level_alone_file(participant)
    train, test = study.low_level_stories(participant)
    recipe = {
        **recipes.low_level_alone(study, participant).stored,
        "low_level": recipe_of(study.low_level_features_file(participant)),
        "searched": [SHARES, DRAWN],
        **measured(study, dataset, participant, (*train, *test)),
    }
    if not is_done(path, recipe):
        fit = _fit(study, dataset, participant, device)
        explained = fit.alone(dataset.cortex(participant).voxel_labels[used_voxels(study, participant)])
        save_arrays(path, {"explained": explained}, provenance(recipe, device=made_on(device)))
    return path


def measure_impact(study: Study, participant: str, run: Run, device: str = "cpu") -> Path:
    """Alignment of a model with a participant before and after each low-level feature is removed, and its loss R.

    `R = 100 (alignment - alignment_removed) / alignment` (Oota et al. 2024; Moussa et al. 2025), of means over a
    region; a lower bound, see `removal.remove`. Each feature is removed in both ways, see `removal.REMOVALS`. The file
    holds `alignment` and `removed_<feature>_<way>` (`features.name_of`), (layers, voxels) float32, NaN where a voxel is
    not used; `readout` and `readout_removed_<feature>_<way>`, (layers, features, 2), what of each feature the encoding
    models find in the test story, and chance; `at_lags` of `LowLevelFit.at_lags` at the figure's layer; `layers`, their
    numbers, and `n_layers` of the model. The CSV beside it has R by layer, region, feature and way and, at the figure's
    layer and for all features together alone (it takes longer than all else), the partition of variance over the noise
    ceiling squared, which no way of removal enters.
    """
    require_device(device)
    dataset, path = open_dataset(study), study.low_level_file(participant, run)
    recipe = _recipe(study, dataset, participant, run)
    if is_done(path, recipe) and path.with_suffix(".csv").is_file():
        return path
    used, ceiling = used_voxels(study, participant), load_arrays(study.ceiling_file(participant))["ceiling"]
    labels, features = dataset.cortex(participant).voxel_labels, features_of(study, dataset, run, participant)
    n_layers = len(features[recipe["fitted"][0]])
    layers = _layers(study, n_layers)
    fit = _fit(study, dataset, participant, device)
    arrays = {"layers": np.array(layers), "n_layers": np.array(n_layers)}
    for name, values in fit.scores({story: features[story][layers] for story in fit.stories}).items():
        arrays[name] = values
        if not name.startswith("readout"):
            arrays[name] = np.full((len(layers), len(used)), np.nan, np.float32)
            arrays[name][:, used] = values / ceiling[used]
    table = impact_table(arrays, labels, study.low_level.features)
    shown = study.figures.layer % n_layers
    alone = load_arrays(study.low_level_alone_file(participant))["explained"]
    of_layer = {story: features[story][shown] for story in fit.stories}
    arrays["at_lags"] = fit.at_lags(of_layer)
    parts = fit.parts(of_layer, alone, labels[used])
    table = _with_parts(table, parts, labels[used], ceiling[used], shown)
    phones = {story: phones_of(dataset, story) for story in fit.stories}
    train, test = ([phones_within(dataset, s, phones[s][0]) for s in stories] for stories in (fit.train, fit.test))
    rare = {kind: rare_share(train, test, n) for kind, n in NGRAMS.items()}
    sources = ", ".join(sorted({source for _, source in phones.values()}))
    table = table.assign(rare_share=table["feature"].map(rare), phones=sources)
    owner, weights = (participant, run.backbone, run.condition), provenance_of(study.features_file(run))["weights"]
    save_result(path, arrays, table, study, recipe, owner=owner, device=made_on(device), weights=weights)
    for roi in table.loc[table["n_voxels"] == 0, "roi"].unique():
        log.info(f"{participant}: no voxel of {roi} is in use")
    log.info(f"{participant}: {run.name}, low-level impact, {', '.join(study.low_level.features)}")
    return path


def _recipe(study: Study, dataset: Dataset, participant: str, run: Run) -> dict:
    train, test = study.low_level_stories(participant)
    return {
        **recipes.low_level(study, participant).stored,
        "features": recipe_of(study.features_file(run)),
        "low_level": recipe_of(study.low_level_features_file(participant)),
        "alone": recipe_of(study.low_level_alone_file(participant)),
        "spoken": _spoken(dataset, (*train, *test)),
        "removal": removal.ALPHAS.tolist(),
        **measured(study, dataset, participant, (*train, *test), audio=True),
    }


def _spoken(dataset: Dataset, stories: Sequence[str]) -> str:
    """Short SHA-256 of the words and phones of stories, and of their times."""
    return fingerprint({story: (spoken_words(dataset, story), phones_of(dataset, story)) for story in stories})


def _fit(study: Study, dataset: Dataset, participant: str, device: str) -> LowLevelFit:
    train, test = study.low_level_stories(participant)
    used = used_voxels(study, participant)
    responses = {story: dataset.responses(participant, story, used) for story in (*train, *test)}
    with h5py.File(study.low_level_features_file(participant)) as file:
        kinds, stories = study.low_level.features, (*train, *test)
        low_level = {kind: {s: own_array(file[kind], s, participant) for s in stories} for kind in kinds}
    return LowLevelFit(low_level, responses, train, test, study.encoding, device)


def _layers(study: Study, n_layers: int) -> list[int]:
    """Layers that the study names, and the figure's; all where it names none."""
    named = [layer % n_layers for layer in (*study.low_level.layers, study.figures.layer)]
    return sorted(set(named)) if study.low_level.layers else list(range(n_layers))


def impact_table(arrays: Mapping[str, np.ndarray], labels: np.ndarray, features: Sequence[str]) -> pd.DataFrame:
    """R of each layer, region group and feature.

    `arrays` are as in the file of `measure_impact`, `labels` (voxels,) str, and `features` names in the order of the
    readouts; `all` comes last.

    Returns
    -------
    DataFrame
        layer, roi, feature, removal (one of `removal.REMOVALS`), alignment, alignment_removed, r_percent, NaN for a
        region without a used voxel; n_voxels, n_layers; readout, readout_removed and readout_chance of the
        feature, for `all` of the one that is left most above chance.
    """
    rows, before = [], arrays["alignment"]
    for group, regions in rois.GROUPS.items():
        inside = np.flatnonzero(np.isin(labels, regions) & np.isfinite(before[0]))
        for place, layer in enumerate(arrays["layers"]):
            for feature, way in product((*features, TOGETHER), removal.REMOVALS):
                values = [np.nan] * 3
                if len(inside):
                    a, b = before[place, inside].mean(), arrays[name_of(feature, way)][place, inside].mean()
                    values = [a, b, 100 * (a - b) / a]
                left = arrays[f"readout_{name_of(feature, way)}"][place]
                above = np.nan_to_num(left[:, 0] - left[:, 1], nan=-np.inf)
                most = features.index(feature) if feature in features else above.argmax()
                read = arrays["readout"][place, most, 0], *left[most]
                rows.append((int(layer), group, feature, way, *values, len(inside), int(arrays["n_layers"]), *read))
    columns = ["layer", "roi", "feature", "removal", "alignment", "alignment_removed", "r_percent"]
    return pd.DataFrame(
        rows, columns=[*columns, "n_voxels", "n_layers", "readout", "readout_removed", "readout_chance"]
    )


def _with_parts(
    table: pd.DataFrame, parts: Mapping[str, np.ndarray], labels: np.ndarray, ceiling: np.ndarray, layer: int
) -> pd.DataFrame:
    """Add the mean partition of each region group, as a share of the variance that can be explained."""
    chosen = (table["layer"] == layer) & (table["feature"] == TOGETHER)
    for name, values in parts.items():
        share = pd.Series(values / ceiling**2)
        means = {group: share[np.isin(labels, names)].mean() for group, names in rois.GROUPS.items()}
        table[name] = table["roi"].map(means).where(chosen)
    return table
