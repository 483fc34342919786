import pytest
import torch
from braintuning.backbone.fast import convolved, normalised_convolution
from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model, WavLMConfig, WavLMModel

SIZES = dict(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, vocab_size=4)
SIZES |= dict(conv_dim=[24] * 7, num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2)


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
def test_it_is_the_norm_of_the_convolution_in_double_precision(kernel, stride, bias):
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv1d(1, 24, kernel, stride, bias=bias), torch.nn.GroupNorm(24, 24)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    with torch.no_grad():
        conv.weight[0] = torch.tensor([1.0, -1.0] + [0.0] * (kernel - 2))  # hears only what changes quickly
        found = normalised_convolution(clips(), conv, norm)
        expected = norm.double()(conv.double()(clips()[:, None].double()))
    assert found.dtype == torch.float32 and found.shape == expected.shape
    torch.testing.assert_close(found[[0, 1, 3, 4]].double(), expected[[0, 1, 3, 4]], atol=2e-5, rtol=2e-5)
    torch.testing.assert_close(found[2].double(), expected[2], atol=2e-3, rtol=1e-3)  # the offset costs three digits


@pytest.mark.parametrize(
    ("kind", "config"),
    [(Wav2Vec2Model, Wav2Vec2Config), (HubertModel, HubertConfig), (WavLMModel, WavLMConfig)],
)
@pytest.mark.parametrize("changes", [{}, {"conv_bias": True}, {"feat_extract_norm": "layer"}])
def test_it_is_the_feature_extractor_of_transformers(kind, config, changes):
    torch.manual_seed(0)
    model = kind(config(**SIZES, **changes)).eval()
    sound = clips()[[0, 3, 4]]
    with torch.no_grad():
        for parameter in model.feature_extractor.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
        expected = model.feature_extractor(sound).transpose(1, 2)
        found = convolved(model, sound)
    torch.testing.assert_close(found, expected, atol=1e-5 * expected.abs().max(), rtol=1e-5)


def test_under_autocast_it_comes_in_half_precision_and_near():
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv1d(1, 24, 10, 5, bias=False), torch.nn.GroupNorm(24, 24)
    with torch.no_grad():
        plain = norm(conv(clips()[[0], None]))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = normalised_convolution(clips()[[0]], conv, norm)
    assert found.dtype == torch.bfloat16
    assert (found.float() - plain).norm() < 5e-3 * plain.norm()
