import struct

import numpy as np
import pytest
import torch
from braintuning.backbone.pypi_weights import encoder_only, read_ctranslate2, whisper_from_ctranslate2
from braintuning.errors import InputError
from ct2_files import ct2_bytes, ct2_variables, packaged_tiny, random_whisper
from scipy.special import erf


@pytest.fixture(scope="module")
def tiny_file():
    return packaged_tiny()


@pytest.fixture(scope="module")
def tiny_arrays(tiny_file):
    return read_ctranslate2(tiny_file, "model.bin")[1]


@pytest.fixture(scope="module")
def tiny_model(tiny_file):
    return whisper_from_ctranslate2(tiny_file, "model.bin")


@pytest.mark.parametrize("version", [4, 6])
def test_reader_gives_back_what_was_written(version):
    rng = np.random.default_rng(0)
    variables = {
        "a/weight": rng.standard_normal((2, 3)).astype(np.float16),
        "b": rng.standard_normal((2, 1, 4)).astype(np.float32),
        "scalar": np.int16(-7),
        "signed": np.array([[-1, 2]], dtype=np.int8),
        "empty": np.zeros((0, 3), dtype=np.int32),
    }
    spec, found = read_ctranslate2(ct2_bytes(variables, [("c", "b")], "AnySpec", version), "file")
    assert spec == "AnySpec" and set(found) == {*variables, "c"}
    for name, value in (*variables.items(), ("c", variables["b"])):
        np.testing.assert_array_equal(found[name], value, strict=True)


def test_reader_refuses_damaged_files():
    whole = ct2_bytes({"a": np.ones(3, dtype=np.float32)})
    for n_bytes in range(len(whole)):
        with pytest.raises(InputError, match=r"file: ends at byte"):
            read_ctranslate2(whole[:n_bytes], "file")
    with pytest.raises(InputError, match="format 99"):
        read_ctranslate2(ct2_bytes({}, version=99), "file")
    with pytest.raises(InputError, match="3 numbers for an array of shape"):
        read_ctranslate2(whole.replace(struct.pack("<BI", 1, 3), struct.pack("<BI", 1, 4)), "file")
    with pytest.raises(InputError, match="number type 77"):
        read_ctranslate2(whole.replace(struct.pack("<BI", 0, 12), struct.pack("<BI", 77, 12)), "file")


@pytest.mark.parametrize("changes", [{}, {"d_model": 8, "encoder_attention_heads": 2, "num_mel_bins": 7}])
def test_conversion_gives_back_the_encoder(changes):
    model = random_whisper(**changes)
    random_state = torch.get_rng_state()
    converted = whisper_from_ctranslate2(ct2_bytes(ct2_variables(model)), "file")
    assert torch.equal(torch.get_rng_state(), random_state)
    mel = torch.randn(2, model.config.num_mel_bins, 18, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(converted.encoder(mel).last_hidden_state, model.encoder(mel).last_hidden_state)
    assert converted.config.encoder_layers == 11 and len(converted.decoder.layers) == 0


def test_conversion_refuses_what_is_no_plain_whisper_encoder():
    def refused(change, message, spec="WhisperSpec"):
        variables = ct2_variables(random_whisper())
        change(variables)
        with pytest.raises(InputError, match=message):
            whisper_from_ctranslate2(ct2_bytes(variables, spec=spec), "file")

    joint = "encoder/layer_2/self_attention/linear_0"
    refused(lambda v: None, "kind TransformerSpec", "TransformerSpec")
    refused(lambda v: v.pop("encoder/conv2/bias"), "lacks the array 'encoder/conv2/bias'")
    refused(lambda v: v.pop("encoder/num_heads"), "lacks the array 'encoder/num_heads'")
    refused(lambda v: v.update({"encoder/extra": np.ones(2, dtype=np.float32)}), "encoder/extra has no place")
    refused(lambda v: v.update({f"{joint}/bias": np.ones(36, dtype=np.float32)}), "keys of layer_2 have a bias")
    refused(lambda v: v.update({f"{joint}/weight": np.ones((36, 12), dtype=np.int8)}), "holds int8")


def test_encoder_only_keeps_the_encoder_and_the_config_it_was_given():
    model = random_whisper()
    reduced = encoder_only(model.config, model.encoder.state_dict())
    assert model.config.decoder_layers == 1 and model.config.vocab_size == 6
    n_encoder = sum(p.numel() for p in model.encoder.parameters())
    assert sum(p.numel() for p in reduced.parameters()) == n_encoder + (4 + 1 + 2) * 12
    assert not any(p.is_meta for p in reduced.parameters())


def layer_norm(x, name, arrays):
    normed = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
    return normed * arrays[f"{name}/gamma"] + arrays[f"{name}/beta"]


def convolve(x, name, arrays, stride):
    weight, padded = arrays[f"{name}/weight"], np.pad(x, ((1, 1), (0, 0)))
    columns = [sum(padded[t + k] @ weight[:, :, k].T for k in range(3)) for t in range(0, len(x), stride)]
    return gelu(np.array(columns) + arrays[f"{name}/bias"])


def gelu(x):
    return x * (1 + erf(x / np.sqrt(2))) / 2


def attention(x, name, arrays, n_heads):
    joint = x @ arrays[f"{name}/linear_0/weight"].T + arrays[f"{name}/linear_0/bias"]
    query, key, value = joint.reshape(len(x), 3, n_heads, -1).transpose(1, 2, 0, 3)
    scores = query @ key.transpose(0, 2, 1) / np.sqrt(query.shape[-1])
    chance = np.exp(scores - scores.max(-1, keepdims=True))
    mixed = (chance / chance.sum(-1, keepdims=True) @ value).transpose(1, 0, 2).reshape(x.shape)
    return mixed @ arrays[f"{name}/linear_1/weight"].T + arrays[f"{name}/linear_1/bias"]


def test_tiny_encoder_against_numpy_on_the_raw_arrays(tiny_arrays, tiny_model):
    arrays = {name: value.astype(np.float64) for name, value in tiny_arrays.items() if name.startswith("encoder/")}
    mel = np.random.default_rng(0).standard_normal((3000, 80)) * 0.5
    hidden = convolve(convolve(mel, "encoder/conv1", arrays, 1), "encoder/conv2", arrays, 2)
    entering = hidden + arrays["encoder/position_encodings/encodings"]
    block = "encoder/layer_0"
    normed = layer_norm(entering, f"{block}/self_attention/layer_norm", arrays)
    middle = entering + attention(normed, f"{block}/self_attention", arrays, 6)
    inner = layer_norm(middle, f"{block}/ffn/layer_norm", arrays) @ arrays[f"{block}/ffn/linear_0/weight"].T
    inner = gelu(inner + arrays[f"{block}/ffn/linear_0/bias"])
    leaving = middle + inner @ arrays[f"{block}/ffn/linear_1/weight"].T + arrays[f"{block}/ffn/linear_1/bias"]
    with torch.no_grad():
        features = torch.from_numpy(mel.T[None]).float()
        found = tiny_model.encoder(features, output_hidden_states=True).hidden_states
    for expected, state in ((entering, found[0]), (leaving, found[1])):
        np.testing.assert_allclose(state[0], expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_tiny_positions_are_whispers_sinusoids(tiny_model):
    times, channel = np.arange(1500)[:, None], np.arange(192)
    angles = times * np.exp(-np.log(10_000) / 191 * channel)
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    found = tiny_model.encoder.embed_positions.weight.detach()
    np.testing.assert_allclose(found, expected, atol=1e-3)
