"""Batches in pieces and over processes give the gradient, and the model, of whole batches."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import tiny
import torch
from braintuning.tuning import accumulation as batches
from braintuning.tuning.loop import tune
from braintuning.tuning.losses import LOSSES
from braintuning.tuning.model import trainable_state
from tiny import refused

TESTS = Path(__file__).parents[2]


@pytest.mark.parametrize("at_once", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("loss", ["l2", "cosine + l2"])
def test_the_gradient_of_pieces_is_that_of_the_whole_batch(loss, at_once):
    torch.manual_seed(0)
    x, y = torch.randn(7, 5, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    model = torch.nn.Linear(5, 3, dtype=torch.float64)
    whole = LOSSES[loss](model(x), y)
    expected = torch.autograd.grad(whole, list(model.parameters()))
    asked = []

    def loss_of(piece):
        asked.append(piece.stop - piece.start)
        return LOSSES[loss](model(x[piece]), y[piece])

    model.weight.grad = torch.full_like(model.weight, 9.0)  # what an earlier step left is not added to
    found = batches.gradient(list(model.parameters()), loss_of, 7, at_once)
    torch.testing.assert_close(found.double(), whole.detach(), rtol=1e-6, atol=0)
    for parameter, gradient in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    assert sum(asked) == 7 and max(asked) == min(at_once, 7)


def test_what_a_forward_pass_keeps_is_counted_once_and_without_parameters():
    first, second = torch.nn.Linear(4, 6), torch.nn.Linear(6, 2)
    model = torch.nn.Sequential(first, torch.nn.Tanh(), second)
    x = torch.randn(5, 4)
    kept = batches.kept_for_backward(model, lambda: model(x).pow(2).sum())
    assert kept == 4 * (5 * 4 + 5 * 6 + 5 * 2)  # x, what tanh gave, and what is squared; float32


@pytest.mark.parametrize("family", tiny.CONFIGS)
def test_a_limit_of_memory_changes_the_pieces_and_not_the_model(family, monkeypatch):
    settings, train, validation = tiny.tuning_material()
    sizes = []
    plain, history = tune(tiny.encoder(family), train, validation, settings)
    fixed = sum(p.nbytes * (4 if p.requires_grad else 1) for p in plain.parameters())
    first = next(iter(train.values()))
    clip = torch.from_numpy(first.audio[None, 8000:16000])
    for_one = batches.WORKSPACE * batches.kept_for_backward(
        plain, lambda: plain.loss(plain.front(clip), torch.from_numpy(first.targets[:1]))
    )
    whole = batches.gradient

    def noting(parameters, loss_of, n_clips, at_once):
        sizes.append(at_once)
        return whole(parameters, loss_of, n_clips, at_once)

    monkeypatch.setattr("braintuning.tuning.loop.gradient", noting)
    limit = (fixed + 2.5 * for_one) / 2**30
    pieces, in_pieces = tune(tiny.encoder(family), train, validation, settings, max_memory=limit)
    (at_once,) = set(sizes)
    assert 1 < at_once < settings.batch_size
    for before, after in zip(history, in_pieces, strict=True):
        assert after == pytest.approx(before, rel=1e-5)
    for name, parameter in trainable_state(plain).items():
        torch.testing.assert_close(trainable_state(pieces)[name], parameter, atol=1e-4, rtol=1e-3)


def test_what_any_number_of_clips_takes_is_counted_once():
    model, clips = torch.nn.Sequential(torch.nn.Linear(40, 60), torch.nn.Tanh(), torch.nn.Linear(60, 2)), 50
    x = torch.randn(clips, 40)

    def loss_of(piece):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(x[piece]).float().sum()

    weights = 4 * (40 * 60 + 60 + 60 * 2 + 2)
    copies = 2 * 60 * 2  # of the second layer's weight, in bfloat16: the first layer's input asks for no gradient
    a_clip = 2 * (40 + 60)  # what enters the first layer, and tanh's result, which is also what enters the second
    assert batches.kept_for_backward(model, lambda: loss_of(slice(0, 3))) == copies + 3 * a_clip
    for n in (1, 7, 49):
        limit = (4 * weights + copies + batches.WORKSPACE * n * a_clip) / 2**30
        assert batches.clips_within(model, loss_of, limit * (1 + 1e-9), clips) == n
        assert n == 1 or batches.clips_within(model, loss_of, limit * (1 - 1e-9) - 1e-9, clips) == n - 1
    assert batches.clips_within(model, loss_of, 1.0, clips) == clips
    assert batches.clips_within(model, loss_of, 1.0, 1) == 1


def test_a_limit_that_no_clip_fits_into_is_refused():
    settings, train, validation = tiny.tuning_material()
    refused(
        lambda: tune(tiny.encoder(), train, validation, settings, max_memory=1e-5),
        "one clip", "GiB", "1e-05",
    )  # fmt: skip


def test_a_loss_over_the_batch_is_not_divided(monkeypatch):
    monkeypatch.setattr("braintuning.tuning.loop.clips_within", lambda model, loss, limit, most: min(int(limit), most))
    settings, train, validation = tiny.tuning_material()
    settings = settings.model_copy(update={"loss": "correlation"})
    refused(lambda: tune(tiny.encoder(), train, validation, settings, max_memory=6), "correlation", "6 fit")
    model, _ = tune(tiny.encoder(), train, validation, settings, max_memory=7)
    plain, _ = tune(tiny.encoder(), train, validation, settings)
    assert torch.equal(model.head.weight, plain.head.weight)


def test_processes_tune_the_model_that_one_tunes(tmp_path):
    settings, train, validation = tiny.tuning_material()
    alone, history = tune(tiny.encoder(), train, validation, settings)
    path = os.pathsep.join([str(TESTS), *sys.path])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*command, str(TESTS / "tune_together.py"), str(tmp_path / "two.pt")],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    two = torch.load(tmp_path / "two.pt", weights_only=True)
    assert two["n"] == 2
    assert done.stdout.count('"epoch": 2') == 1  # one process reports
    for before, after in zip(history, two["history"], strict=True):
        assert after == pytest.approx(before, rel=1e-5)
    for name, parameter in trainable_state(alone).items():
        torch.testing.assert_close(two["weights"][name], parameter, atol=1e-5, rtol=1e-4)


def test_the_next_batch_is_loaded_while_one_is_used_and_no_more():
    loaded, main = [], threading.get_ident()

    def load(item):
        assert threading.get_ident() != main
        loaded.append(item)
        return 10 * item

    seen = []
    for item, made in batches.ahead(range(5), load):
        seen.append((item, made))
        assert len(loaded) <= len(seen) + 1
    assert seen == [(n, 10 * n) for n in range(5)]
    assert list(batches.ahead([], load)) == []


def test_what_fails_to_load_fails_where_it_is_used():
    def load(item):
        if item == 1:
            raise ValueError("broken")
        return item

    found = batches.ahead(range(3), load)
    assert next(found) == (0, 0)
    with pytest.raises(ValueError, match="broken"):
        next(found)
