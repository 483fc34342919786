"""Encoding models of a model's layers with and without low-level features, and what of these they still find."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from braintuning.alignment import encoding
from braintuning.alignment.encoding import design_matrix, scored_trs, standard_responses
from braintuning.cortex import regions
from braintuning.lowlevel import removal
from braintuning.lowlevel.features import TOGETHER
from braintuning.lowlevel.partition import explained_by, partition
from braintuning.results import generator
from braintuning.study.settings import Encoding

LAYERS_AT_ONCE = 5
ByStory = Mapping[str, np.ndarray]


class LowLevelFit:
    """Responses of a participant and low-level features of the same stories, ready for a model's features.

    Parameters
    ----------
    low_level : mapping of kind to mapping of story to (lead + TRs, dim) float32
        With as many leading TRs as the longest delay.
    responses : mapping of story to (TRs, voxels) float32
    train, test : sequence of str
    settings : Encoding
    device : str
    """

    def __init__(
        self,
        low_level: Mapping[str, ByStory],
        responses: ByStory,
        train: Sequence[str],
        test: Sequence[str],
        settings: Encoding,
        device: str = "cpu",
    ) -> None:
        self.settings, self.device, self.train, self.test, self.stories = settings, device, train, test, (*train, *test)
        self.rare_shares = {kind: _rare_share(low_level[kind], test) for kind in low_level if kind.endswith("phones")}
        self.low_level = {
            kind: {story: design_matrix(of_kind[story], settings.delays) for story in self.stories}
            for kind, of_kind in low_level.items()
        }
        self.truth = scored_trs(responses, test, settings)
        fitted = standard_responses(responses, train)
        self.voxels = fitted.shape[1]
        self.fitted = np.hstack([fitted, *(_joined(rows, train) for rows in self.low_level.values())])

    def scores(self, features: ByStory) -> dict[str, np.ndarray]:
        """Correlations with every low-level feature in place, and without each and all.

        Parameters
        ----------
        features : mapping of story to (layers, lead + TRs, dim) float32

        Returns
        -------
        scores : dict
            `alignment` and `removed_<feature>`, (layers, voxels): Pearson r of predicted with measured responses.
            `readout` and `readout_removed_<feature>`, (layers, features, 2): r of each feature as the same ridge
            regression predicts it, and chance, see `removal.read_out`.
        """
        found = {name: [] for name in ("", *self.low_level, TOGETHER)}
        for layers in _groups(len(features[self.train[0]])):
            designs = {s: np.hstack([self._design(features[s][layer]) for layer in layers]) for s in self.stories}
            for name, of_name in found.items():
                kinds = self.low_level if name == TOGETHER else [name]
                rng = generator(self.settings.seed, "splits")
                spaces = [self.low_level[kind] for kind in kinds if kind]
                rows = removal.remove(designs, spaces, self.train, self.settings, rng, self.device) if name else designs
                split = {story: np.split(rows[story], len(layers), axis=1) for story in rows}
                of_name += [self._score({s: split[s][place] for s in split}) for place in range(len(layers))]
        scores = {}
        for name, of_name in found.items():
            r, read = zip(*of_name, strict=True)
            scores[f"removed_{name}" if name else "alignment"] = np.array(r)
            scores[f"readout_removed_{name}" if name else "readout"] = np.array(read)
        return scores

    def alone(self, labels: np.ndarray) -> np.ndarray:
        """Variance that low-level features explain by themselves; (voxels,) float64, NaN outside the region groups.

        Parameters
        ----------
        labels : (voxels,) str
        """
        inside = _in_a_group(labels)
        return _spread(explained_by(self._sound(), *self._data(inside)), inside)

    def parts(self, features: ByStory, alone: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Variance of all low-level features and of one layer, partitioned; NaN outside the region groups.

        Parameters
        ----------
        features : mapping of story to (lead + TRs, dim) float32
        alone : (voxels,) float64
            From `alone`.
        labels : (voxels,) str
        """
        inside, layer = _in_a_group(labels), self._pair({s: self._design(features[s]) for s in self.stories})
        found = partition(alone[inside], self._sound(), layer, *self._data(inside))
        return {name: _spread(values, inside) for name, values in found.items()}

    def _sound(self) -> list[tuple[np.ndarray, np.ndarray]]:
        return [self._pair(rows) for rows in self.low_level.values()]

    def _data(self, inside: np.ndarray) -> tuple:
        seed = int(generator(self.settings.seed, "partition").integers(2**31))
        return self.fitted[:, : self.voxels][:, inside], self.truth[:, inside], self.settings, seed, self.device

    def _design(self, features: np.ndarray) -> np.ndarray:
        return design_matrix(features, self.settings.delays)

    def _pair(self, design: ByStory) -> tuple[np.ndarray, np.ndarray]:
        return _joined(design, self.train), _joined(design, self.test, self.settings.test_skip_rows)

    def _score(self, design: ByStory) -> tuple[np.ndarray, list[tuple[float, float]]]:
        """Correlation of each voxel, and the readout of each feature."""
        (train_x, test_x), rng = self._pair(design), generator(self.settings.seed, "splits")
        predicted = encoding.predict(train_x, self.fitted, test_x, self.settings, rng, self.device)
        read, start = [], self.voxels
        for rows in self.low_level.values():
            truth = _joined(rows, self.test, self.settings.test_skip_rows)
            read.append(removal.read_out(predicted[:, start : start + truth.shape[1]], truth))
            start += truth.shape[1]
        return encoding.correlation(predicted[:, : self.voxels], self.truth), read


