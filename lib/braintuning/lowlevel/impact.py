"""Encoding models of layers with and without low-level features, and how much of these they still decode."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from braintuning.alignment import encoding
from braintuning.cortex.regions import GROUPS
from braintuning.lowlevel import removal
from braintuning.lowlevel.features import TOGETHER
from braintuning.lowlevel.partition import Pair, explained_by, partition
from braintuning.results import generator
from braintuning.study.settings import Encoding

LAYERS_AT_ONCE = 5
ByStory = Mapping[str, np.ndarray]


class LowLevelFit:
    """A participant's responses and low-level features of the same stories, ready for a model's features.

    Arguments are those of `low_level_impact`. `rare_shares` holds, for diphones and triphones, the share of those in
    the test stories that are not in the vocabulary.
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
        self.low_level = {kind: self._design(of_kind) for kind, of_kind in low_level.items()}
        self.spaces = [self._pair(design) for design in self.low_level.values()]
        self.truth = encoding.scored_trs(responses, test, settings)
        self.fitted = np.hstack([encoding.standard_responses(responses, train), *(x for x, _ in self.spaces)])
        self.responses = self.fitted[:, : self.truth.shape[1]]

    def scores(self, features: ByStory) -> dict[str, np.ndarray]:
        """Correlations with every low-level feature in place, and without each and all.

        Parameters
        ----------
        features : mapping of story to (layers, lead + TRs, dim) float32

        Returns
        -------
        scores : dict
            `alignment` and `removed_<feature>`, (layers, voxels): Pearson r of predicted with measured responses;
            `readout` and `readout_removed_<feature>`, (layers, features, 2): r of each feature as the same regression
            predicts it, and chance, see `removal.read_out`.
        """
        scores, n_layers = defaultdict(list), len(features[self.train[0]])
        for layers in np.split(np.arange(n_layers), range(LAYERS_AT_ONCE, n_layers, LAYERS_AT_ONCE)):
            of_layer = [self._design({story: features[story][layer] for story in self.stories}) for layer in layers]
            design = {story: np.hstack([of_one[story] for of_one in of_layer]) for story in self.stories}
            for name in (None, *self.low_level, TOGETHER):
                left = design if name is None else self._without(design, name)
                parts = {story: np.split(left[story], len(layers), axis=1) for story in left}
                for place in range(len(layers)):
                    r, read = self._score({story: parts[story][place] for story in parts})
                    scores["alignment" if name is None else f"removed_{name}"].append(r)
                    scores["readout" if name is None else f"readout_removed_{name}"].append(read)
        return {name: np.array(of_layers) for name, of_layers in scores.items()}

    def alone(self, labels: np.ndarray) -> np.ndarray:
        """Share of variance that low-level features explain alone; (voxels,) float64, NaN outside the region groups."""
        inside = _in_a_group(labels)
        return _spread(explained_by(self.spaces, *self._data(inside)), inside)

    def parts(self, features: ByStory, alone: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """`partition` of all low-level features and one layer, (lead + TRs, dim) of each story; NaN as in `alone`."""
        inside = _in_a_group(labels)
        found = partition(alone[inside], self.spaces, self._pair(self._design(features)), *self._data(inside))
        return {name: _spread(values, inside) for name, values in found.items()}

    def _data(self, inside: np.ndarray) -> tuple:
        seed = int(generator(self.settings.seed, "partition").integers(2**31))
        return self.responses[:, inside], self.truth[:, inside], self.settings, seed, self.device

    def _design(self, features: ByStory) -> dict[str, np.ndarray]:
        return {story: encoding.design_matrix(features[story], self.settings.delays) for story in self.stories}

    def _pair(self, design: ByStory) -> Pair:
        """Design of the training stories, and of the test stories without the skipped TRs."""
        train_x = np.concatenate([design[story] for story in self.train])
        return train_x, encoding.scored_trs(design, self.test, self.settings)

    def _without(self, design: ByStory, name: str) -> dict[str, np.ndarray]:
        """Design without a low-level feature, or all of them."""
        low_level = [self.low_level[kind] for kind in (self.low_level if name == TOGETHER else [name])]
        rng = generator(self.settings.seed, "splits")
        return removal.remove(design, low_level, self.train, self.settings, rng, self.device)

    def _score(self, design: ByStory) -> tuple[np.ndarray, list[tuple[float, float]]]:
        """Correlation of each voxel, and the readout of each feature."""
        (train_x, test_x), rng = self._pair(design), generator(self.settings.seed, "splits")
        predicted = encoding.predict(train_x, self.fitted, test_x, self.settings, rng, self.device)
        ends = np.cumsum([self.truth.shape[1], *(truth.shape[1] for _, truth in self.spaces)])[:-1]
        responses, *features = np.split(predicted, ends, axis=1)
        read = [removal.read_out(*pair) for pair in zip(features, (truth for _, truth in self.spaces), strict=True)]
        return encoding.correlation(responses, self.truth), read


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
        `cpu` or `cuda`.

    Returns
    -------
    impact : dict of str to (layers,) float64
        Per cent, for each kind and for `all`.
    """
    found = LowLevelFit(low_level, responses, train, test, settings or Encoding(), device).scores(features)
    before = found["alignment"].mean(axis=1)
    return {k: 100 * (before - found[f"removed_{k}"].mean(axis=1)) / before for k in (*low_level, TOGETHER)}


def _in_a_group(labels: np.ndarray) -> np.ndarray:
    return np.isin(labels, [name for names in GROUPS.values() for name in names])


def _spread(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    whole = np.full(len(inside), np.nan)
    whole[inside] = values
    return whole


def _rare_share(counts: ByStory, stories: Sequence[str]) -> float:
    """Share of the diphones or triphones of stories that are none of the vocabulary; their last column."""
    summed = np.sum([counts[story].sum(axis=0) for story in stories], axis=0)
    return float(summed[-1] / max(summed.sum(), 1))
