"""Ridge heads, and pooling of frames."""

import numpy as np
import pytest
import torch
from braintuning.tuning.heads import LARGEST, N_PENALTIES, SMALLEST, Pooling, ridge_head
from nilearn.glm.first_level import spm_hrf
from sklearn.linear_model import Ridge


def material(seed=0, n_clips=40, dim=7, n_targets=3):
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((dim, n_targets))
    parts = []
    for n in (n_clips, 25):
        x = rng.standard_normal((n, dim)) * np.linspace(3, 0.1, dim) + 2
        parts += [x, x @ weights * [1, 0.2, 0] + rng.standard_normal((n, n_targets)) + [0, 5, -1]]
    return [torch.tensor(part, dtype=torch.float32) for part in parts]


@pytest.mark.parametrize("n_clips", [40, 5])
def test_the_head_is_the_best_of_all_ridge_regressions_on_the_validation_clips(n_clips):
    x, y, held_out, truth = material(n_clips=n_clips)
    found = ridge_head(x, y, held_out, truth)
    largest = np.linalg.norm((x - x.mean(dim=0)).numpy(), ord=2)
    penalties = largest * np.logspace(np.log10(SMALLEST), np.log10(LARGEST), N_PENALTIES)
    losses = []
    for target in range(y.shape[1]):
        fits = [Ridge(alpha=penalty**2).fit(x, y[:, target]) for penalty in penalties]
        errors = [np.mean((fit.predict(held_out) - truth[:, target].numpy()) ** 2) for fit in fits]
        best = fits[int(np.argmin(errors))]
        losses.append(min(errors))
        np.testing.assert_allclose(found.weight[target], best.coef_, atol=1e-4)
        assert float(found.bias[target]) == pytest.approx(best.intercept_, abs=1e-4)
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-4)


def test_of_targets_that_cannot_be_predicted_the_mean_is_left():
    x, _, held_out, _ = material()
    noise = torch.Generator().manual_seed(5)
    y, truth = torch.randn(40, 2, generator=noise), torch.randn(25, 2, generator=noise)
    mean = float((truth - y.mean(dim=0)).square().mean())
    assert ridge_head(x, y, held_out, truth).loss <= mean * 1.001


def pooled_by_hand(kind, states, ends, seconds, frame, kernel=None):
    centres = (np.arange(states.shape[1]) + 0.5) * frame
    rows = []
    for of_clip, of_ends in zip(states.numpy(), ends, strict=True):
        for end in of_ends[np.isfinite(of_ends)]:
            inside = (centres <= end) & (centres > end - seconds)
            lags = end - centres[inside]
            weights = np.ones(len(lags)) if kind == "mean" else np.interp(lags, np.arange(len(kernel)), kernel)
            rows.append((weights[:, None] * of_clip[inside]).sum(axis=0) / inside.sum())
    return np.array(rows)


@pytest.mark.parametrize("kind", ["mean", "haemodynamic", "learned"])
def test_each_volume_is_pooled_over_its_own_clip(kind):
    states, ends = torch.randn(2, 40, 3), np.array([[4.0, 6.0, 8.0], [5.0, 8.0, np.nan]])
    pooling = Pooling(kind, 4.0, 0.2)
    if kind == "learned":
        torch.nn.init.normal_(pooling.kernel)
    found = pooling(states, torch.tensor(ends, dtype=torch.float32)).detach()[np.isfinite(ends)]
    expected = pooled_by_hand(kind, states, ends, 4.0, 0.2, pooling.kernel.detach().numpy())
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_clip_of_its_own_is_averaged_whole():
    states = torch.randn(3, 50, 2)
    np.testing.assert_allclose(Pooling("mean", 10.0, 0.2)(states, None), states.mean(dim=1))
    np.testing.assert_allclose(Pooling("learned", 10.0, 0.2)(states, None).detach(), states.mean(dim=1), atol=1e-6)


def test_the_haemodynamic_kernel_is_the_canonical_response():
    kernel = Pooling("haemodynamic", 10.0, 0.02).kernel.numpy()
    expected = spm_hrf(1.0, oversampling=10, time_length=32)[::10][:11]
    assert np.corrcoef(kernel, expected)[0, 1] > 0.999
    assert int(kernel.argmax()) == 5


def test_a_learned_kernel_has_a_gradient():
    pooling = Pooling("learned", 4.0, 0.2)
    pooling(torch.randn(2, 30, 3), torch.tensor([[4.0, 6.0], [6.0, float("nan")]])).square().sum().backward()
    assert pooling.kernel.grad.abs().min() > 0
