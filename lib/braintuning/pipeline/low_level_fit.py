"""Encoding models of a model's layers with and without low-level features, and what of these they still find."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import h5py
import numpy as np

from braintuning.alignment import encoding
from braintuning.alignment.encoding import design_matrix, scored_trs, standard_responses
from braintuning.cortex import regions as rois
from braintuning.datasets.base import Dataset
from braintuning.lowlevel import removal
from braintuning.lowlevel.features import TOGETHER, low_level_features, phones_of
from braintuning.lowlevel.partition import DRAWN, SHARES, explained_by, partition
from braintuning.results import (
    arrays_fingerprint,
    fingerprint,
    generator,
    inputs_fingerprint,
    is_done,
    load_arrays,
    provenance,
    save_arrays,
)
from braintuning.study import Study

LAYERS_AT_ONCE = 5
Rows = Mapping[str, np.ndarray]


def spoken_fingerprint(dataset: Dataset, stories: Sequence[str]) -> str:
    """Short SHA-256 of the words and phones of stories, and of their times."""
    return fingerprint({story: (dataset.words(story), phones_of(dataset, story)) for story in stories})


def measure_low_level(
    study: Study, dataset: Dataset, stories: Sequence[str], train: Sequence[str]
) -> dict[str, dict[str, np.ndarray]]:
    """Low-level features of stories, with as many rows before the first as the delays reach; kept in a file.

    Returns
    -------
    features : dict of kind to dict of story to (lead + rows, dim) float32
    """
    before = np.arange(-max(study.encoding.delays), 0) * dataset.tr
    grid = {story: dataset.tr_times(story) for story in stories}
    times = {story: np.concatenate([t[0] + before, t]) for story, t in grid.items()}
    kinds = study.low_level.features
    recipe = {
        "stage": "low-level features",
        "kinds": kinds,
        "train": list(train),
        "times": fingerprint({story: t.tolist() for story, t in times.items()}),
        "inputs": inputs_fingerprint([dataset.audio_file(story) for story in stories], dataset.root),
        "spoken": spoken_fingerprint(dataset, stories),
    }
    path = study.results / "low_level" / f"features_{fingerprint(recipe)}.h5"
    if not is_done(path, recipe):
        found = low_level_features(dataset, times, train, kinds)
        flat = {f"{kind}/{story}": rows for kind in kinds for story, rows in found[kind].items()}
        save_arrays(path, flat, provenance(recipe))
    with h5py.File(path) as file:
        return {kind: {story: file[f"{kind}/{story}"][()] for story in stories} for kind in kinds}


class LowLevelFit:
    """A model's features of some layers and a participant's responses, to be compared without low-level features.

    Parameters
    ----------
    study : Study
    dataset : Dataset
    features : mapping of story to (layers, lead + rows, dim) float32
    responses : mapping of story to (rows, voxels) float32
    train, test : sequence of str
    device : str
    """

    def __init__(
        self,
        study: Study,
        dataset: Dataset,
        features: Rows,
        responses: Rows,
        train: Sequence[str],
        test: Sequence[str],
        device: str,
    ) -> None:
        self.settings, self.device, self.features = study.encoding, device, features
        self.kept = study.results / "low_level"
        self.train, self.test, self.stories = train, test, (*train, *test)
        found = measure_low_level(study, dataset, self.stories, train)
        self.rare_shares = {kind: _rare_share(found[kind], test) for kind in found if kind.endswith("phones")}
        self.low_level = {
            kind: {story: design_matrix(rows, self.settings.delays) for story, rows in of_kind.items()}
            for kind, of_kind in found.items()
        }
        self.truth = scored_trs(responses, test, self.settings)
        fitted = standard_responses(responses, train)
        self.voxels = fitted.shape[1]
        self.fitted = np.hstack([fitted, *(_joined(rows, train) for rows in self.low_level.values())])

    def scores(self) -> dict[str, np.ndarray]:
        """Correlations with every feature in place, and without each and all.

        Returns
        -------
        scores : dict
            `alignment` and `removed_<feature>`, (layers, voxels): Pearson r of predicted with measured responses.
            `readout` and `readout_removed_<feature>`, (layers, features, 2): r of each feature as the same ridge
            regression predicts it, and chance, see `removal.read_out`.
        """
        found = {name: [] for name in ("", *self.low_level, TOGETHER)}
        for layers in self._groups():
            design = {s: np.hstack([self._design(s, layer) for layer in layers]) for s in self.stories}
            for name, of_name in found.items():
                kinds = self.low_level if name == TOGETHER else [name]
                rng = generator(self.settings.seed, "splits")
                spaces = [self.low_level[kind] for kind in kinds if kind]
                rows = removal.remove(design, spaces, self.train, self.settings, rng, self.device) if name else design
                split = {story: np.split(rows[story], len(layers), axis=1) for story in rows}
                of_name += [self._score({s: split[s][place] for s in split}) for place in range(len(layers))]
        scores = {}
        for name, of_name in found.items():
            r, read = zip(*of_name, strict=True)
            scores[f"removed_{name}" if name else "alignment"] = np.array(r)
            scores[f"readout_removed_{name}" if name else "readout"] = np.array(read)
        return scores

    def parts(self, labels: np.ndarray, layer: int) -> dict[str, np.ndarray]:
        """Variance of all low-level features and of a layer, partitioned, in voxels of some region group; else NaN.

        What low-level features explain by themselves is the same for every model, and kept in a file.

        Parameters
        ----------
        labels : (voxels,) str
        layer : int
            Place among the layers that are compared.
        """
        inside = np.any([np.isin(labels, names) for names in rois.GROUPS.values()], axis=0)
        sound = [self._pair(rows) for rows in self.low_level.values()]
        model = self._pair({story: self._design(story, layer) for story in self.stories})
        seed = int(generator(self.settings.seed, "partition").integers(2**31))
        data = self.fitted[:, : self.voxels][:, inside], self.truth[:, inside], self.settings, seed, self.device
        recipe = {
            "stage": "low-level features alone",
            "settings": self.settings.model_dump(),
            "searched": [SHARES, DRAWN],
            "arrays": arrays_fingerprint([*data[:2], *chain(*sound)]),
        }
        alone = self.kept / f"alone_{fingerprint(recipe)}.h5"
        if not is_done(alone, recipe):
            save_arrays(alone, {"explained": explained_by(sound, *data)}, provenance(recipe))
        found = partition(load_arrays(alone)["explained"], sound, model, *data)
        whole = {name: np.full(len(labels), np.nan) for name in found}
        for name, values in found.items():
            whole[name][inside] = values
        return whole

    @property
    def n_layers(self) -> int:
        """Layers that are compared."""
        return len(self.features[self.train[0]])

    def _groups(self) -> Iterator[range]:
        for start in range(0, self.n_layers, LAYERS_AT_ONCE):
            yield range(start, min(start + LAYERS_AT_ONCE, self.n_layers))

    def _design(self, story: str, layer: int) -> np.ndarray:
        return design_matrix(self.features[story][layer], self.settings.delays)

    def _pair(self, design: Rows) -> tuple[np.ndarray, np.ndarray]:
        return _joined(design, self.train), _joined(design, self.test, self.settings.test_skip_rows)

    def _score(self, design: Rows) -> tuple[np.ndarray, list[tuple[float, float]]]:
        """Correlation of each voxel, and the readout of each feature."""
        (train_x, test_x), rng = self._pair(design), generator(self.settings.seed, "splits")
        predicted = encoding.predict(train_x, self.fitted, test_x, self.settings, rng, self.device)
        read, start = [], self.voxels
        for rows in self.low_level.values():
            truth = _joined(rows, self.test, self.settings.test_skip_rows)
            read.append(removal.read_out(predicted[:, start : start + truth.shape[1]], truth))
            start += truth.shape[1]
        return encoding.correlation(predicted[:, : self.voxels], self.truth), read


def _joined(rows: Rows, stories: Sequence[str], skipped: int = 0) -> np.ndarray:
    return np.concatenate([rows[story][skipped:] for story in stories])


def _rare_share(counts: Rows, stories: Sequence[str]) -> float:
    """Share of the diphones or triphones of stories that are none of the vocabulary; their last column."""
    summed = np.sum([counts[story].sum(axis=0) for story in stories], axis=0)
    return float(summed[-1] / max(summed.sum(), 1))
