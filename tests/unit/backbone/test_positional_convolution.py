import pytest
import torch
from braintuning.backbone import positional_convolution as positional_convolution_module
from braintuning.backbone.positional_convolution import (
    _good_length,
    grouped_convolution,
    kept_kernels,
    positional_convolution,
)
from torch.nn import functional
from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model, WavLMConfig, WavLMModel

SIZES = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=4)


@pytest.mark.parametrize("length", [4, 7, 128])
@pytest.mark.parametrize("frames", [1, 5, 130])
@pytest.mark.parametrize("groups", [1, 4])
def test_it_is_the_convolution_that_torch_computes(length, frames, groups):
    torch.manual_seed(0)
    hidden, bias = torch.randn(3, frames, 16, dtype=torch.float64), torch.randn(16, dtype=torch.float64)
    kernel = torch.randn(16, 16 // groups, length, dtype=torch.float64)
    padded = functional.conv1d(hidden.transpose(1, 2), kernel, bias, padding=length // 2, groups=groups)
    expected = padded[..., :frames].transpose(1, 2)
    torch.testing.assert_close(
        grouped_convolution(hidden, kernel, bias, groups).double(), expected, atol=2e-4, rtol=1e-5
    )


@pytest.mark.parametrize(
    ("model", "config"),
    [
        (Wav2Vec2Model, Wav2Vec2Config(**SIZES)),
        (HubertModel, HubertConfig(**SIZES)),
        (HubertModel, HubertConfig(**SIZES, conv_pos_batch_norm=True)),
        (WavLMModel, WavLMConfig(**SIZES)),
    ],
)
def test_it_is_the_layer_of_transformers_and_so_is_its_gradient(model, config):
    torch.manual_seed(0)
    layer = model(config).eval().encoder.pos_conv_embed
    hidden, results = torch.randn(2, 49, 32), []
    for embed in (layer, lambda x: positional_convolution(layer, x)):
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
    layers = [HubertModel(HubertConfig(**SIZES)).eval().encoder.pos_conv_embed for _ in range(2)]
    made, plain = [], positional_convolution_module.spectrum
    monkeypatch.setattr(
        positional_convolution_module, "spectrum", lambda *asked: made.append(asked[2]) or plain(*asked)
    )
    kernels = {}
    with torch.no_grad():
        for _ in range(3):
            for layer in layers:
                hidden = torch.randn(2, 49, 32)
                with kept_kernels(kernels):
                    found = positional_convolution(layer, hidden)
                torch.testing.assert_close(found, layer(hidden), atol=1e-5, rtol=1e-4)
        assert made == [180, 180] and len(kernels) == 2
        with kept_kernels(kernels):
            positional_convolution(layers[0], torch.randn(1, 99, 32))
        assert made == [180, 180, 240] and len(kernels) == 2


def test_nothing_is_kept_where_weights_may_change():
    layer, kernels = HubertModel(HubertConfig(**SIZES)).eval().encoder.pos_conv_embed, {}
    hidden = torch.randn(2, 49, 32)
    with kept_kernels(kernels):
        positional_convolution(layer, hidden).sum().backward()
    assert not kernels and all(p.grad is not None for p in layer.parameters())
    with torch.no_grad():
        positional_convolution(layer, hidden)
    assert not kernels


def test_lengths_are_products_of_small_primes():
    for n in (1, 7, 127, 626, 930):
        good = _good_length(n)
        assert n <= good < 1.2 * n + 3
        for factor in (2, 3, 5):
            while good % factor == 0:
                good //= factor
        assert good == 1
