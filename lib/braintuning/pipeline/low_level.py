"""The stage that asks how much of alignment is low-level: alignment before and after a feature is taken out."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from braintuning.cortex import regions as rois
from braintuning.datasets.base import Dataset
from braintuning.lowlevel import removal
from braintuning.lowlevel.features import TOGETHER, phones_of
from braintuning.pipeline.low_level_fit import LowLevelFit, spoken_fingerprint
from braintuning.pipeline.steps import extract_features, measure_ceiling, prepare, require_device, used_voxels
from braintuning.results import (
    fingerprint,
    generator,
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

N_RESAMPLES = 1000


def low_level_impact(study: Study, participant: str, run: Run, device: str = "cpu") -> Path:
    """Alignment of a model with a participant before and after each low-level feature is removed, and its loss R.

    `R = 100 (alignment - alignment_removed) / alignment` (Oota et al. 2024; Moussa et al. 2025), of means over a
    region; a lower bound, see `removal.remove`. The file holds `alignment` and `removed_<feature>`, (layers, voxels)
    float32, NaN where a voxel is not used; `readout` and `readout_removed_<feature>`, (layers, features, 2), what of
    each feature the encoding models find in the test story, and chance; `layers`, their numbers, and `n_layers` of the
    model. The CSV beside it has R by layer, region and feature with a bootstrap interval over voxels and, at the
    figure's layer and for all features together alone (it takes longer than all else), the partition of variance over
    the noise ceiling squared.
    """
    require_device(device)
    dataset, path = prepare(study), study.low_level_file(participant, run)
    measure_ceiling(study, participant)
    features_file = extract_features(study, run, device)
    own = study.stories_for(participant)
    train = tuple(story for story in study.low_level.stories or own.train if story in own.train)
    recipe = _recipe(study, dataset, participant, features_file, train)
    if is_done(path, recipe) and path.with_suffix(".csv").is_file():
        return path
    used, ceiling = used_voxels(study, participant), load_arrays(study.ceiling_file(participant))["ceiling"]
    responses = {story: dataset.responses(participant, story, used) for story in (*train, *own.test)}
    features, labels = load_arrays(features_file), dataset.cortex(participant).voxel_labels
    n_layers = len(features[train[0]])
    layers = _layers(study, n_layers)
    features = {story: features[story][layers] for story in responses}
    found = LowLevelFit(study, dataset, features, responses, train, own.test, device)
    arrays = {"layers": np.array(layers), "n_layers": np.array(n_layers)}
    for name, values in found.scores().items():
        arrays[name] = values
        if not name.startswith("readout"):
            arrays[name] = np.full((len(layers), len(used)), np.nan, np.float32)
            arrays[name][:, used] = values / ceiling[used]
    rng = generator(study.encoding.seed, "impact", participant, run.name)
    table = impact_table(arrays, labels, study.low_level.features, rng)
    shown = study.figures.layer % n_layers
    parts = found.parts(labels[used], layers.index(shown))
    table = _with_parts(table, parts, labels[used], ceiling[used], shown)
    phones = ", ".join(sorted({phones_of(dataset, story)[1] for story in responses}))
    table = table.assign(rare_share=table["feature"].map(found.rare_shares), phones=phones)
    carried = provenance(recipe, device=device, weights=provenance_of(features_file)["weights"])
    save_arrays(path, arrays, carried)
    for column, value in enumerate((participant, run.backbone, run.condition)):
        table.insert(column, ("participant", "backbone", "condition")[column], value)
    save_table(path.with_suffix(".csv"), table.assign(**provenance_columns(study.name, carried)))
    for roi in table.loc[table["n_voxels"] == 0, "roi"].unique():
        log.info(f"{participant}: no voxel of {roi} above the noise ceiling of {study.encoding.ceiling_threshold}")
    log.info(f"{participant}: {run.name}, low-level impact, {', '.join(study.low_level.features)}")
    return path


def _recipe(study: Study, dataset: Dataset, participant: str, features_file: Path, train: Sequence[str]) -> dict:
    names = (*train, *study.stories_for(participant).test)
    files = [dataset.responses_file(participant, s) for s in names] + [dataset.audio_file(s) for s in names]
    return {
        "stage": "low level",
        "participant": participant,
        "features": fingerprint(provenance_of(features_file)["recipe"]),
        "ceiling": fingerprint(provenance_of(study.ceiling_file(participant))["recipe"]),
        "encoding": study.encoding.model_dump(),
        "settings": study.low_level.model_dump(),
        "layer": study.figures.layer,
        "fitted": train,
        "test": names[len(train) :],
        "spoken": spoken_fingerprint(dataset, names),
        "removal": removal.ALPHAS.tolist(),
        "inputs": inputs_fingerprint(files, dataset.root),
    }


def _layers(study: Study, n_layers: int) -> list[int]:
    """Layers that the study names, and the figure's; all where it names none."""
    named = [layer % n_layers for layer in (*study.low_level.layers, study.figures.layer)]
    return sorted(set(named)) if study.low_level.layers else list(range(n_layers))


