import numpy as np
import pytest
import torch
from braintuning.alignment import ridge
from braintuning.alignment.encoding import chunked_splits
from braintuning.alignment.ridge import ridge_predict
from tiny import closed_form, planted


@pytest.fixture(scope="module")
def oracles(shared):
    with np.load(shared / "data" / "oracles" / "reference_numerics.npz") as file:
        return dict(file)


@pytest.mark.parametrize(("rows", "features"), [(30, 50), (50, 30), (40, 40)])
@pytest.mark.parametrize("alpha", [0.5, 5.0, 100.0])
def test_ridge_is_the_closed_form_on_both_branches(rows, features, alpha):
    x, y = planted(rows, features)
    splits = chunked_splits(rows, 2, 5, 0.25, np.random.default_rng(0))
    test_x = np.random.default_rng(1).standard_normal((12, features)).astype(np.float32)
    predicted, best = ridge_predict(x, y, test_x, np.array([alpha]), splits)
    expected = test_x @ closed_form(x.astype(float), y.astype(float), alpha)
    np.testing.assert_allclose(predicted, expected, atol=2e-3)
    np.testing.assert_allclose(best, alpha, rtol=1e-6)


@pytest.mark.parametrize(("rows", "features"), [(60, 90), (113, 30)])
def test_ridge_penalty_of_each_voxel_is_the_brute_force_choice(rows, features):
    x, y = planted(rows, features)
    alphas = np.logspace(-1, 2, 7)
    splits = chunked_splits(rows, 3, 10, 0.3, np.random.default_rng(2))
    assert len({len(validation) for _, validation in splits}) > 1 or rows % 10 == 0
    errors = np.zeros((7, y.shape[1]))
    for row, alpha in enumerate(alphas):
        for train, validation in splits:
            fit = x[validation] @ closed_form(x[train].astype(float), y[train], alpha)
            errors[row] += ((y[validation] - fit) ** 2).mean(axis=0)
    expected = alphas[errors.argmin(axis=0)]
    predicted, best = ridge_predict(x, y, x, alphas, splits)
    np.testing.assert_allclose(best, expected, rtol=1e-5)
    assert len(set(expected)) >= 3
    for voxel, alpha in enumerate(expected):
        np.testing.assert_allclose(predicted[:, voxel], x @ closed_form(x.astype(float), y[:, voxel], alpha), atol=5e-3)


def test_ridge_weights_agree_with_the_reference(oracles):
    x, y = oracles["ridge_X"], oracles["ridge_Y"]
    rows = np.arange(len(x))
    splits = [(np.setdiff1d(rows, validation), validation) for validation in oracles["ridge_validation_rows"]]
    for voxel, alpha in enumerate(oracles["ridge_best_alpha"]):
        weights, _ = ridge_predict(x, y[:, [voxel]], np.eye(40), np.array([alpha]), splits)
        np.testing.assert_allclose(weights[:, 0], oracles["ridge_weights"][:, voxel], atol=1e-5)


@pytest.mark.parametrize(("rows", "features"), [(80, 120), (160, 40)])
def test_ridge_agrees_with_himalaya(rows, features):
    from himalaya.backend import set_backend
    from himalaya.ridge import solve_ridge_cv_svd

    x, y = planted(rows, features, voxels=40)
    alphas = np.logspace(-1, 3, 9)
    splits = chunked_splits(rows, 3, 10, 0.25, np.random.default_rng(0))
    backend = set_backend("torch")
    options = {"alphas": backend.asarray(alphas**2, dtype="float32"), "cv": splits, "local_alpha": True, "warn": False}
    best, weights, _ = solve_ridge_cv_svd(backend.asarray(x), backend.asarray(y), **options)
    predicted, found = ridge_predict(x, y, x[:20], alphas, splits)
    np.testing.assert_allclose(found, np.sqrt(backend.to_numpy(best)), rtol=1e-5)
    np.testing.assert_allclose(predicted, x[:20] @ backend.to_numpy(weights), atol=2e-3)


@pytest.mark.parametrize("at_once", [1, 4, 9, 100])
def test_groups_of_voxels_change_nothing(at_once, monkeypatch):
    x, y = planted(60, 30)
    splits = chunked_splits(60, 3, 10, 0.3, np.random.default_rng(2))
    whole, best = ridge_predict(x, y, x, np.logspace(-1, 2, 7), splits)
    monkeypatch.setattr(ridge, "VOXELS_AT_ONCE", at_once)
    grouped, best_of_grouped = ridge_predict(x, y, x, np.logspace(-1, 2, 7), splits)
    np.testing.assert_array_equal(best_of_grouped, best)
    np.testing.assert_allclose(grouped, whole, atol=1e-5)


