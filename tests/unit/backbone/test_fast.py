import copy

import numpy as np
import pytest
import tiny
import torch
from braintuning.backbone import fast
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.tuning.model import TunedModel
from tiny import refused
from torch.nn import functional
from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model, WavLMConfig, WavLMModel

SIZES = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=4)
SIZES |= dict(conv_dim=[24] * 7, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2)
POSITIONAL_SIZES = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=4)


def clips():
    """White noise, a slow sine that drowns a little of it, an offset, a click and silence; (5, 4001)."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(5, 4001, generator=generator)
    noise[1] = torch.sin(torch.arange(4001) / 60) + 1e-3 * noise[1]
    noise[2] = 0.1 * noise[2] + 5
    noise[3:] = 0
    noise[3, 2000] = 1
    return noise


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [(10, 5), (7, 3), (4, 6)])
def test_normalised_convolution_is_the_norm_of_the_convolution_in_double_precision(kernel, stride, bias):
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv1d(1, 24, kernel, stride, bias=bias), torch.nn.GroupNorm(24, 24)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    with torch.no_grad():
        conv.weight[0] = torch.tensor([1.0, -1.0] + [0.0] * (kernel - 2))  # passes only fast changes
        found = fast.normalised_convolution(clips(), conv, norm)
        expected = norm.double()(conv.double()(clips()[:, None].double())).mT
    assert found.dtype == torch.float32 and found.shape == expected.shape
    torch.testing.assert_close(found[[0, 1, 3, 4]].double(), expected[[0, 1, 3, 4]], atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(found[2].double(), expected[2], atol=2e-3, rtol=1e-3)  # the offset costs three digits


@pytest.mark.parametrize(
    ("kind", "config"),
    [(Wav2Vec2Model, Wav2Vec2Config), (HubertModel, HubertConfig), (WavLMModel, WavLMConfig)],
)
@pytest.mark.parametrize("changes", [{}, {"conv_bias": True}, {"feat_extract_norm": "layer"}])
def test_front_convolutions_are_the_feature_extractor_of_transformers(kind, config, changes):
    torch.manual_seed(0)
    model = kind(config(**SIZES, **changes)).eval()
    audio = clips()[[0, 3, 4]]
    with torch.no_grad():
        for parameter in model.feature_extractor.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        expected = model.feature_extractor(audio).transpose(1, 2)
        found = fast.front_convolutions(model, audio)
    torch.testing.assert_close(found, expected, atol=1e-5 * expected.abs().max(), rtol=1e-5)


def test_normalised_convolution_is_in_half_precision_under_autocast():
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv1d(1, 24, 10, 5, bias=False), torch.nn.GroupNorm(24, 24)
    with torch.no_grad():
        plain = norm(conv(clips()[[0], None])).mT
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = fast.normalised_convolution(clips()[[0]], conv, norm)
    assert found.dtype == torch.bfloat16
    assert (found.float() - plain).norm() < 5e-3 * plain.norm()


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (2, 2), (5, 2), (3, 3), (4, 3), (2, 3), (3, 1)])
@pytest.mark.parametrize("frames", [5, 11, 64])
@pytest.mark.parametrize("bias", [False, True])
def test_strided_convolution_is_the_convolution_that_torch_computes(kernel, stride, frames, bias):
    torch.manual_seed(0)
    conv = torch.nn.Conv1d(6, 4, kernel, stride, bias=bias, dtype=torch.float64)
    hidden = torch.randn(3, frames + 1, 6, dtype=torch.float64)[:, 1:].contiguous()
    found = fast.strided_convolution(hidden, conv)
    torch.testing.assert_close(found, conv(hidden.mT).mT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_layer_norms_keep_the_dtype_under_autocast_and_are_those_of_torch(dtype):
    torch.manual_seed(0)
    norm, hidden = torch.nn.Sequential(torch.nn.LayerNorm(64)), torch.randn(5, 64).mul(3).to(dtype)
    torch.nn.init.normal_(norm[0].weight)
    expected, names = norm(hidden.float()), list(norm.state_dict())
    fast.keep_dtype_in_norms(norm)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = norm(hidden)
    assert found.dtype == dtype and list(norm.state_dict()) == names
    tolerance = 2**-6 if dtype == torch.bfloat16 else 1e-6
    torch.testing.assert_close(found.float(), expected, rtol=tolerance, atol=tolerance)


def test_norms_follow_steps_smaller_than_bfloat16_resolves():
    torch.manual_seed(0)
    norm, hidden = torch.nn.LayerNorm(64), torch.randn(20_000, 64).bfloat16()
    fast.keep_dtype_in_norms(norm)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        before = norm(hidden).float()
        norm.weight += 2.0**-12
        step = norm(hidden).float() - before
    normed = torch.nn.functional.layer_norm(hidden.float(), [64])
    taken = float((step * normed).sum() / normed.square().sum())
    assert taken == pytest.approx(2.0**-12, rel=0.1)


def test_gradients_of_norms_in_bfloat16_add_up_over_thousands_of_frames():
    torch.manual_seed(0)
    norm, hidden, gradient = torch.nn.LayerNorm(64), torch.randn(2, 1500, 64), torch.randn(64).expand(2, 1500, 64)
    torch.nn.init.normal_(norm.weight)
    hidden, gradient = hidden.bfloat16(), gradient.bfloat16()
    exact, inputs = copy.deepcopy(norm).double(), [hidden.double().requires_grad_(), hidden.clone().requires_grad_()]
    exact(inputs[0]).backward(gradient.double())
    fast.keep_dtype_in_norms(norm)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        norm(inputs[1]).backward(gradient)
    pairs = [(exact.weight, norm.weight), (exact.bias, norm.bias), tuple(inputs)]
    for expected, found in pairs:
        assert found.grad.dtype == found.dtype
        assert (found.grad - expected.grad).norm() < 3e-3 * expected.grad.norm()


@pytest.mark.parametrize("family", ["whisper", "hubert"])
@pytest.mark.parametrize("adapted", [False, True])
def test_every_norm_that_tuning_reaches_adds_up_so(family, adapted):
    encoder = tiny.encoder(family).lora(rank=2) if adapted else tiny.encoder(family)
    tuned = TunedModel(encoder, 3)
    norms = [module for part in encoder._trunk_parts() for module in part.modules()]
    norms = [module for module in norms if isinstance(module, torch.nn.LayerNorm)]
    assert norms and {type(module) for module in norms} == {fast.LayerNorm} and tuned.encoder is encoder


@pytest.mark.parametrize("length", [4, 7, 128])
@pytest.mark.parametrize("frames", [1, 5, 130])
@pytest.mark.parametrize("groups", [1, 4])
def test_the_product_of_spectra_is_the_convolution_that_torch_computes(length, frames, groups):
    torch.manual_seed(0)
    hidden, bias = torch.randn(3, frames, 16, dtype=torch.float64), torch.randn(16, dtype=torch.float64)
    kernel = torch.randn(16, 16 // groups, length, dtype=torch.float64)
    padded = functional.conv1d(hidden.transpose(1, 2), kernel, bias, padding=length // 2, groups=groups)
    expected = padded[..., :frames].transpose(1, 2)
    n_fft = frames + length + 2
    found = fast.spectral_product(hidden, fast.spectrum(kernel, groups, n_fft), n_fft, length, bias)
    torch.testing.assert_close(found.double(), expected, atol=2e-4, rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "config"),
    [
        (Wav2Vec2Model, Wav2Vec2Config(**POSITIONAL_SIZES)),
        (HubertModel, HubertConfig(**POSITIONAL_SIZES)),
        (HubertModel, HubertConfig(**POSITIONAL_SIZES, conv_pos_batch_norm=True)),
        (WavLMModel, WavLMConfig(**POSITIONAL_SIZES)),
    ],
)
def test_the_positional_convolution_is_the_layer_of_transformers_and_so_is_its_gradient(model, config):
    torch.manual_seed(0)
    layer = model(config).eval().encoder.pos_conv_embed
    hidden, results = torch.randn(2, 49, 32), []
    for embed in (layer, lambda x: fast.positional_convolution(layer, x)):
        layer.zero_grad()
        x = hidden.clone().requires_grad_()
        y = embed(x)
        y.square().sum().backward()
        results.append([y.detach(), x.grad, *(p.grad.clone() for p in layer.parameters() if p.grad is not None)])
    assert len(results[0]) == len(results[1]) > 3
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_kept_spectra_give_the_same_and_are_made_once_a_length(monkeypatch):
    torch.manual_seed(0)
    layers = [HubertModel(HubertConfig(**POSITIONAL_SIZES)).eval().encoder.pos_conv_embed for _ in range(2)]
    made, plain = [], fast.spectrum
    monkeypatch.setattr(fast, "spectrum", lambda *asked: made.append(asked[2]) or plain(*asked))
    kernels = {}
    with torch.no_grad():
        for _ in range(3):
            for layer in layers:
                hidden = torch.randn(2, 49, 32)
                with fast.kept_kernels(kernels):
                    found = fast.positional_convolution(layer, hidden)
                torch.testing.assert_close(found, layer(hidden), atol=1e-5, rtol=1e-4)
        assert made == [180, 180] and len(kernels) == 2
        with fast.kept_kernels(kernels):
            fast.positional_convolution(layers[0], torch.randn(1, 99, 32))
        assert made == [180, 180, 240] and len(kernels) == 2


def test_nothing_is_kept_where_weights_may_change():
    layer, kernels = HubertModel(HubertConfig(**POSITIONAL_SIZES)).eval().encoder.pos_conv_embed, {}
    hidden = torch.randn(2, 49, 32)
    with fast.kept_kernels(kernels):
        fast.positional_convolution(layer, hidden).sum().backward()
    assert not kernels and all(p.grad is not None for p in layer.parameters())
    with torch.no_grad():
        fast.positional_convolution(layer, hidden)
    assert not kernels


@pytest.mark.parametrize("n", [1, 1024, 2500])
def test_products_of_long_rows_are_those_of_numpy(n):
    rows = torch.randn(3, n, 5, dtype=torch.float64)
    expected = np.einsum("bni,bnj->bij", rows.numpy(), rows.numpy())
    np.testing.assert_allclose(fast.products(rows), expected, rtol=1e-12, atol=1e-10)


@pytest.mark.parametrize("config", [HubertConfig(**POSITIONAL_SIZES), WavLMConfig(**POSITIONAL_SIZES)])
def test_compiled_blocks_give_the_same_under_the_same_names(config, monkeypatch):
    plain = torch.nn.Module.compile  # the code that a compiler would make of the graph takes a minute
    monkeypatch.setattr(torch.nn.Module, "compile", lambda block: plain(block, backend="aot_eager"))
    encoder, audio, found = SpeechEncoder.from_config(config), torch.randn(2, 8000), []
    names = list(encoder.state_dict())
    for asked in ("", "0", "1"):
        monkeypatch.setenv(fast.COMPILE, asked)
        fast.compile_blocks(encoder.model)
        hidden = encoder(audio)
        hidden.square().mean().backward()
        found.append([hidden.detach(), *(p.grad.clone() for p in encoder.trainable_parameters() if p.grad is not None)])
        encoder.zero_grad()
    for results in found[1:]:
        for one, other in zip(found[0], results, strict=True):
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
    assert encoder.model.encoder.layers[0]._compiled_call_impl is not None
    assert list(encoder.state_dict()) == list(copy.deepcopy(encoder).state_dict()) == names


def test_compilation_is_asked_for_by_0_or_1(monkeypatch):
    monkeypatch.setenv(fast.COMPILE, "yes")
    refused(lambda: fast.compile_blocks(HubertModel(HubertConfig(**POSITIONAL_SIZES))), fast.COMPILE, "'yes'", "0 or 1")
