import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from accelerate import PartialState
from braintuning.backbone.precision import VARIABLE
from braintuning.results import generator
from braintuning.study.settings import Tuning
from braintuning.tuning import loop
from braintuning.tuning.batches import loader, samples_of
from braintuning.tuning.loop import brain_tune, gradient, validation_loss
from braintuning.tuning.losses import LOSSES
from braintuning.tuning.model import StoryTargets, TunedModel, learning_rate_factor, trainable_state
from braintuning.tuning.objectives import objective
from hoarse import RATE, TRAIN, VALIDATION, equal, hearing, story, weights
from tiny import refused
from transformers import HubertModel

TESTS = Path(__file__).parents[2]
N_VOXELS = 5


def settings(**changes):
    values = {
        "clip_seconds": 0.5,
        "epochs": 3,
        "batch_size": 4,
        "trunk_learning_rate": 1e-3,
        "head_learning_rate": 1e-2,
    }
    return Tuning(**{**values, **changes})


def noise_story(seed, n_rows=8):
    made = story(seed, n_rows)
    noise = np.random.default_rng(seed + 100).standard_normal(made.targets.shape).astype(np.float32)
    return StoryTargets(made.audio, made.times, noise)


def run(
    encoder=None, train=TRAIN, validation=VALIDATION, checkpoint=None, hear=lambda line: None, aim="learn",
    **changes,
):  # fmt: skip
    encoder, chosen = encoder or tiny.encoder(), settings(**changes)
    with tiny.listening(hear):
        return brain_tune(
            encoder, train, validation, chosen, checkpoint=checkpoint, aim=aim
        )  # fmt: skip


