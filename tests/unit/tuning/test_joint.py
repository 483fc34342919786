from types import SimpleNamespace

import numpy as np
import pytest
import tiny_subject
from braintuning.cortex.pycortex import participant_cortex
from braintuning.cortex.subject import fs_lr_cortex_of_vertices
from braintuning.tuning.joint import common_cortex
from tiny import refused


@pytest.fixture(scope="module")
def cortices(tmp_path_factory):
    folder = tmp_path_factory.mktemp("common")
    fsaverage = tiny_subject.write_fsaverage(folder / "fsaverage")
    made = {}
    for seed, participant in enumerate(("UTS03", "UTS04")):
        tiny_subject.write_subject(folder / "derivative", participant, seed=seed)
        made[participant] = participant_cortex(folder / "derivative", participant, fsaverage, folder / "cache")
    return made


def high(cortices):
    return {participant: np.ones(cortex.n_voxels) for participant, cortex in cortices.items()}


def dataset_of(values):
    """A dataset in which each participant has these voxel values in each row."""
    return SimpleNamespace(responses=lambda participant, story: values[participant])


def test_the_same_region_meets_itself_in_participants_whose_brains_and_voxels_differ(cortices):
    common = common_cortex(cortices, high(cortices), 0.4)
    rng, courses, values = np.random.default_rng(0), {}, {}
    for participant, cortex in cortices.items():
        for region in np.unique(cortex.voxel_labels):
            courses.setdefault(region, rng.standard_normal(30))
        values[participant] = np.stack([courses[region] for region in cortex.voxel_labels], axis=1).astype(np.float32)
    first, second = (common.responses(dataset_of(values), participant, "souls") for participant in cortices)
    assert first.shape == second.shape == (30, len(common.points))
    r = (first * second).mean(axis=0)
    chance = (first * np.roll(second, len(common.points) // 2, axis=1)).mean(axis=0)
    assert np.mean(r > 0.9) > 0.6 and np.median(r) > 0.95
    assert abs(np.median(chance)) < 0.3


def test_points_are_those_where_somebody_can_be_measured_and_everybody_has_a_voxel(cortices):
    everywhere = common_cortex(cortices, high(cortices), 0.4)
    some = high(cortices)
    some["UTS04"][:] = np.nan
    right = cortices["UTS03"].voxel_labels == "A1"
    some["UTS03"] = np.where(right, 0.8, 0.1)
    few = common_cortex(cortices, some, 0.4)
    assert 0 < len(few.points) < len(everywhere.points) < 20_484
    assert set(few.points) <= set(everywhere.points)
    for participant in cortices:
        assert few.from_voxels[participant].getnnz(axis=1).min() > 0
        np.testing.assert_allclose(few.from_voxels[participant].sum(axis=1), 1)


def test_participants_with_the_same_voxels_keep_them():
    cortex = fs_lr_cortex_of_vertices()
    ceilings = {name: np.full(cortex.n_voxels, np.nan) for name in ("SIM01", "SIM02")}
    ceilings["SIM01"][[3, 9]], ceilings["SIM02"][[9, 70]] = 0.5, 0.6
    common = common_cortex({"SIM01": cortex, "SIM02": cortex}, ceilings, 0.4)
    assert common.points.tolist() == [3, 9, 70] and common.from_voxels is None
    both = {"SIM01": cortex, "SIM02": cortex}
    refused(lambda: common_cortex(both, ceilings, 0.9), "SIM01, SIM02", "0.9", "expected")


def test_an_invalid_voxel_has_no_share_in_any_point_and_its_vertices_take_the_others(cortices):
    rng = np.random.default_rng(3)
    invalid = {participant: rng.random(cortex.n_voxels) < 0.1 for participant, cortex in cortices.items()}
    whole, common = common_cortex(cortices, high(cortices), 0.4), common_cortex(cortices, high(cortices), 0.4, invalid)
    assert 0 < len(common.points) < len(whole.points) and set(common.points) <= set(whole.points)
    for participant, cortex in cortices.items():
        values = rng.standard_normal((20, cortex.n_voxels)).astype(np.float32)
        spoilt = np.where(invalid[participant], np.nan, values)
        found = common.responses(dataset_of({participant: spoilt}), participant, "souls")
        shares = whole.from_voxels[participant][np.isin(whole.points, common.points)].toarray()
        shares[:, invalid[participant]] = 0
        expected = values @ (shares / shares.sum(axis=1, keepdims=True)).T
        expected = (expected - expected.mean(axis=0)) / expected.std(axis=0)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_a_voxel_that_is_invalid_in_one_of_those_who_share_voxels_is_no_point():
    cortex = fs_lr_cortex_of_vertices()
    ceilings = {name: np.full(cortex.n_voxels, 0.1) for name in ("SIM01", "SIM02")}
    invalid = {name: np.zeros(cortex.n_voxels, bool) for name in ceilings}
    ceilings["SIM01"][[3, 9]], invalid["SIM02"][9] = 0.5, True
    common = common_cortex(dict.fromkeys(ceilings, cortex), ceilings, 0.4, invalid)
    assert common.points.tolist() == [3]
