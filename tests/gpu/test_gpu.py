"""On a GPU: the same numbers as on the processor, and no step that waits for it.

`benchmarks/gpu.sh` runs them on a machine with torch and transformers alone. With BRAINTUNING_GPU_TESTS=cpu they run on
the processor, where they show that they can be run.
"""

import os

import numpy as np
import pytest
import torch
from braintuning.alignment.features import extract_features
from braintuning.alignment.ridge import ridge_predict
from braintuning.backbone import fast
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.study.settings import Features, Tuning
from braintuning.tuning.batches import ahead, loader, samples_of
from braintuning.tuning.heads import ridge_head
from braintuning.tuning.loop import brain_tune, fit_head, gradient
from braintuning.tuning.model import StoryTargets, TunedModel
from torch.utils.data import BatchSampler
from transformers import Wav2Vec2Config, WhisperConfig

pytestmark = pytest.mark.gpu

WAV2VEC2 = Wav2Vec2Config(
    **{"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48, "vocab_size": 8},
    **{"conv_dim": [16] * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2},
)
WHISPER = WhisperConfig(
    **{"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 48, "vocab_size": 20},
    **{"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 24, "max_target_positions": 8},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3},
    **{"suppress_tokens": None, "begin_suppress_tokens": None, "max_source_positions": 200},
)
CONFIGS = {"wav2vec2": WAV2VEC2, "whisper": WHISPER}
BY_SPANS = {"context_seconds": 2.0, "targets": "components", "n_components": 2, "head_start": "ridge"}
SMALL_STEPS = {"trunk_learning_rate": 1e-5, "head_learning_rate": 1e-4}
"""A head fitted by ridge reads directions of small variance: in larger steps rounding decides where it goes."""


@pytest.fixture
def device(monkeypatch):
    monkeypatch.setenv("BRAINTUNING_PRECISION", "float32")
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    asked = os.environ.get("BRAINTUNING_GPU_TESTS", "cuda")
    if asked == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    return asked


def encoder(family):
    return SpeechEncoder.from_config(CONFIGS[family], pad_to_30s=False, seed=0)


def story(seed, n_trs=12):
    rng = np.random.default_rng(seed)
    loud = rng.random(n_trs)
    sound = rng.standard_normal((n_trs + 1, 8000)) * np.append(0.0, loud)[:, None]
    targets = np.outer(loud - 0.5, [3.0, -2.0, 1.0]) + 0.1 * rng.standard_normal((n_trs, 3))
    return StoryTargets(
        0.1 * sound.ravel().astype(np.float32), 1.0 + 0.5 * np.arange(n_trs), targets.astype(np.float32)
    )


TRAIN, VALIDATION = {"first": story(1), "second": story(2, 9)}, {"third": story(3, 7)}


def settings(**changes):
    rates = {"trunk_learning_rate": 1e-3, "head_learning_rate": 1e-2}
    return Tuning(**{"clip_seconds": 0.5, "epochs": 2, "batch_size": 7, "patience": 2, **rates, **changes})


@pytest.mark.parametrize("family", CONFIGS)
def test_hidden_states_are_those_of_the_processor(family, device):
    audio, model = torch.from_numpy(TRAIN["first"].audio[None, :32000]), encoder(family)
    with torch.no_grad():
        expected = model(audio)
        found = model.to(device)(audio.to(device)).cpu()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("changes", [{}, BY_SPANS | SMALL_STEPS], ids=["clips", "spans"])
def test_losses_of_tuning_are_those_of_the_processor(changes, device):
    curves = []
    for place in ("cpu", device):
        _, history = brain_tune(encoder("wav2vec2").to(place), TRAIN, VALIDATION, settings(**changes), device=place)
        curves.append([[row["validation_loss"], row["train_loss"] or 0.0] for row in history])
    np.testing.assert_allclose(curves[1], curves[0], rtol=2e-3)


@pytest.mark.parametrize("changes", [{}, {"context_seconds": 2.0}], ids=["clips", "spans"])
def test_no_step_of_tuning_waits_for_the_gpu(changes, device):
    chosen = settings(**changes)
    model = TunedModel(encoder("wav2vec2"), 3, chosen).to(device).train()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, fused=True)
    load, samples, losses = loader(model, TRAIN, chosen, device), samples_of(TRAIN, chosen), []
    for turn in range(2):  # the first time memory is taken and kernels are loaded
        if turn and device == "cuda":
            torch.cuda.set_sync_debug_mode("error")
        try:
            for _, (inputs, targets) in ahead(BatchSampler(samples, 4, drop_last=False), load):
                losses.append(gradient(model, inputs, targets[0], 2))
                optimiser.step()
        finally:
            torch.cuda.set_sync_debug_mode("default") if device == "cuda" else None
    assert torch.stack(losses).isfinite().all() and len(losses) == 2 * -(-len(samples) // 4)


def test_the_ridge_head_is_that_of_the_processor(device):
    torch.manual_seed(0)
    x, held_out = torch.randn(60, 8), torch.randn(30, 8)
    y, truth = (part @ torch.ones(8, 5) + torch.randn(len(part), 5) for part in (x, held_out))
    expected, found = (ridge_head(*(part.to(place) for part in (x, y, held_out, truth))) for place in ("cpu", device))
    torch.testing.assert_close(found.weight.cpu(), expected.weight, atol=1e-5, rtol=1e-5)
    assert found.loss == pytest.approx(expected.loss, rel=1e-6)


def test_a_head_is_fitted_to_states_on_the_gpu(device):
    chosen, losses = settings(context_seconds=2.0), []
    for place in ("cpu", device):
        model = TunedModel(encoder("wav2vec2"), 3, chosen).to(place)
        parts = [(samples_of(s, chosen), loader(model, s, chosen, place)) for s in (TRAIN, VALIDATION)]
        losses.append(fit_head(model, *parts[0], *parts[1]).loss)
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)


@pytest.mark.parametrize("hop", [0.5, 1.0])
def test_features_are_those_of_the_processor(hop, device):
    chosen, sound = Features(window_seconds=2.0, hop_seconds=hop, step_seconds=0.5), TRAIN["first"].audio
    times, model = 1.0 + 2.0 * np.arange(3), encoder("wav2vec2")
    expected = extract_features(model, sound, times, 2.0, chosen)
    found = extract_features(model.to(device), sound, times, 2.0, chosen, device)
    np.testing.assert_allclose(found, expected, atol=2e-4)


@pytest.mark.parametrize("rows", [30, 90])
def test_ridge_is_that_of_the_processor(rows, device):
    rng = np.random.default_rng(0)
    x, unseen = rng.standard_normal((rows, 40), dtype=np.float32), rng.standard_normal((9, 40), dtype=np.float32)
    y = (x @ rng.standard_normal((40, 300)) + 3 * rng.standard_normal((rows, 300))).astype(np.float32)
    splits = [(np.arange(rows)[n::3], np.setdiff1d(np.arange(rows), np.arange(rows)[n::3])) for n in range(3)]
    alphas = np.logspace(0, 3, 6)
    (expected, best), (found, found_best) = (
        ridge_predict(x, y, unseen, alphas, splits, place) for place in ("cpu", device)
    )
    assert np.isclose(best, found_best).mean() > 0.99
    same = np.isclose(best, found_best)
    np.testing.assert_allclose(found[:, same], expected[:, same], atol=1e-3)


def test_bfloat16_is_near_float32(device, monkeypatch):
    audio, found = torch.from_numpy(TRAIN["first"].audio[None, :32000]).to(device), []
    for precision in ("float32", "bfloat16"):
        monkeypatch.setenv("BRAINTUNING_PRECISION", precision)
        with torch.no_grad(), torch.autocast(device, torch.bfloat16, enabled=precision == "bfloat16"):
            found.append(encoder("wav2vec2").to(device)(audio).float())
    assert (found[1] - found[0]).norm() < 0.02 * found[0].norm()


def test_compiled_blocks_tune_to_the_same(device, monkeypatch):
    if device == "cpu":
        plain = torch.nn.Module.compile
        monkeypatch.setattr(torch.nn.Module, "compile", lambda block: plain(block, backend="aot_eager"))
    curves = []
    for asked in ("0", "1"):
        monkeypatch.setenv(fast.COMPILE, asked)
        model, history = brain_tune(
            encoder("wav2vec2").to(device), TRAIN, VALIDATION, settings(epochs=1, batch_size=21), device=device
        )
        curves.append([row["validation_loss"] for row in history])
        compiled = [block._compiled_call_impl is not None for block in model.encoder.model.encoder.layers]
        assert compiled == [asked == "1"] * 2
    np.testing.assert_allclose(curves[1], curves[0], rtol=2e-3)


@pytest.mark.parametrize("asked", ["0", "1"], ids=["plain", "compiled"])
@pytest.mark.parametrize("family", CONFIGS)
def test_gradients_in_bfloat16_are_those_in_float32(family, asked, device, monkeypatch):
    if device == "cpu":  # the code that a compiler would make of the graph takes a minute
        plain = torch.nn.Module.compile
        monkeypatch.setattr(torch.nn.Module, "compile", lambda block: plain(block, backend="aot_eager"))
    found = []
    for precision in ("float32", "bfloat16"):
        monkeypatch.setenv("BRAINTUNING_PRECISION", precision)
        monkeypatch.setenv(fast.COMPILE, asked if found else "0")
        model = TunedModel(encoder(family), 3, settings()).to(device).train()
        model.head.weight.data = torch.from_numpy(np.random.default_rng(0).standard_normal((3, 32))).float().to(device)
        fast.compile_blocks(model.encoder.model)
        inputs, targets = loader(model, TRAIN, settings(), device)(samples_of(TRAIN, settings())[:7])
        gradient(model, inputs, targets[0], 7)
        found.append({name: part.grad.double() for name, part in model.named_parameters() if part.grad is not None})
    exact, rounded = found
    apart = {name: float((rounded[name] - part).norm() / part.norm()) for name, part in exact.items()}
    of_no_consequence = "k_proj.bias"  # softmax cancels it: its gradient is rounding alone
    assert exact.keys() == rounded.keys()
    assert max(value for name, value in apart.items() if not name.endswith(of_no_consequence)) < 0.05
