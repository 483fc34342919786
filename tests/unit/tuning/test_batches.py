"""The batch loader, and how many clips a step takes at once."""

import threading
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tiny
import torch
from accelerate import PartialState
from braintuning.tuning import batches, loop
from braintuning.tuning.batches import cached_fronts, clips_within, kept_for_backward
from braintuning.tuning.loop import brain_tune
from braintuning.tuning.model import TunedModel, trainable_state
from braintuning.tuning.objectives import objective
from tiny import refused

SAMPLES = [("one", tr) for tr in range(5)] + [("two", tr) for tr in range(3)]
CLIPS = {
    sample: torch.randn(8000, generator=torch.Generator().manual_seed(number)) for number, sample in enumerate(SAMPLES)
}


def made(family, file=None, hear=lambda line: None):
    model, loaded = TunedModel(tiny.encoder(family), 3), []

    def clips_of(samples):
        loaded.extend(samples)
        return torch.stack([CLIPS[sample] for sample in samples])

    with tiny.listening(hear):
        return model, cached_fronts(model, SAMPLES, clips_of, batch_size=3, file=file), loaded


def available(monkeypatch, n_bytes):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=n_bytes))


@pytest.mark.parametrize("family", ["hubert", "whisper", "wav2vec2"])
def test_a_prediction_from_the_kept_front_is_that_from_the_clips(family):
    model, fronts, loaded = made(family)
    torch.nn.init.normal_(model.head.weight)
    asked, before = [SAMPLES[6], SAMPLES[0], SAMPLES[3]], len(loaded)
    expected = model(torch.stack([CLIPS[sample] for sample in asked]))
    torch.testing.assert_close(model(fronts(asked)), expected, atol=1e-6, rtol=1e-5)
    assert len(loaded) == before == len(SAMPLES) + 1


def test_what_does_not_fit_into_memory_goes_to_a_file_and_is_the_same(tmp_path, monkeypatch):
    _, in_memory, _ = made("hubert")
    available(monkeypatch, 0)
    said = []
    _, on_disk, _ = made("hubert", tmp_path / "fronts.bin", said.append)
    assert said == ["front end of 8 clips: 0.00 GiB on disk"]
    assert torch.equal(in_memory(SAMPLES).hidden, on_disk(SAMPLES).hidden)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) == in_memory(SAMPLES).hidden.nbytes


@pytest.mark.parametrize("n_processes", [1, 4])
def test_a_share_of_what_is_available_is_taken_in_memory(tmp_path, monkeypatch, n_processes):
    _, fronts, _ = made("hubert")
    n_bytes, said = fronts(SAMPLES).hidden.nbytes, []
    monkeypatch.setattr(PartialState(), "num_processes", n_processes)
    for share in (1.01, 0.99):
        available(monkeypatch, n_processes * n_bytes / batches.SHARE_OF_MEMORY * share)
        made("hubert", tmp_path / "fronts.bin", lambda line: said.append(line.split()[-1]))
    assert said == ["memory", "disk"]


def test_few_clips_go_through_the_front_end_at_a_time_whatever_the_batch(monkeypatch):
    monkeypatch.setattr(batches, "CLIPS_AT_ONCE", 2)
    model, sizes = TunedModel(tiny.encoder("hubert"), 3), []
    plain = model.front

    def noting(clips):
        sizes.append(len(clips))
        return plain(clips)

    monkeypatch.setattr(model, "front", noting)
    fronts = cached_fronts(model, SAMPLES[:5], lambda samples: torch.stack([CLIPS[s] for s in samples]), batch_size=128)
    assert sizes == [1, 2, 2, 1]
    expected = plain(torch.stack([CLIPS[sample] for sample in SAMPLES[:5]])).hidden
    torch.testing.assert_close(fronts(SAMPLES[:5]).hidden, expected, atol=1e-6, rtol=1e-5)


