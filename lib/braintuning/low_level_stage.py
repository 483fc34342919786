"""The stage that asks how much of alignment is low-level: alignment before and after a feature is taken out."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from braintuning import encoding, rois, timing
from braintuning.alignment import fitted_and_tested, measured, on_device_if_it_fits, standard_responses
from braintuning.datasets.interface import Dataset
from braintuning.low_level_features import TOGETHER, low_level_features, phones_of
from braintuning.partition import partition
from braintuning.removal import reach_of, remove
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
from braintuning.seeding import generator
from braintuning.stages import Report, extract_features, measure_ceiling, prepare, require_device, used_voxels
from braintuning.study import Run, Study

N_RESAMPLES = 1000
Rows = Mapping[str, np.ndarray]


def low_level_impact(study: Study, participant: str, run: Run, device: str = "cpu", report: Report = print) -> Path:
    """Alignment of a model with a participant before and after each low-level feature is removed, and its loss R.

    `R = 100 (alignment - alignment_removed) / alignment` (Oota et al. 2024; Moussa et al. 2025), of means over a
    region. The file holds `alignment` and `removed_<feature>`, (layers, voxels) float32, NaN where a voxel is not used;
    the CSV beside it R by layer, region and feature with a bootstrap interval over voxels and, at the figure's layer
    and for all features together, the partition of variance over the noise ceiling squared.
    """
    require_device(device)
    dataset, path = prepare(study, report), study.low_level_file(participant, run)
    measure_ceiling(study, participant, report)
    features_file = extract_features(study, run, device, report)
    own = study.stories_for(participant)
    train = tuple(story for story in study.low_level.stories or own.train if story in own.train)
    recipe = _recipe(study, dataset, participant, features_file, train)
    if is_done(path, recipe) and path.with_suffix(".csv").is_file():
        return path
    used, ceiling = used_voxels(study, participant), load_arrays(study.ceiling_file(participant))["ceiling"]
    responses = {story: dataset.responses(participant, story, used) for story in (*train, *own.test)}
    features = load_arrays(features_file)
    layers = _layers(study, len(features[train[0]]))
    removal = _Removal(study, dataset, {s: features[s][layers] for s in (*train, *own.test)}, train, device, report)
    arrays = {}
    for feature in (None, *study.low_level.features, TOGETHER):
        r = removal.scores(feature, responses, own.test)
        name = f"removed_{feature}" if feature else "alignment"
        arrays[name] = np.full((len(layers), len(used)), np.nan, np.float32)
        arrays[name][:, used] = r / ceiling[used]
    labels = dataset.cortex(participant).voxel_labels
    table = impact_table(arrays, labels, layers, generator(study.encoding.seed, "impact", participant, run.name))
    parts = removal.parts(
        layers.index(study.figures.layer % len(features[train[0]])), responses, own.test, labels[used]
    )
    table = _with_parts(table, parts, labels[used], ceiling[used], study.figures.layer % len(features[train[0]]))
    carried = provenance(recipe, device=device, weights=provenance_of(features_file)["weights"])
    save_arrays(path, arrays, carried)
    for column, (name, value) in enumerate(
        {"participant": participant, "backbone": run.backbone, "condition": run.condition}.items()
    ):
        table.insert(column, name, value)
    save_table(path.with_suffix(".csv"), table.assign(**provenance_columns(study.name, carried)))
    for roi in table.loc[table["alignment"].isna(), "roi"].unique():
        report(f"{participant}: no voxel of {roi} above the noise ceiling of {study.encoding.ceiling_threshold}")
    report(f"{participant}: {run.name}, low-level impact, {', '.join(study.low_level.features)}")
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
        "inputs": inputs_fingerprint(files, dataset.root),
    }


def _layers(study: Study, n_layers: int) -> list[int]:
    """Layers that the study names, and the figure's; all where it names none."""
    named = [layer % n_layers for layer in (*study.low_level.layers, study.figures.layer)]
    return sorted(set(named)) if study.low_level.layers else list(range(n_layers))


def measure_low_level(
    study: Study, dataset: Dataset, stories: Sequence[str], train: Sequence[str], report: Report = print
) -> dict[str, dict[str, np.ndarray]]:
    """Low-level features of stories, with as many rows before and after as delays and removal reach; kept in a file.

    Returns
    -------
    features : dict of kind (and `all`) to dict of story to (lead + reach + rows + reach, dim) float32
    """
    lead, reach = max(study.encoding.delays), reach_of(study.encoding.delays)
    before, after = np.arange(-lead - reach, 0) * dataset.tr, np.arange(1, reach + 1) * dataset.tr
    grid = {story: dataset.tr_times(story) for story in stories}
    times = {story: np.concatenate([t[0] + before, t, t[-1] + after]) for story, t in grid.items()}
    kinds = study.low_level.features
    recipe = {
        "stage": "low-level features",
        "kinds": kinds,
        "train": list(train),
        "times": fingerprint({story: t.tolist() for story, t in times.items()}),
        "inputs": inputs_fingerprint([dataset.audio_file(story) for story in stories], dataset.root),
        "phones": fingerprint({story: phones_of(dataset, story, report) for story in stories}),
    }
    path = study.results / "low_level" / f"features_{fingerprint(recipe)}.h5"
    if not is_done(path, recipe):
        found = low_level_features(dataset, times, train, kinds, report)
        flat = {f"{kind}/{story}": rows for kind in kinds for story, rows in found[kind].items()}
        save_arrays(path, flat, provenance(recipe))
    with h5py.File(path) as file:
        features = {kind: {story: file[f"{kind}/{story}"][()] for story in stories} for kind in kinds}
    together = {story: np.hstack([features[kind][story] for kind in kinds]) for story in stories}
    return {**features, TOGETHER: together}


