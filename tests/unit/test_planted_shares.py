"""What the simulation planted in each region comes back as R and as a partition of variance, in three listeners.

The model is one that holds all that the listeners respond to, sound and meaning, and nothing else. What it explains
beyond sound is then meaning, and its share is that of meaning in the region, but for two things: sound that four
delays of a TR and ridge regression miss counts for the model, and meaning that goes along with sound counts for sound.
"""

import coarse_cortex
import numpy as np
import pandas as pd
import pytest
import tiny
from braintuning import low_level_stage, simulate, simulated_dataset, timing
from braintuning.datasets.lebel import LebelDataset
from braintuning.low_level_stage import low_level_impact
from braintuning.results import save_arrays
from braintuning.settings import Simulation
from braintuning.simulate import SHARES, SPACES
from braintuning.study import Run, load_study

TR, LEAD = 2.0045, 4
LISTENERS = ("SIM01", "SIM02", "SIM03")
TRAIN, TEST = ("lighthouse", "thewell", "nightbus"), "theferry"
SETTINGS = Simulation(seed=7, repeats=6, meaning_components=3)
RUN = Run("all-knowing", "pretrained")
TOLERANCE = 0.2
"""On a region's mean share over three listeners; the coarse cortex has one to three voxels of A1 a listener."""


def content(root):
    return {
        "name": "planted",
        "title": "Planted shares",
        "dataset": {"kind": "lebel", "root": str(root), "tr": TR},
        "participants": list(LISTENERS),
        "stories": {"train": list(TRAIN), "test": [TEST]},
        "backbones": {"all-knowing": {"name": "no weights"}},
        "conditions": ["pretrained"],
        "encoding": {"test_skip_rows": 0, "log10_alpha_min": 0.0, "log10_alpha_max": 3.0},
        "low_level": {"features": ["power_spectrum", "articulation"]},
        "figures": {"notebooks": []},
    }


def write_features(path, dataset):
    """One layer: everything that listeners respond to, before the blood does."""
    features = {}
    for story in (*TRAIN, TEST):
        spaces = simulate.feature_spaces(
            dataset.audio(story), dataset.words(story), dataset.phones(story), SETTINGS.meaning_components
        )
        track = np.hstack([spaces[space] for space in SPACES])
        times = dataset.tr_times(story)
        times = np.concatenate([times[0] - TR * np.arange(LEAD, 0, -1), times])
        steps = (np.arange(len(track)) + 0.5) * simulate.STEP
        features[story] = timing.lanczos_resample(track, steps, times, TR)[None]
    save_arrays(path, features, {"recipe": {"stage": "planted"}, "weights": "none"})
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    with coarse_cortex.simulated_on_it(), pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINTUNING_RESULTS", str(folder / "results"))
        simulated_dataset.write_dataset(folder / "ds", LISTENERS, (*TRAIN, TEST), (TEST,), TR, SETTINGS)
        study = load_study(tiny.write_yaml(folder / "planted.yaml", content(folder / "ds")))
        features = write_features(folder / "features.h5", LebelDataset(folder / "ds", TR))
        patch.setattr(low_level_stage, "extract_features", lambda *_: features)
        paths = [low_level_impact(study, listener, RUN, report=lambda _: None) for listener in LISTENERS]
        tables = [pd.read_csv(path.with_suffix(".csv")) for path in paths]
    table = pd.concat(tables)
    return table[table["feature"] == "all"].set_index(["participant", "roi"])


def semantic_share(table):
    parts = table[["unique_lowlevel", "unique_model", "shared"]]
    return parts["unique_model"] / parts.sum(axis=1)


@pytest.mark.parametrize("region", list(SHARES))
def test_the_share_of_meaning_in_a_region_comes_back(made, region):
    found = semantic_share(made.xs(region, level="roi"))
    assert len(found) == len(LISTENERS)
    assert found.mean() == pytest.approx(SHARES[region][SPACES.index("meaning")], abs=TOLERANCE)


def test_primary_auditory_cortex_is_mostly_low_level_and_late_language_mostly_not_in_every_listener(made):
    for listener in LISTENERS:
        one = made.loc[listener]
        share = semantic_share(one)
        assert share["primary_auditory"] < 0.5 < share["late_language"]
        assert one.loc["primary_auditory", "r_percent"] > 20 > one.loc["late_language", "r_percent"]
        assert abs(one.loc["late_language", "unique_lowlevel"]) < 0.05