def test_no_room_is_named_before_anything_is_written(tmp_path, monkeypatch):
    available(monkeypatch, 0)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    refused(lambda: made("hubert", tmp_path / "fronts.bin"), str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_what_a_forward_pass_keeps_is_counted_once_and_without_parameters():
    first, second = torch.nn.Linear(4, 6), torch.nn.Linear(6, 2)
    model = torch.nn.Sequential(first, torch.nn.Tanh(), second)
    x = torch.randn(5, 4)
    kept = kept_for_backward(model, lambda: model(x).pow(2).sum())
    assert kept == 4 * (5 * 4 + 5 * 6 + 5 * 2)  # x, what tanh gave, and what is squared; float32


@pytest.mark.parametrize("family", tiny.CONFIGS)
def test_a_limit_of_memory_changes_the_micro_batches_and_not_the_model(family, monkeypatch):
    settings, train, validation = tiny.tuning_material()
    sizes = []
    plain, history = brain_tune(tiny.encoder(family), train, validation, settings)
    fixed = sum(p.nbytes * (4 if p.requires_grad else 1) for p in plain.parameters())
    first = next(iter(train.values()))
    clip = torch.from_numpy(first.audio[None, 8000:16000])
    for_one = batches.WORKSPACE * kept_for_backward(
        plain, lambda: plain.loss(plain.front(clip), torch.from_numpy(first.targets[:1]))
    )
    whole = loop.gradient

    def noting(model, inputs, targets, at_once):
        sizes.append(at_once)
        return whole(model, inputs, targets, at_once)

    monkeypatch.setattr("braintuning.tuning.loop.gradient", noting)
    limit = (fixed + 2.5 * for_one) / 2**30
    divided, in_micro_batches = brain_tune(tiny.encoder(family), train, validation, settings, max_memory=limit)
    (at_once,) = set(sizes)
    assert 1 < at_once < settings.batch_size
    np.testing.assert_allclose(tiny.losses_of(in_micro_batches), tiny.losses_of(history), rtol=1e-5)
    for name, parameter in trainable_state(plain).items():
        torch.testing.assert_close(trainable_state(divided)[name], parameter, atol=1e-4, rtol=1e-3)


def test_what_any_number_of_clips_takes_is_counted_once():
    model, clips = torch.nn.Sequential(torch.nn.Linear(40, 60), torch.nn.Tanh(), torch.nn.Linear(60, 2)), 50
    x = torch.randn(clips, 40)

    def loss_of(n_clips):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return model(x[:n_clips]).float().sum()

    weights = 4 * (40 * 60 + 60 + 60 * 2 + 2)
    copies = 2 * 60 * 2  # of the second layer's weight, in bfloat16: the first layer's input asks for no gradient
    a_clip = 2 * (40 + 60)  # what enters the first layer, and tanh's result, which is also what enters the second
    assert kept_for_backward(model, lambda: loss_of(3)) == copies + 3 * a_clip
    for n in (1, 7, 49):
        limit = (4 * weights + copies + batches.WORKSPACE * n * a_clip) / 2**30
        assert clips_within(model, loss_of, limit * (1 + 1e-9), clips) == n
        assert n == 1 or clips_within(model, loss_of, limit * (1 - 1e-9) - 1e-9, clips) == n - 1
    assert clips_within(model, loss_of, 1.0, clips) == clips
    assert clips_within(model, loss_of, 1.0, 1) == 1


def test_a_limit_that_no_clip_fits_into_is_refused():
    settings, train, validation = tiny.tuning_material()
    refused(
        lambda: brain_tune(tiny.encoder(), train, validation, settings, max_memory=1e-5),
        "one clip", "GiB", "1e-05",
    )  # fmt: skip


def test_an_objective_over_the_batch_is_not_divided(monkeypatch):
    monkeypatch.setattr(
        "braintuning.tuning.batches.clips_within", lambda model, loss, limit, most: min(int(limit), most)
    )
    settings, train, validation = tiny.tuning_material()
    train, validation = ({n: replace(s, targets=()) for n, s in stories.items()} for stories in (train, validation))

    def tuned(max_memory=None):
        encoder = tiny.encoder("whisper")
        heads = objective(encoder, [], seed=0)
        return brain_tune(encoder, train, validation, settings, objective=heads, max_memory=max_memory)[0]

    refused(lambda: tuned(max_memory=6), "objective", "6 fit")
    assert torch.equal(tuned(max_memory=7).head.head.weight, tuned().head.head.weight)


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


def test_losses_are_averaged_by_the_volumes_of_their_batches():
    losses = batches.CheckedLosses(None, None, "step")
    for value in (1.0, 4.0):
        losses.add(torch.tensor(value), [], 0)
    assert losses.mean() == 2.5 and losses.mean([3, 1]) == 1.75