class _Removal:
    """A model's features of some layers, with and without low-level features, ready to predict responses."""

    def __init__(
        self, study: Study, dataset: Dataset, features: Rows, train: Sequence[str], device: str, report: Report
    ) -> None:
        self.study, self.train, self.device = study, train, device
        self.n_layers, _, self.dim = features[train[0]].shape
        self.features = {s: x.transpose(1, 0, 2).reshape(x.shape[1], -1) for s, x in features.items()}
        self.low_level = measure_low_level(study, dataset, tuple(features), train, report)

    def _rows(self, feature: str | None) -> dict[str, np.ndarray]:
        if feature is None:
            return {story: encoding.zscore(rows) for story, rows in self.features.items()}
        kinds = self.study.low_level.features if feature == TOGETHER else (feature,)
        rng = generator(self.study.encoding.seed, "splits")
        spaces = [self.low_level[kind] for kind in kinds]
        return remove(self.features, spaces, self.train, self.study.encoding, rng, self.device)

    def _design(self, rows: Rows, layer: int) -> dict[str, np.ndarray]:
        delays, columns = self.study.encoding.delays, slice(layer * self.dim, (layer + 1) * self.dim)
        return {story: timing.delay(values[:, columns], delays)[max(delays) :] for story, values in rows.items()}

    def scores(self, feature: str | None, responses: Rows, test: Sequence[str]) -> np.ndarray:
        """Correlation of predicted with measured responses without a feature; (layers, voxels)."""
        settings, rows = self.study.encoding, self._rows(feature)
        truth, found = measured(responses, test, settings), []
        train_y = on_device_if_it_fits(standard_responses(responses, self.train), self.device)
        for layer in range(self.n_layers):
            prepared = fitted_and_tested(self._design(rows, layer), train_y, self.train, test, settings)
            found.append(encoding.correlation(encoding.predict(*prepared, self.device), truth))
        return np.array(found)

    def parts(self, layer: int, responses: Rows, test: Sequence[str], labels: np.ndarray) -> dict[str, np.ndarray]:
        """Variance of all low-level features and of a layer, partitioned, in voxels of some region group; else NaN."""
        settings, reach = self.study.encoding, reach_of(self.study.encoding.delays)
        inside = np.any([rois.members(labels, group) for group in rois.GROUPS], axis=0)
        columns = {story: values[:, inside] for story, values in responses.items()}
        sound = {
            story: timing.delay(encoding.zscore(rows[reach : len(rows) - reach]), settings.delays)[
                max(settings.delays) :
            ]
            for story, rows in self.low_level[TOGETHER].items()
        }
        train_y = standard_responses(columns, self.train)
        first, second = (
            fitted_and_tested(design, train_y, self.train, test, settings)
            for design in (sound, self._design(self._rows(None), layer))
        )
        found = partition(
            (first[0], first[2]), (second[0], second[2]), first[1], measured(columns, test, settings), settings,
            generator(settings.seed, "partition"), self.device,
        )  # fmt: skip
        whole = {name: np.full(len(labels), np.nan) for name in found}
        for name, values in found.items():
            whole[name][inside] = values
        return whole


def impact_table(
    arrays: Mapping[str, np.ndarray], labels: np.ndarray, layers: Sequence[int], rng: np.random.Generator
) -> pd.DataFrame:
    """R of each layer, region group and feature, with a 95 % bootstrap interval over voxels.

    Parameters
    ----------
    arrays : mapping
        `alignment` and `removed_<feature>`, (layers, voxels), NaN where a voxel is not used.
    labels : (voxels,) str
    layers : sequence of int
        Numbers of the layers in `arrays`.
    rng : numpy Generator

    Returns
    -------
    DataFrame
        layer, roi, feature, alignment, alignment_removed, r_percent, low, high; NaN for a region without a used voxel.
    """
    rows, before = [], arrays["alignment"]
    features = [name.removeprefix("removed_") for name in arrays if name != "alignment"]
    for group in rois.GROUPS:
        inside = np.flatnonzero(rois.members(labels, group) & np.isfinite(before[0]))
        drawn = inside[rng.integers(len(inside), size=(N_RESAMPLES, len(inside)))] if len(inside) else None
        for place, layer in enumerate(layers):
            for feature in features:
                values = [np.nan] * 5
                if drawn is not None:
                    after = arrays[f"removed_{feature}"][place]
                    a, b = before[place, inside].mean(), after[inside].mean()
                    resampled = 1 - after[drawn].mean(axis=1) / before[place][drawn].mean(axis=1)
                    values = [a, b, 100 * (a - b) / a, *(100 * np.percentile(resampled, [2.5, 97.5]))]
                rows.append((layer, group, feature, *values))
    columns = ["layer", "roi", "feature", "alignment", "alignment_removed", "r_percent", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def _with_parts(
    table: pd.DataFrame, parts: Mapping[str, np.ndarray], labels: np.ndarray, ceiling: np.ndarray, layer: int
) -> pd.DataFrame:
    """Add the mean partition of each region group, as a share of the variance that can be explained."""
    for name, values in parts.items():
        table[name] = np.nan
        for group in rois.GROUPS:
            inside = rois.members(labels, group)
            chosen = (table["roi"] == group) & (table["layer"] == layer) & (table["feature"] == TOGETHER)
            if inside.any():
                table.loc[chosen, name] = (values[inside] / ceiling[inside] ** 2).mean()
    return table
