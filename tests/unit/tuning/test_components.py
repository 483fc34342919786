"""Principal components as targets, and how many of them."""

import numpy as np
import pytest
from braintuning.tuning.components import number_by_validation, principal_components


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


def test_it_is_the_same_every_time():
    made = [principal_components(planted(40, 1), 3).maps for _ in range(2)]
    np.testing.assert_array_equal(*made)
