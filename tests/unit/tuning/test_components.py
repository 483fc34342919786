"""Components as targets, of one participant and of several, and how many of them."""

import numpy as np
import pytest
import scipy.linalg
from braintuning.tuning.components import number_by_validation, principal_components, shared_components


def planted(n_trs, seed, n_shared=4, n_voxels=120, noise=1.0):
    maps = np.linalg.qr(np.random.default_rng(0).standard_normal((n_voxels, n_shared)))[0].T * np.sqrt(n_voxels)
    rng = np.random.default_rng([1, seed])
    sizes = np.linspace(1.5, 0.8, n_shared)
    signal = (rng.standard_normal((n_trs, n_shared)) * sizes) @ maps
    return (signal + noise * rng.standard_normal((n_trs, n_voxels))).astype(np.float32)


def test_components_are_those_of_the_singular_value_decomposition():
    responses = planted(80, 1)
    found = principal_components(responses, 4)
    _, singular, right = np.linalg.svd(responses, full_matrices=False)
    np.testing.assert_allclose(np.abs(found.maps @ right[:4].T), np.eye(4), atol=1e-3)
    scale = np.sqrt(4 / 120)
    np.testing.assert_allclose(np.linalg.norm(found.scores(responses), axis=0), singular[:4] * scale, rtol=1e-3)


def test_an_error_over_components_has_the_unit_of_an_error_over_voxels():
    responses, wrong = planted(50, 1), np.random.default_rng(3).standard_normal((50, 6))
    found = principal_components(responses, 6)
    assert np.mean(wrong**2) == pytest.approx(np.mean(found.to_voxels(wrong.T) ** 2), rel=1e-5)


def test_what_components_stand_for_goes_back_to_voxels():
    responses = planted(60, 1, noise=0.0)
    found = principal_components(responses, 4)
    np.testing.assert_allclose(found.to_voxels(found.scores(responses).T).T, responses, atol=1e-3)


def test_the_number_is_that_of_the_planted_components():
    numbers = [number_by_validation(planted(300, 1), planted(60, 2), np.random.default_rng(seed)) for seed in range(5)]
    assert set(numbers) <= {4, 5}


def test_noise_has_as_few_components_as_can_be():
    noise = [np.random.default_rng(seed).standard_normal((200, 100)) for seed in (1, 2)]
    assert number_by_validation(*noise, np.random.default_rng(0)) <= 3


def of_several(n_trs=200, n_people=3, n_shared=4, noise=1.0):
    """Time courses that all share, and responses of people whose maps have nothing to do with each other's."""
    rng = np.random.default_rng(5)
    shared = np.linalg.qr(rng.standard_normal((n_trs, n_shared)))[0] * np.sqrt(n_trs)
    maps = [rng.standard_normal((n_shared, 60)) for _ in range(n_people)]
    noises = [noise * rng.standard_normal((n_trs, 60)) for _ in range(n_people)]
    return shared, [(shared @ m + own).astype(np.float32) for m, own in zip(maps, noises, strict=True)]


def explained(truth, by):
    """Share of the variance of some time courses that others explain."""
    residual = truth - by @ np.linalg.lstsq(by, truth, rcond=None)[0]
    return 1 - np.square(residual).sum() / np.square(truth).sum()


def test_several_people_s_components_are_the_time_courses_that_they_share():
    shared, responses = of_several()
    found = shared_components(responses, 4)
    for person, of_one in enumerate(responses):
        assert explained(shared, found.scores(of_one, person)) > 0.97
    on_one_map = principal_components(np.concatenate(responses), 4)
    assert explained(shared, on_one_map.scores(responses[0])) < 0.9
    assert found.share == pytest.approx(4 / 5, abs=0.03)


def test_the_maps_of_several_people_are_those_of_the_generalised_eigenvalue_problem():
    _, responses = of_several(n_trs=80)
    found = shared_components(responses, 4)
    kept = [np.linalg.svd(of_one, full_matrices=False)[0][:, : 80 // 3] for of_one in responses]
    _, vectors = scipy.linalg.eigh(sum(of_one @ of_one.T for of_one in kept))
    maps = [vectors[:, -4:].T @ of_one for of_one in responses]
    whole, stacked = np.hstack(maps), np.hstack([np.linalg.pinv(onto) for onto in found.onto])
    np.testing.assert_allclose(stacked @ stacked.T, 3 * np.eye(4), atol=1e-3)
    assert explained(whole.T, stacked.T) == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(found.maps, np.mean([np.linalg.pinv(onto) for onto in found.onto], axis=0), atol=1e-4)


def test_an_error_over_shared_components_has_the_unit_of_an_error_over_everybody_s_voxels():
    found, wrong = shared_components(of_several()[1], 4), np.random.default_rng(3).standard_normal((50, 4))
    over_voxels = np.mean([(wrong @ np.linalg.pinv(onto)) ** 2 for onto in found.onto]) / (4 / 60)
    assert np.mean(wrong**2) == pytest.approx(over_voxels, rel=0.1)


def test_it_is_the_same_every_time():
    made = [principal_components(planted(40, 1), 3).maps for _ in range(2)]
    np.testing.assert_array_equal(*made)