def clip_by_hand(story, row):
    """The half second up to the row, standardised as transformers' feature extractor does it."""
    end = round(story.times[row] * RATE)
    clip = story.audio[end - RATE // 2 : end].astype(np.float64)
    return (clip - clip.mean()) / np.sqrt(clip.var() + 1e-7)


@pytest.mark.parametrize("family", tiny.CONFIGS)
def test_loss_falls_on_what_can_be_learned(family):
    _, history = run(hearing(family), epochs=10, patience=10, trunk_learning_rate=3e-3, head_learning_rate=3e-2)
    for kind in ("train_loss", "validation_loss"):
        losses = [row[kind] for row in history[1:]]
        assert min(losses) < 0.6 * losses[0], (kind, losses)
    assert [row["epoch"] for row in history] == list(range(11)) and history[0]["train_loss"] is None


def adam_step(parameters, rates, moments, step):
    """One step of Adam (Kingma & Ba 2015, algorithm 1) as it stands in the paper."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            first, second = moments.setdefault(name, (torch.zeros_like(parameter), torch.zeros_like(parameter)))
            first.mul_(0.9).add_(0.1 * parameter.grad)
            second.mul_(0.999).add_(0.001 * parameter.grad**2)
            unbiased = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
            parameter.sub_(rates[name] * unbiased)
            parameter.grad = None


def test_tuning_is_a_plain_loop_of_adam_on_the_mean_squared_error():
    chosen = settings(epochs=2, batch_size=5)
    model = copy.deepcopy(tiny.encoder().model)
    assert isinstance(model, HubertModel)
    head_weight = torch.zeros(N_VOXELS, 16, requires_grad=True)
    head_bias = torch.zeros(N_VOXELS, requires_grad=True)
    trunk = {n: p for n, p in model.named_parameters() if n.startswith(("feature_projection", "encoder"))}
    parameters = {**trunk, "head_weight": head_weight, "head_bias": head_bias}
    rows = [(TRAIN[name], row) for name in TRAIN for row in range(9)]
    n_steps, step, moments, expected_losses = 8, 0, {}, []
    for epoch in range(2):
        order, losses = generator(chosen.seed, "epoch", epoch).permutation(18), []
        for start in range(0, 18, 5):
            batch = [rows[i] for i in order[start : start + 5]]
            clips = torch.tensor(np.stack([clip_by_hand(*row) for row in batch]), dtype=torch.float32)
            targets = torch.tensor(np.stack([story.targets[row] for story, row in batch]))
            pooled = model(clips).last_hidden_state.mean(dim=1)
            loss = ((pooled @ head_weight.T + head_bias - targets) ** 2).mean()
            loss.backward()
            factor = 1.0 if step == 0 else (n_steps - step) / (n_steps - 1)
            rates = {name: factor * (1e-3 if name in trunk else 1e-2) for name in parameters}
            step += 1
            adam_step({n: p for n, p in parameters.items() if p.grad is not None}, rates, moments, step)
            losses.append(loss.item())
        expected_losses.append(np.mean(losses))
    tuned, history = run(epochs=2, batch_size=5, patience=2)
    assert history[2]["validation_loss"] < history[1]["validation_loss"] < history[0]["validation_loss"]
    np.testing.assert_allclose([row["train_loss"] for row in history[1:]], expected_losses, rtol=1e-4)
    torch.testing.assert_close(tuned.head.weight, head_weight, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(tuned.head.bias, head_bias, atol=1e-4, rtol=1e-3)
    for name, parameter in tuned.encoder.model.named_parameters():
        torch.testing.assert_close(parameter, dict(model.named_parameters())[name], atol=1e-4, rtol=1e-3)


def test_learning_rate_rises_over_the_first_tenth_and_then_falls_in_a_line_to_nought():
    factors = [learning_rate_factor(step, 50, 0.1) for step in range(51)]
    np.testing.assert_allclose(factors[:5], [0.2, 0.4, 0.6, 0.8, 1.0])
    np.testing.assert_allclose(factors[5:], [(50 - step) / 45 for step in range(5, 51)])
    assert learning_rate_factor(0, 3, 0.0) == 1.0


@pytest.mark.parametrize("family", tiny.CONFIGS)
def test_front_end_stays_and_trunk_and_head_move(family):
    encoder = tiny.encoder(family)
    before = {name: p.detach().clone() for name, p in encoder.model.named_parameters()}
    tuned, _ = run(encoder, epochs=2)
    front = {
        "whisper": ("encoder.conv1", "encoder.conv2", "encoder.embed_positions"),
    }.get(family, ("feature_extractor", "masked_spec_embed"))
    moved = {name: not torch.equal(before[name], p) for name, p in tuned.encoder.model.named_parameters()}
    still = {name for name in moved if name.startswith(front)}
    without_gradient = {name for name in moved if name.startswith("decoder") or name.endswith("k_proj.bias")}
    assert still and not any(moved[name] for name in still)
    assert all(moved[name] for name in set(moved) - still - without_gradient)
    assert tuned.head.weight.abs().max() > 0 and tuned.head.bias.abs().max() > 0


def test_the_prediction_is_a_linear_map_of_the_mean_of_the_last_layer():
    model = TunedModel(tiny.encoder("whisper"), N_VOXELS)
    torch.nn.init.normal_(model.head.weight)
    clips = torch.randn(3, RATE)
    with torch.no_grad():
        pooled = model.encoder(clips)[-1].mean(dim=1)
        torch.testing.assert_close(model(clips), pooled @ model.head.weight.T + model.head.bias)
        assert model.encoder(clips).shape[2] == 50


class Killed(Exception):
    pass


@pytest.mark.parametrize("family", ["hubert", "whisper"])
def test_a_killed_run_goes_on_to_the_same_weights_bit_for_bit(family, tmp_path):
    whole, history = run(tiny.encoder(family), epochs=4, patience=4)

    def killed_in_third_epoch(line):
        if '"epoch": 3' in line:
            raise Killed

    checkpoint = tmp_path / "run.checkpoint"
    with pytest.raises(Killed):
        run(tiny.encoder(family), epochs=4, patience=4, checkpoint=checkpoint, hear=killed_in_third_epoch)
    lines = []
    resumed, history_of_resumed = run(
        tiny.encoder(family), epochs=4, patience=4, checkpoint=checkpoint, hear=lines.append
    )
    assert lines[0] == "resumed after epoch 2" and len(lines) == 5
    assert history_of_resumed == history
    assert equal(weights(resumed), weights(whole))


def test_a_checkpoint_may_have_any_name(tmp_path):
    run(epochs=1, checkpoint=tmp_path / "checkpoint")
    lines = []
    run(epochs=1, checkpoint=tmp_path / "checkpoint", hear=lines.append)
    assert lines == ["resumed after epoch 1"]


@pytest.mark.parametrize("aim", ["learn", "control"])
def test_the_best_epoch_is_remembered_across_a_resume(aim, tmp_path):
    changes = {"epochs": 8, "patience": 8, "trunk_learning_rate": 1e-2, "head_learning_rate": 0.3}
    changes["aim"] = aim
    validation = {"noise": noise_story(7)}
    whole, history = run(validation=validation, **changes)
    losses = [row["validation_loss"] for row in history]
    assert int(np.argmin(losses)) == 0 and int(np.argmin(losses[1:])) + 1 < 7
    assert (whole.head.weight.abs().max() > 0) == (aim == "control")

    def killed_in_last_epoch(line):
        if '"epoch": 8' in line:
            raise Killed

    with pytest.raises(Killed):
        run(validation=validation, checkpoint=tmp_path / "c.checkpoint", hear=killed_in_last_epoch, **changes)
    resumed, _ = run(validation=validation, checkpoint=tmp_path / "c.checkpoint", **changes)
    assert equal(weights(resumed), weights(whole))


def test_same_seed_gives_the_same_weights_and_another_seed_another_order():
    once, twice, other = run()[0], run()[0], run(seed=1)[0]
    assert equal(weights(once), weights(twice))
    assert not equal(weights(once), weights(other))


@pytest.mark.parametrize(("aim", "learns"), [("learn", True), ("learn", False), ("control", False)])
def test_tuning_stops_when_validation_no_longer_falls_and_returns_the_best_epoch(aim, learns):
    encoder, snapshots, lines = tiny.encoder(), [], []

    def hear(line):
        lines.append(line)
        if '"epoch"' in line:
            snapshots.append(weights(encoder))

    validation = VALIDATION if learns else {"noise": noise_story(7)}
    rates = {"trunk_learning_rate": 1e-2, "head_learning_rate": 0.1 if learns else 0.3}
    tuned, history = run(encoder, validation=validation, hear=hear, aim=aim, epochs=30, patience=2, **rates)
    losses = [row["validation_loss"] for row in history]
    best_tuned = 1 + int(np.argmin(losses[1:]))
    assert len(losses) == best_tuned + 1 + 2 < 31
    assert (losses[best_tuned] < losses[0]) == learns
    best = best_tuned if learns or aim == "control" else 0
    assert equal(weights(tuned.encoder), snapshots[best])
    assert not equal(weights(tuned.encoder), snapshots[-1])
    said = [line for line in lines if "did not learn" in line]
    assert len(said) == (not learns)
    assert learns or ("left untuned" in said[0]) == (aim == "learn")


def test_epoch_0_is_the_loss_of_predicting_the_mean():
    _, history = run(epochs=1)
    assert history[0]["epoch"] == 0 and history[0]["train_loss"] is None
    assert history[0]["validation_loss"] == pytest.approx(np.mean(VALIDATION["third"].targets ** 2), rel=1e-5)
    of_each = {name: together(made) for name, made in VALIDATION.items()}
    _, history = run(train={name: together(made) for name, made in TRAIN.items()}, validation=of_each, epochs=1)
    expected = np.mean([np.mean(targets**2) for targets in of_each["third"].targets])
    assert history[0]["validation_loss"] == pytest.approx(expected, rel=1e-5)
    _, history = run(epochs=1, loss="spatial correlation")
    assert history[0]["validation_loss"] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("lora_rank", [None, 2])
def test_a_model_that_cannot_learn_is_returned_to_the_bit_as_it_came(lora_rank, tmp_path):
    """Responses of several participants that cancel out, and validation on noise."""
    before, rates = tiny.encoder(), {"trunk_learning_rate": 1e-2, "head_learning_rate": 0.3}
    train = {name: together(noise_story(seed)) for seed, name in enumerate(TRAIN)}
    tuned, history = run(
        train=train, validation={"noise": together(noise_story(9))}, epochs=2, lora_rank=lora_rank, **rates
    )
    assert history[0]["validation_loss"] == min(row["validation_loss"] for row in history)
    assert not tuned.head.weight.any() and not tuned.head.bias.any()
    tuned.encoder.save_pretrained(tmp_path / "tuned")
    before.save_pretrained(tmp_path / "before")
    saved = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("tuned", "before")]
    assert saved[0] == saved[1]


def test_validation_loss_is_the_mean_over_rows_whatever_their_order_and_batches():
    model = TunedModel(tiny.encoder(), N_VOXELS)
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    clips = np.stack([clip_by_hand(s, row) for s in TRAIN.values() for row in range(9)])
    targets = np.concatenate([s.targets for s in TRAIN.values()])
    with torch.no_grad():
        pooled = model.encoder.model(torch.tensor(clips, dtype=torch.float32)).last_hidden_state.mean(dim=1)
        expected = ((model.head(pooled).numpy() - targets) ** 2).mean()
    order = np.random.default_rng(0).permutation(9)
    shuffled = {
        name: StoryTargets(s.audio, s.times[order], s.targets[order]) for name, s in reversed(list(TRAIN.items()))
    }
    for stories, size in ((TRAIN, 4), (TRAIN, 1), (TRAIN, 18), (shuffled, 7)):
        chosen = settings(batch_size=size)
        found = validation_loss(model, samples_of(stories, chosen), loader(model, stories, chosen), chosen, "cpu")
        assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("role", ["train", "validation"])
def test_a_target_or_audio_that_is_no_number_is_refused_before_anything_is_tuned(role):
    stories, name = {"train": (TRAIN, "second"), "validation": (VALIDATION, "third")}[role]
    spoiled = copy.deepcopy(stories)
    spoiled[name].targets[3, 1] = np.nan
    refused(lambda: run(hear=pytest.fail, **{role: spoiled}), f"story {name}", "nan", "TR 3")
    spoiled = copy.deepcopy(stories)
    spoiled[name].audio[100] = np.inf
    refused(lambda: run(hear=pytest.fail, **{role: spoiled}), f"story {name}", "audio")


class Brittle(torch.nn.Module):
    """An objective whose loss of loud clips is NaN after some losses of training."""

    def __init__(self, holds):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))
        self.holds, self.calls = holds, 0

    def loss(self, audio):
        self.calls += self.training
        broken = torch.log(0.75 - audio.abs().amax(dim=1)) if self.calls > self.holds else 0
        return ((self.weight * audio).square().mean(dim=1) + broken * self.weight).mean()


def test_a_loss_that_is_no_number_stops_with_story_and_step_and_keeps_the_last_good_checkpoint(tmp_path):
    quiet = {name: StoryTargets(0.1 * story.audio, story.times, ()) for name, story in TRAIN.items()}
    loud = {**quiet, "second": StoryTargets(10 * TRAIN["second"].audio, TRAIN["second"].times, ())}
    validation = {"third": StoryTargets(0.1 * VALIDATION["third"].audio, VALIDATION["third"].times, ())}
    checkpoint, chosen = tmp_path / "c.checkpoint", settings(epochs=3, patience=3, batch_size=18)

    def go(train, objective, hear=lambda line: None):
        with tiny.listening(hear):
            return brain_tune(tiny.encoder(), train, validation, chosen, objective=objective, checkpoint=checkpoint)

    refused(lambda: go(loud, Brittle(holds=1)), "nan", "epoch 2, step 1", "(story second)")
    lines = []
    _, history = go(quiet, Brittle(holds=99), lines.append)
    assert lines[0] == "resumed after epoch 1" and len(history) == 4


def test_missing_stories_and_rows_that_do_not_fit_are_refused():
    refused(lambda: run(train={}), "no training", "expected")
    refused(lambda: run(validation={}), "no validation", "expected")
    short = {
        **TRAIN,
        "second": StoryTargets(TRAIN["second"].audio, TRAIN["second"].times[:-1], TRAIN["second"].targets),
    }
    refused(lambda: run(train=short), "story second", "found 9", "expected 8")


def test_stories_with_different_numbers_of_voxels_are_refused():
    narrow = {"third": StoryTargets(VALIDATION["third"].audio, VALIDATION["third"].times, np.zeros((7, 4), np.float32))}
    refused(lambda: run(validation=narrow), "third", "4", "expected 5")


def test_a_checkpoint_of_another_architecture_is_refused(tmp_path):
    run(tiny.encoder("whisper"), epochs=1, checkpoint=tmp_path / "c.checkpoint")
    refused(
        lambda: run(tiny.encoder("hubert"), epochs=2, checkpoint=tmp_path / "c.checkpoint"),
        tmp_path / "c.checkpoint",
        "expected",
    )


def together(made):
    """A story with the responses of two participants, of whom the second responds the other way round."""
    return StoryTargets(made.audio, made.times, (made.targets, -made.targets[:, ::-1].copy()))


def test_several_participants_take_turns_batch_by_batch(monkeypatch):
    seen = []
    whole = TunedModel.loss

    def watched(model, front, targets):
        if torch.is_grad_enabled():
            seen.append((front.hidden.sum().item(), targets))
        return whole(model, front, targets)

    monkeypatch.setattr(TunedModel, "loss", watched)
    train = {name: together(made) for name, made in TRAIN.items()}
    validation = {name: together(made) for name, made in VALIDATION.items()}
    run(train=train, validation=validation, epochs=1, batch_size=6)
    assert len(seen) == 2 * 3
    for (heard, first), (heard_again, second) in zip(seen[::2], seen[1::2], strict=True):
        assert heard == heard_again
        torch.testing.assert_close(second, -first.flip(1))


def test_one_participant_in_a_tuple_is_one_participant():
    alone = {name: StoryTargets(made.audio, made.times, (made.targets,)) for name, made in TRAIN.items()}
    assert equal(weights(run(train=alone)[0]), weights(run()[0]))


@pytest.mark.parametrize("family", tiny.CONFIGS)
def test_lora_moves_adapters_and_head_only_also_after_a_resume(family, tmp_path):
    encoder = tiny.encoder(family)
    before = {name: p.detach().clone() for name, p in encoder.model.named_parameters()}
    changes = {"epochs": 2, "lora_rank": 2, "patience": 5}
    whole, _ = run(tiny.encoder(family), **changes)

    def killed_in_second_epoch(line):
        if '"epoch": 2' in line:
            raise Killed

    with pytest.raises(Killed):
        run(tiny.encoder(family), checkpoint=tmp_path / "c", hear=killed_in_second_epoch, **changes)
    tuned, _ = run(encoder, checkpoint=tmp_path / "c", **changes)
    assert equal(weights(tuned), weights(whole))
    after = dict(tuned.encoder.model.named_parameters())
    adapters = {name for name in after if "lora_" in name}
    assert adapters and {name for name in after if after[name].requires_grad} == adapters
    still = {name.replace(".base_layer", ""): p for name, p in after.items() if name not in adapters}
    assert still.keys() == before.keys() and all(torch.equal(still[name], before[name]) for name in before)
    assert any(after[name].abs().max() > 0 for name in adapters if "lora_B" in name)
    assert tuned.head.weight.abs().max() > 0


@pytest.mark.parametrize("loss", [name for name in LOSSES if name != "l2"])
def test_other_losses_are_lowered_too(loss):
    _, history = run(epochs=6, patience=6, loss=loss, head_learning_rate=3e-2)
    assert history[-1]["train_loss"] < history[1]["train_loss"]
    assert history[-1]["validation_loss"] < history[0]["validation_loss"]


@pytest.mark.parametrize("family", ["hubert", "wav2vec2", "whisper"])
def test_stimulus_tuning_goes_on_to_the_same_weights_bit_for_bit(family, tmp_path):
    """The objective keeps more than parameters: wav2vec2's temperature falls with the losses counted so far."""
    train = {name: StoryTargets(made.audio, made.times, ()) for name, made in TRAIN.items()}
    validation = {name: StoryTargets(made.audio, made.times, ()) for name, made in VALIDATION.items()}
    chosen = settings(epochs=4, patience=4, clip_seconds=1.0)

    def go(**more):
        encoder = tiny.encoder(family)
        heads = objective(encoder, [story.audio for story in train.values()] * 20, seed=0)
        return brain_tune(encoder, train, validation, chosen, objective=heads, **more)

    def killed_in_third_epoch(line):
        if '"epoch": 3' in line:
            raise KeyboardInterrupt

    whole, history = go()
    assert history[-1]["validation_loss"] < history[0]["validation_loss"]
    with pytest.raises(KeyboardInterrupt), tiny.listening(killed_in_third_epoch):
        go(checkpoint=tmp_path / "c")
    resumed, history_of_resumed = go(checkpoint=tmp_path / "c")
    assert history_of_resumed == history
    assert equal(weights(resumed), weights(whole))


def test_stories_with_different_numbers_of_participants_are_refused():
    mixed = {"first": together(TRAIN["first"]), "second": TRAIN["second"]}
    refused(lambda: run(train=mixed), "story second", "found 1 participants", "expected 2")


def test_a_story_may_train_with_some_rows_and_validate_with_others():
    """Sound of one name in both, but other rows of it: what is kept of one must not be taken for the other."""
    (name, whole), *_ = TRAIN.items()
    train = {name: StoryTargets(whole.audio, whole.times[:6], whole.targets[:6])}
    rest = StoryTargets(whole.audio, whole.times[6:], whole.targets[6:])
    (same, history), (other, expected) = (run(train=train, validation={key: rest}) for key in (name, "other"))
    assert history == expected and equal(weights(same), weights(other))


def test_tuning_in_bfloat16_has_the_losses_of_float32(monkeypatch):
    histories = {}
    for value in ("float32", "bfloat16"):
        monkeypatch.setenv(VARIABLE, value)
        model, history = brain_tune(hearing("hubert"), TRAIN, VALIDATION, settings(epochs=6, patience=6))
        histories[value] = tiny.losses_of(history)[1:]
        assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    np.testing.assert_allclose(histories["bfloat16"], histories["float32"], rtol=0.02)
    assert (histories["bfloat16"] != histories["float32"]).any()


class Linear(torch.nn.Linear):
    """A model of clips of five samples that learns three targets by a loss of that name."""

    def __init__(self, name):
        super().__init__(5, 3, dtype=torch.float64)
        self.name = name
        self.sizes = []

    def loss(self, x, y):
        self.sizes.append(len(x))
        return LOSSES[self.name](self(x), y)


@pytest.mark.parametrize("at_once", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("loss", LOSSES)
def test_the_gradient_of_micro_batches_is_that_of_the_whole_batch(loss, at_once):
    torch.manual_seed(0)
    x, y = torch.randn(7, 5, dtype=torch.float64), torch.randn(7, 3, dtype=torch.float64)
    model = Linear(loss)
    whole = LOSSES[loss](model(x), y)
    expected = torch.autograd.grad(whole, list(model.parameters()))
    model.weight.grad = torch.full_like(model.weight, 9.0)  # what an earlier step left is not added to
    found = gradient(model, x, y, at_once)
    torch.testing.assert_close(found.double(), whole.detach(), rtol=1e-6, atol=0)
    for parameter, grad in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, grad)
    assert sum(model.sizes) == 7 and max(model.sizes) == min(at_once, 7)


def test_processes_share_a_batch_and_exchange_their_gradients_once(monkeypatch):
    x, y, model, sent = torch.randn(7, 5).double(), torch.randn(7, 3).double(), Linear("l2"), {}
    whole = gradient(model, x, y, 7)
    expected = [parameter.grad.clone() for parameter in model.parameters()]
    monkeypatch.setattr(PartialState(), "num_processes", 3)
    for rank in range(3):
        monkeypatch.setattr(PartialState(), "process_index", rank)
        monkeypatch.setattr(loop, "reduce", lambda tensor, how: sent.setdefault((rank, how), tensor))  # noqa: B023
        gradient(model, x, y, 2)
    assert model.sizes == [7, 2, 2, 2, 1] and list(sent) == [(0, "sum"), (1, "sum"), (2, "sum")]
    total = sum(sent.values())
    torch.testing.assert_close(total[0], whole.double())
    torch.testing.assert_close(total[1:], torch.cat([grad.flatten() for grad in expected]))
    monkeypatch.setattr(loop, "reduce", lambda tensor, how: total)
    torch.testing.assert_close(gradient(model, x, y, 2), whole.double())
    for parameter, grad in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, grad)


def test_processes_tune_the_model_that_one_tunes(tmp_path):
    settings, train, validation = tiny.tuning_material()
    alone, history = brain_tune(tiny.encoder(), train, validation, settings)
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
    np.testing.assert_allclose(tiny.losses_of(two["history"]), tiny.losses_of(history), rtol=1e-5)
    for name, parameter in trainable_state(alone).items():
        torch.testing.assert_close(two["weights"][name], parameter, atol=1e-5, rtol=1e-4)
