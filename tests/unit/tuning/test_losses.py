import numpy as np
import pytest
import torch
from braintuning.study.settings import Tuning
from braintuning.tuning.losses import LOSSES
from scipy.optimize import approx_fprime
from scipy.special import huber
from scipy.stats import pearsonr


def drawn(seed=0, shape=(12, 7)):
    rng = np.random.default_rng(seed)
    return rng.standard_normal(shape).astype(np.float32), rng.standard_normal(shape).astype(np.float32)


def loss(name, predicted, measured):
    return LOSSES[name](torch.from_numpy(predicted), torch.from_numpy(measured)).item()


def test_l2_is_the_mean_squared_error():
    predicted, measured = drawn()
    assert loss("l2", predicted, measured) == pytest.approx(((predicted - measured) ** 2).mean(), rel=1e-5)


def test_a_study_may_name_every_loss_and_no_other():
    assert {Tuning(loss=name).loss for name in LOSSES} == set(LOSSES)
    with pytest.raises(ValueError, match="spatial correlation"):
        Tuning(loss="correlation")


def test_spatial_correlation_is_pearsons_over_voxels_clip_by_clip():
    predicted, measured = drawn()
    r = [pearsonr(a, b).statistic for a, b in zip(predicted, measured, strict=True)]
    assert loss("spatial correlation", predicted, measured) == pytest.approx(1 - np.mean(r), rel=1e-5)
    scales, levels = np.linspace(0.5, 9, 12)[:, None], np.linspace(-4, 4, 12)[:, None]
    moved = (scales * measured + levels).astype(np.float32)
    assert loss("spatial correlation", moved, measured) == pytest.approx(0, abs=1e-5)
    constant = np.full_like(measured, 3.0)
    assert loss("spatial correlation", constant, measured) == pytest.approx(1, abs=1e-5)


def test_cosine_is_between_patterns_clip_by_clip_and_large_errors_count_in_a_line():
    predicted, measured = drawn()
    predicted[0] += 5
    cosines = [(a @ b) / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(predicted, measured, strict=True)]
    errors = predicted - measured
    assert (np.abs(errors) > 0.6).any() and (np.abs(errors) < 0.6).any()
    expected = 1 - np.mean(cosines) + huber(0.6, errors).mean()
    assert loss("cosine + huber", predicted, measured) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_finite_differences(name):
    predicted, measured = (torch.from_numpy(a).double() for a in drawn(shape=(4, 5)))

    def at(values):
        return LOSSES[name](torch.from_numpy(values).reshape(4, 5), measured).item()

    given = predicted.clone().requires_grad_()
    LOSSES[name](given, measured).backward()
    expected = approx_fprime(predicted.numpy().ravel(), at, 1e-6).reshape(4, 5)
    np.testing.assert_allclose(given.grad.numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_is_the_mean_of_that_of_each_clip(name):
    predicted, measured = drawn()
    each = [loss(name, predicted[i : i + 1], measured[i : i + 1]) for i in range(12)]
    assert loss(name, predicted, measured) == pytest.approx(np.mean(each), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_prediction_of_zeros_has_a_finite_gradient_that_lowers_the_loss(name):
    measured = torch.from_numpy(drawn()[1])
    predicted = torch.zeros_like(measured, requires_grad=True)
    before = LOSSES[name](predicted, measured)
    before.backward()
    assert torch.isfinite(predicted.grad).all() and predicted.grad.abs().sum() > 0
    assert LOSSES[name]((predicted - 1e-4 * predicted.grad).detach(), measured) < before
