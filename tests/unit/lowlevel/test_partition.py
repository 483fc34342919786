import numpy as np
import pytest
from braintuning.alignment.correlation import zscore
from braintuning.alignment.encoding import chunked_splits
from braintuning.cortex.regions import GROUPS
from braintuning.lowlevel.impact import LowLevelFit
from braintuning.lowlevel.partition import banded_predict, explained, mixtures
from braintuning.study.settings import Encoding

SETTINGS = Encoding(validation_chunk_rows=20, n_alphas=11)
TRAIN, TEST, VOXELS = 600, 3000, 4


@pytest.fixture(scope="module")
def planted():
    """Two spaces with half of their directions in common, and voxels that follow one, the other, both or neither."""
    rng = np.random.default_rng(0)
    common, first, second = rng.standard_normal((3, TRAIN + TEST, 4))
    sound, model = np.hstack([common, first]).astype(np.float32), np.hstack([common, second]).astype(np.float32)
    sources = np.stack([x.sum(axis=1) / 2 for x in (first, second, common)], axis=1)
    noise = rng.standard_normal((TRAIN + TEST, VOXELS))
    responses = np.hstack([sources, np.zeros((TRAIN + TEST, 1))]) + 0.7 * noise
    return sound, model, responses.astype(np.float32)


def split(x):
    return x[:TRAIN], x[TRAIN:]


def by_story(x):
    return dict(zip(("train", "test"), split(x), strict=True))


@pytest.mark.parametrize("idle_columns", [(), (1500,), (40, 1500)])
def test_planted_parts_come_back(planted, idle_columns):
    """Also beside low-level features of many columns that drive nothing, which would drown the others in one space."""
    sound, model, responses = planted
    rng = np.random.default_rng(2)
    idle = [rng.standard_normal((TRAIN + TEST, columns)).astype(np.float32) for columns in idle_columns]
    low_level = {str(number): by_story(space) for number, space in enumerate([sound, *idle])}
    settings = SETTINGS.model_copy(update={"delays": (0,), "test_skip_rows": 0})
    fit = LowLevelFit(low_level, by_story(zscore(responses)), ["train"], ["test"], settings)
    labels = np.full(VOXELS, GROUPS["late_language"][0])
    parts = fit.parts(by_story(model), fit.alone(labels), labels)
    share = 1 / (1 + 0.7**2)
    np.testing.assert_allclose(parts["unique_lowlevel"], [share, 0, 0, 0], atol=0.04)
    np.testing.assert_allclose(parts["unique_model"], [0, share, 0, 0], atol=0.04)
    np.testing.assert_allclose(parts["shared"], [0, 0, share, 0], atol=0.04)


def test_one_space_is_kernel_ridge_in_closed_form(planted):
    sound, _, responses = planted
    x, y, x_test = sound[:TRAIN].astype(np.float64), responses[:TRAIN].astype(np.float64), sound[TRAIN:]
    found = banded_predict([split(sound)], responses[:TRAIN], SETTINGS, np.random.default_rng(1))
    scale = (x**2).sum() / len(x)
    candidates = [
        x_test @ np.linalg.solve(x.T @ x + alpha * scale * np.eye(x.shape[1]), x.T @ y)
        for alpha in np.logspace(-2, 5, 11)
    ]
    for voxel in range(VOXELS):
        nearest = min(np.abs(c[:, voxel] - found[:, voxel]).max() for c in candidates)
        assert nearest < 5e-3


def test_predictions_are_those_of_himalayas_own_weights(planted):
    from himalaya.backend import set_backend
    from himalaya.kernel_ridge import solve_multiple_kernel_ridge_random_search

    sound, model, responses = planted
    (x, x_test), (z, z_test), y = split(sound), split(model), responses[:TRAIN]
    found = banded_predict([(x, x_test), (z, z_test)], y, SETTINGS, np.random.default_rng(1))
    scales = [(part**2).sum() / TRAIN for part in (x, z)]
    kernels, test_kernels = (
        np.stack([rows @ part.T / scale for rows, part, scale in zip(new, (x, z), scales, strict=True)])
        for new in ((x, z), (x_test, z_test))
    )
    splits = chunked_splits(
        TRAIN, SETTINGS.validation_splits, 20, SETTINGS.validation_fraction, np.random.default_rng(1)
    )
    backend = set_backend("torch")
    deltas, weights, _ = solve_multiple_kernel_ridge_random_search(
        backend.asarray(kernels), backend.asarray(y), n_iter=backend.asarray(mixtures(2, None), dtype="float32"),
        alphas=backend.asarray(np.logspace(-2, 5, 11), dtype="float32"), cv=splits, local_alpha=True,
        return_weights="dual", progress_bar=False,
    )[:3]  # fmt: skip
    expected = np.einsum("kv,kij,jv->iv", np.exp(deltas.numpy()), test_kernels, weights.numpy())
    np.testing.assert_allclose(found, expected, atol=5e-3)


def test_explained_is_one_for_a_perfect_prediction_and_below_nought_for_a_wrong_one():
    measured = np.random.default_rng(0).standard_normal((50, 2))
    assert explained(measured + 3.0, measured) == pytest.approx(1)
    assert (explained(-measured, measured) < -2.9).all()


def test_a_space_that_is_nothing_changes_nothing(planted):
    sound, _, responses = planted
    nothing = np.zeros((TRAIN + TEST, 1), np.float32)
    alone, beside = (
        banded_predict([split(x) for x in spaces], responses[:TRAIN], SETTINGS, np.random.default_rng(1))
        for spaces in ([sound], [sound, nothing])
    )
    assert np.isfinite(beside).all()
    assert np.corrcoef(alone[:, 0], beside[:, 0])[0, 1] > 0.999


@pytest.mark.parametrize("n_spaces", [1, 2, 3, 5])
def test_mixtures_hold_each_space_alone_and_are_shares(n_spaces):
    found = mixtures(n_spaces, np.random.default_rng(0))
    assert found.shape[1] == n_spaces and (found >= 0).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert all((found == row).all(axis=1).any() for row in np.eye(n_spaces))
    np.testing.assert_array_equal(found, mixtures(n_spaces, np.random.default_rng(0)))
