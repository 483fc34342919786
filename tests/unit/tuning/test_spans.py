"""Spans: one pass over a longer stretch of audio predicts every volume whose clip lies in it."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import tiny
import torch
from braintuning import timing
from braintuning.study.settings import Tuning
from braintuning.tuning.batches import loader, samples_of, volumes_of
from braintuning.tuning.loop import gradient
from braintuning.tuning.model import StoryTargets, TunedModel, known
from torch._subclasses.fake_tensor import DynamicOutputShapeException, FakeTensorMode


def story(n_trs, seed=0, tr=0.6):
    rng = np.random.default_rng(seed)
    times = 1.0 + tr * np.arange(n_trs)
    audio = rng.standard_normal(int(timing.SAMPLE_RATE * (times[-1] + 1))).astype(np.float32)
    return StoryTargets(audio, times, np.arange(3.0 * n_trs, dtype=np.float32).reshape(n_trs, 3) + 100 * seed)


STORIES = {"one": story(11), "two": story(4, seed=1)}


def settings(**changes):
    return Tuning(**{"clip_seconds": 0.5, "context_seconds": 2.0, "batch_size": 3, **changes})


def test_every_volume_is_in_one_span_and_its_clip_within_the_span():
    chosen, seen = settings(), []
    for name, last in samples_of(STORIES, chosen):
        trs, times = volumes_of(STORIES[name], last, chosen), STORIES[name].times
        assert times[trs[0]] - 0.5 >= times[last] - 2.0 - 1e-6
        seen += [(name, tr) for tr in trs]
    assert seen == [(name, tr) for name in STORIES for tr in range(len(STORIES[name].times))]
    assert len(samples_of(STORIES, chosen)) == 6


def test_without_context_every_volume_is_a_clip_of_its_own():
    assert samples_of(STORIES, settings(context_seconds=0.0)) == [
        (name, tr) for name in STORIES for tr in range(len(STORIES[name].times))
    ]


@pytest.mark.parametrize("family", ["hubert", "whisper"])
def test_predictions_of_a_span_are_those_of_its_frames_by_hand(family):
    chosen, model = settings(), TunedModel(tiny.encoder(family), 3, settings()).eval()
    torch.nn.init.normal_(model.head.weight)
    samples = samples_of(STORIES, chosen)
    inputs, (targets,) = loader(model, STORIES, chosen)(samples)
    predicted, row = model(inputs).detach(), 0
    for name, last in samples:
        times, trs = STORIES[name].times, volumes_of(STORIES[name], last, chosen)
        window_end = max(times[last], times[trs[0]] + 1.5)
        window = timing.windows(STORIES[name].audio, [window_end], 2.0)
        states = model.encoder(torch.from_numpy(window))[-1][0].detach()
        centres = window_end - 2.0 + 0.02 * (np.arange(len(states)) + 0.5)
        for tr in trs:
            end = STORIES[name].times[tr]
            inside = (centres <= end) & (centres > end - 0.5)
            expected = model.head(states[inside].mean(dim=0)).detach()
            torch.testing.assert_close(predicted[row], expected, atol=1e-4, rtol=1e-3)
            np.testing.assert_array_equal(known(targets, inputs.counts)[row], STORIES[name].targets[tr])
            row += 1
    assert row == len(predicted) == 15


def test_spans_of_one_volume_are_clips():
    model = TunedModel(tiny.encoder(), 3, settings()).eval()
    torch.nn.init.normal_(model.head.weight)
    found = []
    for context in (0.0, 0.5):
        chosen = settings(context_seconds=context)
        inputs, (targets,) = loader(model, STORIES, chosen)(samples_of(STORIES, chosen))
        found.append(float(model.loss(inputs, targets).detach()))
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize("context", [0.0, 2.0])
def test_no_step_needs_to_know_a_number_that_only_the_device_has(context):
    """Tensors without content refuse what a GPU would have to be waited for: masks, `item`, comparisons."""
    chosen, mode = settings(context_seconds=context), FakeTensorMode(allow_non_fake_inputs=True)
    model = TunedModel(tiny.encoder(), 3, chosen).train()
    inputs, (targets,) = loader(model, STORIES, chosen)(samples_of(STORIES, chosen))
    with mode, pytest.raises(DynamicOutputShapeException):
        mask = mode.from_tensor(targets).isfinite()
        mode.from_tensor(targets)[mask]
    with mode:
        on_device = {name: mode.from_tensor(p.detach()).requires_grad_() for name, p in model.named_parameters()}
        ends = None if inputs.ends is None else mode.from_tensor(inputs.ends)
        given = replace(inputs, hidden=mode.from_tensor(inputs.hidden), ends=ends)
        with parametrised(model, on_device):
            loss = gradient(model, given, mode.from_tensor(targets), 2)
    assert loss.shape == () and type(loss).__name__ == "FakeTensor"
    assert all(p.grad is not None for name, p in on_device.items() if name.startswith("head"))


@contextmanager
def parametrised(model, parameters):
    """The model with other parameters."""
    kept = {}
    for name, parameter in parameters.items():
        owner, _, last = name.rpartition(".")
        module = model.get_submodule(owner)
        kept[name] = module._parameters[last]
        module._parameters[last] = torch.nn.Parameter(parameter, requires_grad=kept[name].requires_grad)
        parameters[name] = module._parameters[last]
    yield
    for name, parameter in kept.items():
        owner, _, last = name.rpartition(".")
        model.get_submodule(owner)._parameters[last] = parameter


def test_the_distance_from_the_untuned_model_is_a_share_of_its_variance():
    model = TunedModel(tiny.encoder(), 3, settings(keep_weight=2.0)).train()
    inputs = model.front(torch.randn(4, 8000))
    plain, targets = float(model.loss(inputs, torch.zeros(4, 3)).detach()), torch.zeros(4, 3)
    before = model.encoder(torch.zeros(1, 8000))[-1].detach()
    with torch.no_grad():
        untuned = model.encoder.trunk(inputs.hidden, inputs.n_frames, layers=[-1])[-1]
        for parameter in model.encoder.trainable_parameters():
            parameter.add_(0.01 * torch.randn(parameter.shape))
        moved = model.encoder.trunk(inputs.hidden, inputs.n_frames, layers=[-1])[-1]
    spread = untuned.numpy().var(axis=1, ddof=1).mean(axis=1)
    share = (((moved - untuned) ** 2).mean(dim=(1, 2)).numpy() / spread).mean()
    assert plain == pytest.approx(0.0, abs=1e-6)
    assert float(model.loss(inputs, targets).detach()) == pytest.approx(2.0 * float(share), rel=1e-4)
    assert float(model.eval().loss(inputs, targets).detach()) == 0.0
    assert not torch.equal(before, model.encoder(torch.zeros(1, 8000))[-1])