def test_the_largest_array_grows_with_the_group_and_not_with_the_voxels(monkeypatch):
    x, y = planted(60, 30, voxels=50)
    seen = []
    for made, method in ((ridge.Errors, "__call__"), (ridge.Factors, "predict")):
        plain = getattr(made, method)
        monkeypatch.setattr(made, method, lambda *args, plain=plain: seen.append(args[1].shape[1]) or plain(*args))
    monkeypatch.setattr(ridge, "VOXELS_AT_ONCE", 8)
    ridge_predict(x, y, x, np.array([1.0]), chunked_splits(60, 2, 10, 0.3, np.random.default_rng(2)))
    assert max(seen) == 8 and seen.count(2) == 3  # 50 = 6 x 8 + 2; two splits and the prediction


@pytest.fixture
def small_gpu(monkeypatch):
    """A GPU that holds the design and `room` voxels at a time, played by the CPU; what was asked of it."""
    asked, decomposed, group = [], ridge._decomposed, ridge._group

    def made(room, fits=True):
        def on_gpu(x, other, splits, alphas, device):
            asked.append(("design", device))
            if device == "cuda" and not fits:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return decomposed(x, other, splits, alphas, "cpu")

        def group_on_gpu(whole, parts, y, alphas, device):
            asked.append((y.shape[1], device))
            if device == "cuda" and y.shape[1] > room:
                raise torch.OutOfMemoryError("CUDA out of memory")
            return group(whole, parts, y, alphas, "cpu")

        monkeypatch.setattr(ridge, "SMALL", 0)
        monkeypatch.setattr(ridge, "_decomposed", on_gpu)
        monkeypatch.setattr(ridge, "_group", group_on_gpu)
        monkeypatch.setattr(ridge, "_fitting", lambda *_: 600)
        return asked

    return made


@pytest.mark.parametrize(
    ("room", "fits", "expected"),
    [
        (1000, True, [("design", "cuda"), (600, "cuda")]),
        (300, True, [("design", "cuda"), (600, "cuda"), (300, "cuda"), (300, "cuda")]),
        (256, True, [("design", "cuda"), (600, "cuda"), (300, "cuda"), (256, "cuda"), (256, "cuda"), (88, "cuda")]),
        (
            100,
            True,
            [("design", "cuda"), (600, "cuda"), (300, "cuda"), (256, "cuda"), ("design", "cpu"), (600, "cpu")],
        ),
        (1000, False, [("design", "cuda"), ("design", "cpu"), (600, "cpu")]),
    ],
)
def test_a_group_that_does_not_fit_is_halved_and_the_cpu_comes_last(room, fits, expected, small_gpu):
    x, y = planted(60, 30, voxels=600)
    splits = chunked_splits(60, 3, 10, 0.3, np.random.default_rng(2))
    plain, best = ridge_predict(x, y, x, np.array([1.0, 10.0]), splits)
    asked = small_gpu(room, fits)
    found, found_best = ridge_predict(x, y, x, np.array([1.0, 10.0]), splits, "cuda")
    np.testing.assert_array_equal(found_best, best)
    np.testing.assert_allclose(found, plain, atol=1e-5)
    assert asked == expected


def test_a_small_design_is_decomposed_once_for_all_who_share_it(monkeypatch):
    x, y = planted(64, 30)
    splits, alphas = chunked_splits(64, 3, 10, 0.3, np.random.default_rng(2)), np.logspace(-1, 2, 7)
    made, decomposed = [], ridge._decomposed
    monkeypatch.setattr(ridge, "_decomposed", lambda *given: made.append(given) or decomposed(*given))
    first, _ = ridge_predict(x, y[:, :5], x[:9], alphas, splits)
    second, _ = ridge_predict(x.copy(), y[:, 5:9], x[:9], alphas, splits)
    assert len(made) == 1
    ridge_predict(x, y, x[:10], alphas, splits)
    ridge_predict(x, y, x[:9], alphas[1:], splits)
    ridge_predict(x, y, x[:9], alphas, splits[:2])
    ridge_predict(np.nextafter(x, 9), y, x[:9], alphas, splits)
    assert len(made) == 5
    monkeypatch.setattr(ridge, "SMALL", 0)
    again, _ = ridge_predict(x, y[:, :9], x[:9], alphas, splits)
    assert len(made) == 6
    np.testing.assert_allclose(np.hstack([first, second]), again, atol=1e-6)


