"""Tuning to components, from a ridge head, over spans, near the untuned model; and tuning that removes."""

import dataclasses

import numpy as np
import pytest
import tiny
import torch
from braintuning.study.settings import Tuning
from braintuning.tuning.batches import loader, samples_of
from braintuning.tuning.components import principal_components
from braintuning.tuning.loop import brain_tune, fit_head, gradient
from braintuning.tuning.model import TunedModel, compared, lowest_loss, trainable_state
from hoarse import TRAIN, VALIDATION, equal, hearing, story, weights

RECIPE = {"targets": "components", "n_components": 2, "head_start": "ridge"}
WIDE = np.random.default_rng(0).standard_normal((5, 40))


def settings(**changes):
    rates = {"trunk_learning_rate": 1e-3, "head_learning_rate": 1e-3}
    return Tuning(**{"clip_seconds": 0.5, "epochs": 3, "batch_size": 4, "patience": 3, **rates, **changes})


def wide(stories, noise=1.0):
    """The same stories with 40 voxels of one signal each, and noise of their own."""
    made = {}
    for name, of_story in stories.items():
        own = noise * np.random.default_rng(list(name.encode())).standard_normal((len(of_story.times), 40))
        made[name] = dataclasses.replace(of_story, targets=(of_story.targets @ WIDE + own).astype(np.float32))
    return made


def run(encoder=None, aim="learn", stories=(TRAIN, VALIDATION), checkpoint=None, hear=lambda line: None, **changes):
    with tiny.listening(hear):
        return brain_tune(encoder or hearing("hubert"), *stories, settings(**changes), checkpoint=checkpoint, aim=aim)


def untuned_ridge(stories=(TRAIN, VALIDATION)):
    chosen = settings()
    model = TunedModel(hearing("hubert"), stories[0]["first"].targets.shape[1], chosen)
    parts = [(samples_of(s, chosen), loader(model, s, chosen)) for s in stories]
    return fit_head(model, *parts[0], *parts[1])


def test_epoch_0_is_the_ridge_solution_on_the_untuned_model():
    _, history = run(head_start="ridge", epochs=1)
    probe = untuned_ridge()
    assert history[0]["fitted_loss"] == pytest.approx(probe.loss, rel=1e-5)
    assert history[0]["validation_loss"] == pytest.approx(probe.loss, rel=1e-4)
    train, held_out = (np.concatenate([s.targets for s in part.values()]) for part in (TRAIN, VALIDATION))
    assert history[0]["mean_loss"] == pytest.approx(np.mean((held_out - train.mean(axis=0)) ** 2), rel=1e-5)
    assert probe.loss < history[0]["mean_loss"]


def test_the_returned_model_has_the_fitted_head_of_its_epoch():
    model, history = run(head_start="ridge", epochs=4, patience=4)
    best = min(compared(history))
    assert best == min(row["fitted_loss"] for row in history) < history[0]["fitted_loss"]
    chosen = settings()
    refitted = fit_head(
        model, samples_of(TRAIN, chosen), loader(model, TRAIN, chosen),
        samples_of(VALIDATION, chosen), loader(model, VALIDATION, chosen),
    )  # fmt: skip
    torch.testing.assert_close(model.head.weight, refitted.weight, atol=1e-4, rtol=1e-3)
    assert refitted.loss == pytest.approx(best, rel=1e-4)


def test_without_a_ridge_start_the_probe_of_the_untuned_model_is_reported_all_the_same():
    _, history = run(epochs=2)
    assert history[0]["fitted_loss"] == pytest.approx(untuned_ridge().loss, rel=1e-5)
    assert [row["fitted_loss"] for row in history[1:]] == [None, None]
    assert compared(history) == [row["validation_loss"] for row in history]