def low_level_impact(
    features: ByStory,
    low_level: Mapping[str, ByStory],
    responses: ByStory,
    train: Sequence[str],
    test: Sequence[str],
    settings: Encoding | None = None,
    device: str = "cpu",
) -> dict[str, np.ndarray]:
    """Share of the alignment that goes with low-level features, layer by layer: the impact R.

    `R = 100 (r - r after residualisation) / r`, of means over voxels (Oota et al. 2024; Moussa et al. 2025).

    Parameters
    ----------
    features : mapping of story to (layers, lead + TRs, dim) float32
        With as many leading TRs as the longest delay.
    low_level : mapping of kind to mapping of story to (lead + TRs, dim) float32
    responses : mapping of story to (TRs, voxels) float32
    train, test : sequence of str
        Stories that encoding models and residualisation are fitted to, and that they are scored on.
    settings : Encoding, optional
        The paper's by default.
    device : str

    Returns
    -------
    impact : dict of kind (and `all`) to (layers,) float64
        Per cent.
    """
    found = LowLevelFit(low_level, responses, train, test, settings or Encoding(), device).scores(features)
    before = found["alignment"].mean(axis=1)
    return {k: 100 * (before - found[f"removed_{k}"].mean(axis=1)) / before for k in (*low_level, TOGETHER)}


def _groups(n_layers: int) -> Iterator[range]:
    for start in range(0, n_layers, LAYERS_AT_ONCE):
        yield range(start, min(start + LAYERS_AT_ONCE, n_layers))


def _in_a_group(labels: np.ndarray) -> np.ndarray:
    return np.any([np.isin(labels, names) for names in regions.GROUPS.values()], axis=0)


def _spread(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    whole = np.full(len(inside), np.nan)
    whole[inside] = values
    return whole


def _joined(rows: ByStory, stories: Sequence[str], skipped: int = 0) -> np.ndarray:
    return np.concatenate([rows[story][skipped:] for story in stories])


def _rare_share(counts: ByStory, stories: Sequence[str]) -> float:
    """Share of the diphones or triphones of stories that are none of the vocabulary; their last column."""
    summed = np.sum([counts[story].sum(axis=0) for story in stories], axis=0)
    return float(summed[-1] / max(summed.sum(), 1))
