"""Encoding models of layers with and without low-level features, and how much of these they still decode."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np

from braintuning import timing
from braintuning.alignment import encoding
from braintuning.cortex.regions import GROUPS
from braintuning.errors import InputError
from braintuning.lowlevel.features import TOGETHER, name_of
from braintuning.lowlevel.partition import Pair, banded_predict, explained
from braintuning.lowlevel.removal import EVERY_LAG, REMOVALS, TR_BY_TR, read_out, remove
from braintuning.results import generator
from braintuning.study.settings import Encoding, Removal

LAYERS_AT_ONCE = 5
ByStory = Mapping[str, np.ndarray]


class LowLevelFit:
    """A participant's responses and low-level features of the same stories, ready for a model's features.

    Low-level features are z-scored over all their TRs, the leading ones too: of a phone just before the first TR the
    filter leaves a trace in the others, beside which the phone itself would be enormous.

    Arguments are those of `low_level_impact`.
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
        trs = {kind: {s: encoding.zscore(of_kind[s]) for s in self.stories} for kind, of_kind in low_level.items()}
        delayed = {kind: self._delayed(of_kind) for kind, of_kind in trs.items()}
        self.low_level = {EVERY_LAG: delayed, TR_BY_TR: trs}
        self.spaces = [self._pair(design) for design in delayed.values()]
        self.truth = encoding.scored_trs(responses, test, settings)
        self.fitted = np.hstack([encoding.standard_responses(responses, train), *(x for x, _ in self.spaces)])
        self.responses = self.fitted[:, : self.truth.shape[1]]

    def scores(self, features: ByStory, removals: Sequence[Removal] = REMOVALS) -> dict[str, np.ndarray]:
        """Correlations with every low-level feature in place, and without each and all, removed in one or both ways.

        Parameters
        ----------
        features : mapping of story to (layers, lead + TRs, dim) float32

        Returns
        -------
        scores : dict
            `alignment` and, for each feature and way, `removed_<feature>_<way>` (`features.name_of`), (layers, voxels):
            Pearson r of predicted with measured responses; `readout` and `readout_removed_<feature>_<way>`, (layers,
            features, 2): r of each feature as the same regression predicts it, and chance, see `removal.read_out`.
        """
        scores, n_layers = defaultdict(list), len(features[self.train[0]])
        for layers in np.split(np.arange(n_layers), range(LAYERS_AT_ONCE, n_layers, LAYERS_AT_ONCE)):
            trs = [self._trs({story: features[story][layer] for story in self.stories}) for layer in layers]
            designs = [self._delayed(of_layer) for of_layer in trs]
            for way, feature in (None, None), *product(removals, (*self.low_level[EVERY_LAG], TOGETHER)):
                of_voxels, of_features, left = "alignment", "readout", designs
                if way:
                    of_voxels, of_features = name_of(feature, way), f"readout_{name_of(feature, way)}"
                    left = self._without(trs if way == TR_BY_TR else designs, feature, way)
                for of_layer in left:
                    r, read = self._score(self._delayed(of_layer) if way == TR_BY_TR else of_layer)
                    scores[of_voxels].append(r)
                    scores[of_features].append(read)
        return {name: np.array(of_layers) for name, of_layers in scores.items()}

    def at_lags(self, features: ByStory) -> np.ndarray:
        """What a TR of one layer, (lead + TRs, dim) of each story, tells of low-level features then and earlier.

        Returns
        -------
        r : (features, lags, 2) float64
            `removal.read_out` without chance, for the feature 0, 1, ... TRs before, as far as the delays reach: of the
            layer as it is, and after all features are removed TR by TR.
        """
        lead, layer = max(self.settings.delays), self._trs(features)
        lags, low_level, found = tuple(range(lead + 1)), self.low_level[TR_BY_TR].values(), []
        earlier = [{s: timing.delay(trs[s], lags)[lead:] for s in self.stories} for trs in low_level]
        train_y, truth = (np.hstack(side) for side in zip(*map(self._pair, earlier), strict=True))
        ends = np.cumsum([trs[self.train[0]].shape[1] for trs in low_level for _ in lags])[:-1]
        for trs in (layer, *self._without([layer], TOGETHER, TR_BY_TR)):
            train_x, test_x = self._pair({story: trs[story][lead:] for story in self.stories})
            rng = generator(self.settings.seed, "splits")
            predicted = encoding.predict(train_x, train_y, test_x, self.settings, rng, self.device)
            pairs = zip(np.split(predicted, ends, axis=1), np.split(truth, ends, axis=1), strict=True)
            found.append([read_out(*pair)[0] for pair in pairs])
        return np.reshape(found, (2, len(low_level), len(lags))).transpose(1, 2, 0)

    def alone(self, labels: np.ndarray) -> np.ndarray:
        """Share of variance that low-level features explain alone; (voxels,) float64, NaN outside the region groups."""
        return self._explained(self.spaces, labels)

    def parts(self, features: ByStory, alone: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Unique and shared variance of low-level features and one layer, (lead + TRs, dim) of each story.

        What both explain beyond one is unique to the other (Lescroart, Stansbury & Gallant 2015). Each low-level
        feature is a band of its own, so that one with many columns does not drown the others. `unique_lowlevel`,
        `unique_model` and `shared`, (voxels,) float64, NaN as in `alone`, are shares of variance in the test TRs that
        sum to what both explain; noise can make any of them negative.
        """
        model = self._pair(self._delayed(self._trs(features)))
        high, both = (self._explained(spaces, labels) for spaces in ([model], [*self.spaces, model]))
        return {"unique_lowlevel": both - high, "unique_model": both - alone, "shared": alone + high - both}

    def _explained(self, spaces: Sequence[Pair], labels: np.ndarray) -> np.ndarray:
        """Share of variance in the test TRs that spaces explain together, in splits drawn anew; as `alone`."""
        inside = np.isin(labels, [name for names in GROUPS.values() for name in names])
        seed = int(generator(self.settings.seed, "partition").integers(2**31))
        rng, found = np.random.default_rng(seed), np.full(len(inside), np.nan)
        predicted = banded_predict(spaces, self.responses[:, inside], self.settings, rng, self.device)
        found[inside] = explained(predicted, self.truth[:, inside])
        return found

    def _trs(self, features: ByStory) -> dict[str, np.ndarray]:
        lead = max(self.settings.delays)
        return {story: encoding.zscore(features[story], lead) for story in self.stories}

    def _delayed(self, trs: ByStory) -> dict[str, np.ndarray]:
        lead = max(self.settings.delays)
        return {story: timing.delay(trs[story], self.settings.delays)[lead:] for story in self.stories}

    def _pair(self, design: ByStory) -> Pair:
        """Design of the training stories, and of the test stories without the skipped TRs."""
        train_x = np.concatenate([design[story] for story in self.train])
        return train_x, encoding.scored_trs(design, self.test, self.settings)

    def _without(self, layers: Sequence[ByStory], feature: str, way: Removal) -> list[dict[str, np.ndarray]]:
        """Layers, delayed or not as `way` has it, without a low-level feature, or all of them."""
        kinds, rng = self.low_level[way], generator(self.settings.seed, "splits")
        low_level = list(kinds.values()) if feature == TOGETHER else [kinds[feature]]
        side_by_side = {story: np.hstack([of_layer[story] for of_layer in layers]) for story in self.stories}
        left = remove(side_by_side, low_level, self.train, self.settings, rng, self.device)
        parts = {story: np.split(left[story], len(layers), axis=1) for story in self.stories}
        return [{story: parts[story][place] for story in self.stories} for place in range(len(layers))]

    def _score(self, design: ByStory) -> tuple[np.ndarray, list[tuple[float, float]]]:
        """Correlation of each voxel, and the readout of each feature."""
        (train_x, test_x), rng = self._pair(design), generator(self.settings.seed, "splits")
        predicted = encoding.predict(train_x, self.fitted, test_x, self.settings, rng, self.device)
        ends = np.cumsum([self.truth.shape[1], *(truth.shape[1] for _, truth in self.spaces)])[:-1]
        responses, *features = np.split(predicted, ends, axis=1)
        read = [read_out(*pair) for pair in zip(features, (truth for _, truth in self.spaces), strict=True)]
        return encoding.correlation(responses, self.truth), read


def low_level_impact(
    features: ByStory,
    low_level: Mapping[str, ByStory],
    responses: ByStory,
    train: Sequence[str],
    test: Sequence[str],
    settings: Encoding | None = None,
    device: str = "cpu",
    removal: Removal = "tr by tr",
) -> dict[str, np.ndarray]:
    """Low-level impact R of each layer: the share of its score that is lost when low-level features are regressed out.

    `R = 100 (r - r after removal) / r`, of means over voxels of the correlation (Oota et al. 2024; Moussa et al. 2025).
    Voxels that are constant in the test stories take no part.

    Parameters
    ----------
    features : mapping of story to (layers, lead + TRs, dim) float32
        With as many leading TRs as the longest delay.
    low_level : mapping of kind (such as `power_spectrum`) to mapping of story to (lead + TRs, dim) float32
    responses : mapping of story to (TRs, voxels) float32
    train, test : sequence of str
        Stories that encoding models and the removal are fitted to, and stories that are scored.
    settings : Encoding, optional
        The paper's by default.
    device : str
        `cpu` or `cuda`.
    removal : str
        `tr by tr`, as in the paper's code, or `every lag`, see `removal.REMOVALS`; `InputError` for another one.

    Returns
    -------
    impact : dict of str to (layers,) float64
        Per cent, for each kind alone and for `all` together.
    """
    if removal not in REMOVALS:
        raise InputError(f"low-level impact: removal {removal!r} found, expected one of {', '.join(REMOVALS)}")
    fit = LowLevelFit(low_level, responses, train, test, settings or Encoding(), device)
    found = fit.scores(features, [removal])
    before = np.nanmean(found["alignment"], axis=1)
    after = {kind: np.nanmean(found[name_of(kind, removal)], axis=1) for kind in (*low_level, TOGETHER)}
    return {kind: 100 * (before - of_kind) / before for kind, of_kind in after.items()}
