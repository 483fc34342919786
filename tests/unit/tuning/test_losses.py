import numpy as np
import pytest
import torch
from braintuning.tuning.losses import LOSSES


def drawn(seed=0, shape=(12, 7)):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape).astype(np.float32), rng.standard_normal(shape).astype(np.float32)


def loss(name, predicted, measured):
    return LOSSES[name](torch.from_numpy(predicted), torch.from_numpy(measured)).item()


def test_l2_is_the_mean_squared_error():
    predicted, measured = drawn()
    assert loss("l2", predicted, measured) == pytest.approx(((predicted - measured) ** 2).mean(), rel=1e-5)


def test_correlation_is_pearsons_over_clips_voxel_by_voxel():
    predicted, measured = drawn()
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, measured.T, strict=True)]
    assert loss("correlation", predicted, measured) == pytest.approx(1 - np.mean(r), rel=1e-5)
    assert loss("correlation", 3 * measured + 2, measured) == pytest.approx(0, abs=1e-5)


def test_cosine_is_between_patterns_clip_by_clip():
    predicted, measured = drawn()
    cosines = [(a @ b) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(predicted, measured, strict=True)]
    expected = 1 - np.mean(cosines) + ((predicted - measured) ** 2).mean()
    assert loss("cosine + l2", predicted, measured) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_prediction_of_zeros_has_a_finite_gradient_that_lowers_the_loss(name):
    measured = torch.from_numpy(drawn()[1])
    predicted = torch.zeros_like(measured, requires_grad=True)
    before = LOSSES[name](predicted, measured)
    before.backward()
    assert torch.isfinite(predicted.grad).all() and predicted.grad.abs().sum() > 0
    assert LOSSES[name]((predicted - 1e-4 * predicted.grad).detach(), measured) < before