def impact_table(
    arrays: Mapping[str, np.ndarray], labels: np.ndarray, features: Sequence[str], rng: np.random.Generator
) -> pd.DataFrame:
    """R of each layer, region group and feature, with a 95 % bootstrap interval over voxels.

    Parameters
    ----------
    arrays : mapping
        As in the file of `low_level_impact`.
    labels : (voxels,) str
    features : sequence of str
        Names in the order of the readouts; `all` comes last.
    rng : numpy Generator

    Returns
    -------
    DataFrame
        layer, roi, feature, alignment, alignment_removed, r_percent, low, high, NaN for a region without a used voxel;
        n_voxels, n_layers; readout, readout_removed and readout_chance of the feature, for `all` of the one that is
        left most above chance.
    """
    rows, before = [], arrays["alignment"]
    for group in rois.GROUPS:
        inside = np.flatnonzero(rois.members(labels, group) & np.isfinite(before[0]))
        drawn = inside[rng.integers(len(inside), size=(N_RESAMPLES, len(inside)))] if len(inside) else None
        for place, layer in enumerate(arrays["layers"]):
            for feature in (*features, TOGETHER):
                values = [np.nan] * 5
                if drawn is not None:
                    after = arrays[f"removed_{feature}"][place]
                    a, b = before[place, inside].mean(), after[inside].mean()
                    resampled = 1 - after[drawn].mean(axis=1) / before[place][drawn].mean(axis=1)
                    values = [a, b, 100 * (a - b) / a, *(100 * np.percentile(resampled, [2.5, 97.5]))]
                left = arrays[f"readout_removed_{feature}"][place]
                above = np.nan_to_num(left[:, 0] - left[:, 1], nan=-np.inf)
                most = features.index(feature) if feature in features else above.argmax()
                read = arrays["readout"][place, most, 0], *left[most]
                rows.append((int(layer), group, feature, *values, len(inside), int(arrays["n_layers"]), *read))
    columns = ["layer", "roi", "feature", "alignment", "alignment_removed", "r_percent", "low", "high"]
    return pd.DataFrame(
        rows, columns=[*columns, "n_voxels", "n_layers", "readout", "readout_removed", "readout_chance"]
    )


def _with_parts(
    table: pd.DataFrame, parts: Mapping[str, np.ndarray], labels: np.ndarray, ceiling: np.ndarray, layer: int
) -> pd.DataFrame:
    """Add the mean partition of each region group, as a share of the variance that can be explained."""
    for name, values in parts.items():
        table[name] = np.nan
        for group, names in rois.GROUPS.items():
            inside = np.isin(labels, names)
            chosen = (table["roi"] == group) & (table["layer"] == layer) & (table["feature"] == TOGETHER)
            if inside.any():
                table.loc[chosen, name] = (values[inside] / ceiling[inside] ** 2).mean()
    return table