def test_components_keep_the_signal_and_predict_voxels():
    stories = (wide(TRAIN), wide(VALIDATION))
    said = []
    model, history = run(stories=stories, hear=said.append, **RECIPE)
    assert model.head.weight.shape == (40, 16)
    assert any("2 components of 40 targets" in line for line in said)
    inputs, (targets,) = loader(model, stories[1], settings())(samples_of(stories[1], settings()))
    with torch.no_grad():
        r = np.corrcoef(model(inputs).ravel(), targets.ravel())[0, 1]
    assert r > 0.5
    assert min(compared(history)) < 0.8 * history[0]["mean_loss"]


@pytest.mark.parametrize("targets", ["voxels", "components"])
def test_the_lowest_loss_is_that_of_a_model_that_knows_what_presentations_share(targets):
    rng, whole = np.random.default_rng(3), story(3, n_rows=2000)
    signal = (whole.targets @ WIDE).astype(np.float32)
    presented = signal + 2 * rng.standard_normal((4, *signal.shape)).astype(np.float32)
    repeated = dataclasses.replace(whole, targets=presented.mean(axis=0), repeats=(presented,))
    validation = {"third": repeated}
    perfect = np.mean((repeated.targets - signal) ** 2)
    if targets == "components":
        found = principal_components(signal, 5)
        validation = found.scores_of(validation)
        perfect = np.mean((validation["third"].targets - found.scores(signal)) ** 2)
    assert lowest_loss(validation) == pytest.approx(perfect, rel=0.05)
    assert lowest_loss(validation | {"once": whole}) is None
    assert run(stories=(wide(TRAIN), wide(VALIDATION)), epochs=1)[1][0]["lowest_loss"] is None


def test_the_lowest_loss_is_told_beside_squared_errors_alone():
    """A mean squared error is no bound of a correlation's loss, by which epochs are compared without fitted heads."""
    whole = VALIDATION["third"]
    presented = whole.targets + np.random.default_rng(1).standard_normal((3, *whole.targets.shape)).astype(np.float32)
    stories = TRAIN, {"third": dataclasses.replace(whole, repeats=(presented,))}
    for changes, told in (({}, True), ({"head_start": "ridge"}, True), ({"head_start": "zero"}, False)):
        loss = {"loss": "spatial correlation"} if changes else {}
        _, history = run(stories=stories, epochs=1, **changes, **loss)
        assert [row["lowest_loss"] is not None for row in history] == [told] * 2


def test_the_number_of_components_is_found_where_none_is_given():
    said = []
    longer = {"first": story(1, n_rows=60)}, {"third": story(3, n_rows=40)}
    run(stories=[wide(part) for part in longer], hear=said.append, epochs=1, targets="components")
    assert any(line.startswith("1 components of 40 targets") for line in said)


def test_several_participants_share_components_and_head():
    def both(stories):
        return {n: dataclasses.replace(s, targets=(s.targets, s.targets[:, ::-1].copy())) for n, s in stories.items()}

    model, history = run(stories=(both(wide(TRAIN)), both(wide(VALIDATION))), **RECIPE)
    assert model.head.weight.shape == (40, 16) and len(history) == 4


@pytest.mark.parametrize("changes", [{}, {"context_seconds": 2.0, "pooling": "learned", "keep_weight": 0.1}])
def test_a_killed_run_goes_on_to_the_same_model(tmp_path, changes):
    stories, seen = (wide(TRAIN), wide(VALIDATION)), []

    def kill(line):
        if line.startswith('{"epoch": 2'):
            raise KeyboardInterrupt

    whole, history = run(stories=stories, **RECIPE, **changes)
    with pytest.raises(KeyboardInterrupt):
        run(stories=stories, checkpoint=tmp_path / "c", hear=kill, **RECIPE, **changes)
    resumed, again = run(stories=stories, checkpoint=tmp_path / "c", hear=seen.append, **RECIPE, **changes)
    assert "resumed after epoch 1" in seen
    assert again == history and equal(weights(whole), weights(resumed))