def test_too_little_memory_on_a_cpu_is_an_error(monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(ridge, "_group", full)
    x, y = planted(60, 30)
    with pytest.raises(torch.OutOfMemoryError):
        ridge_predict(x, y, x, np.array([1.0]), chunked_splits(60, 2, 10, 0.3, np.random.default_rng(2)))


def test_responses_may_be_a_tensor(monkeypatch):
    monkeypatch.setattr(ridge, "VOXELS_AT_ONCE", 4)
    x, y = planted(60, 30)
    splits = chunked_splits(60, 3, 10, 0.3, np.random.default_rng(2))
    expected, best = ridge_predict(x, y, x, np.logspace(-1, 2, 7), splits)
    found, found_best = ridge_predict(x, torch.from_numpy(y), x, np.logspace(-1, 2, 7), splits)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found_best, best)


def test_the_smallest_penalties_are_exact_beside_the_largest_features():
    x, y = planted(90, 300)
    x = np.hstack([x, 300 * x[:, :3]]).astype(np.float32)
    alphas = np.logspace(-1, 2, 13)
    splits = chunked_splits(90, 3, 10, 0.3, np.random.default_rng(2))
    errors = np.zeros((13, y.shape[1]))
    dual = {}
    for train, validation in splits:
        a, b = x[train].astype(float), x[validation].astype(float)
        for row, alpha in enumerate(alphas):
            fit = b @ a.T @ np.linalg.solve(a @ a.T + alpha**2 * np.eye(len(a)), y[train])
            errors[row] += ((y[validation] - fit) ** 2).mean(axis=0)
    expected = alphas[errors.argmin(axis=0)]
    z = x.astype(float)
    for alpha in set(expected):
        dual[alpha] = z @ z.T @ np.linalg.solve(z @ z.T + alpha**2 * np.eye(90), y)
    predicted, best = ridge_predict(x, y, x, alphas, splits)
    np.testing.assert_allclose(best, expected)
    for voxel, alpha in enumerate(expected):
        np.testing.assert_allclose(predicted[:, voxel], dual[alpha][:, voxel], atol=5e-3)


def _designs(rng):
    plain = rng.standard_normal((160, 120))
    orthogonal = np.linalg.qr(rng.standard_normal((160, 60)))[0] * 8
    return {
        "fewer rows": rng.standard_normal((160, 300)),
        "fewer features": plain,
        "repeated columns": np.hstack([plain[:, :30]] * 3),
        "equal eigenvalues": orthogonal,
        "nearly equal eigenvalues": orthogonal * (1 + 1e-3 * rng.standard_normal(60)),
        "steep spectrum": plain * np.logspace(2, -4, 120),
        "columns that vary in a few rows": plain * (rng.random((160, 120)) < 0.02),
    }


@pytest.mark.parametrize("name", list(_designs(np.random.default_rng(0))))
@pytest.mark.parametrize("alphas", [np.logspace(1, 4, 15), np.logspace(-1, 2, 7)])
def test_errors_without_predictions_are_those_of_predictions(name, alphas):
    rng = np.random.default_rng(3)
    x = _designs(rng)[name].astype(np.float32)
    y = (x[:, :5] @ rng.standard_normal((5, 8)) + rng.standard_normal((160, 8))).astype(np.float32)
    splits = chunked_splits(160, 3, 10, 0.3, rng)
    _, parts = ridge._decomposed(x, x[:3], splits, alphas, "cpu")
    for (train, validation), part in zip(splits, parts, strict=True):
        a, b = x[train].astype(float), x[validation].astype(float)
        dual = (b @ a.T @ np.linalg.solve(a @ a.T + alpha**2 * np.eye(len(a)), y[train]) for alpha in alphas)
        expected = [((y[validation] - fit) ** 2).sum(axis=0) for fit in dual]
        power = (y[validation] ** 2).sum(axis=0)
        np.testing.assert_allclose(part(torch.from_numpy(y)).numpy() / power, expected / power, rtol=2e-5, atol=2e-6)