def test_spans_learn_what_clips_learn():
    rates = {"trunk_learning_rate": 3e-3, "epochs": 8, "patience": 8, "batch_size": 2}
    _, clips = run(head_start="ridge", **rates)
    _, spans = run(head_start="ridge", context_seconds=2.0, **rates)
    for history in (clips, spans):
        assert min(compared(history)) < 0.8 * history[0]["mean_loss"]
    assert spans[0]["mean_loss"] == pytest.approx(clips[0]["mean_loss"], rel=1e-5)


def distance(model):
    """Mean squared change of the last layer's states on the validation clips."""
    inputs, _ = loader(model, VALIDATION, settings())(samples_of(VALIDATION, settings()))
    with torch.no_grad():
        states = [
            encoder.trunk(inputs.hidden, inputs.n_frames, layers=[-1])[-1]
            for encoder in (model.encoder, hearing("hubert"))
        ]
    return float((states[0] - states[1]).square().mean())


def test_the_keeping_term_holds_the_model_near_the_untuned_one():
    free, held = (
        run(head_start="ridge", epochs=4, trunk_learning_rate=3e-4, keep_weight=weight)[0] for weight in (0.0, 100.0)
    )
    assert 0 < distance(held) < 0.5 * distance(free)


def test_with_adapters_the_untuned_model_is_the_one_without_them():
    model, _ = run(head_start="ridge", epochs=2, keep_weight=5.0, lora_rank=2, trunk_learning_rate=1e-2)
    assert distance(model) > 0
    assert all("lora" in name or name.startswith("head") for name in trainable_state(model))


def test_removal_leaves_less_to_predict_from():
    _, history = run(aim="remove", trunk_learning_rate=3e-3, epochs=10, patience=10)
    fitted = compared(history)
    assert max(fitted[1:]) > 1.5 * fitted[0]


def test_a_killed_removal_goes_on_to_the_same_model(tmp_path):
    def kill(line):
        if line.startswith('{"epoch": 2'):
            raise KeyboardInterrupt

    whole, history = run(aim="remove", trunk_learning_rate=3e-3)
    with pytest.raises(KeyboardInterrupt):
        run(aim="remove", trunk_learning_rate=3e-3, checkpoint=tmp_path / "c", hear=kill)
    resumed, again = run(aim="remove", trunk_learning_rate=3e-3, checkpoint=tmp_path / "c")
    assert again == history and equal(weights(whole), weights(resumed))


def test_removal_moves_the_encoder_whatever_the_loss():
    model, _ = run(aim="remove", loss="spatial correlation", epochs=1)
    assert distance(model) > 0


@pytest.mark.parametrize("context", [0.0, 3.0])
def test_the_keeping_term_is_the_same_in_micro_batches(context):
    given = settings(keep_weight=3.0, context_seconds=context)
    model, samples = TunedModel(hearing("hubert"), 5, given).train(), samples_of(TRAIN, given)
    inputs, (targets,) = loader(model, TRAIN, given)(samples[-6:])
    with torch.no_grad():
        for parameter in model.encoder.trainable_parameters():
            parameter.add_(0.02)
    whole = float(gradient(model, inputs, targets, 6))
    if context:
        assert len(set(inputs.counts)) > 1
    assert float(gradient(model, inputs, targets, 2)) == pytest.approx(whole, rel=1e-5)
    assert float(gradient(model, inputs, targets, 1)) == pytest.approx(whole, rel=1e-5)


def test_components_and_a_loss_over_the_pattern_of_voxels_are_refused():
    with pytest.raises(ValueError, match="found `loss` 'spatial correlation' with `targets` 'components'"):
        settings(targets="components", loss="spatial correlation")


def test_a_span_shorter_than_a_clip_is_refused():
    with pytest.raises(ValueError, match="found `context_seconds` 4 in `tuning`, expected 0 or at least"):
        Tuning(clip_seconds=10.0, context_seconds=4.0)
