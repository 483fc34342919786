"""Conversion of Whisper encoders from CTranslate2's file format to transformers models."""

import copy
import struct

import numpy as np
import torch
from transformers import WhisperConfig, WhisperModel

from braintuning.errors import InputError

CT2_VERSIONS = (4, 5, 6)
CT2_DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
CT2_BLOCK = {
    "self_attn_layer_norm": "self_attention/layer_norm",
    "self_attn.qkv": "self_attention/linear_0",
    "self_attn.out_proj": "self_attention/linear_1",
    "final_layer_norm": "ffn/layer_norm",
    "fc1": "ffn/linear_0",
    "fc2": "ffn/linear_1",
}


class _Cursor:
    """Sequential reader of a CTranslate2 file."""

    def __init__(self, data: bytes, source: str) -> None:
        self.data, self.source, self.offset = data, source, 0

    def take(self, n_bytes: int) -> bytes:
        end = self.offset + n_bytes
        if end > len(self.data):
            raise InputError(f"{self.source}: ends at byte {len(self.data)}, expected at least {end}")
        self.offset, start = end, self.offset
        return self.data[start:end]

    def number(self, code: str) -> int:
        return struct.unpack(f"<{code}", self.take(struct.calcsize(f"<{code}")))[0]

    def text(self) -> str:
        return self.take(self.number("H")).rstrip(b"\0").decode()

    def array(self) -> np.ndarray:
        shape = [self.number("I") for _ in range(self.number("B"))]
        code = self.number("B")
        if code not in CT2_DTYPES:
            raise InputError(f"{self.source}: number type {code}, expected one of {sorted(CT2_DTYPES)}")
        values = np.frombuffer(self.take(self.number("I")), CT2_DTYPES[code])
        if values.size != np.prod(shape, dtype=np.int64):
            raise InputError(f"{self.source}: {values.size} numbers for an array of shape {tuple(shape)}")
        return values.reshape(shape)


def read_ctranslate2(data: bytes, source: str) -> tuple[str, dict[str, np.ndarray]]:
    """Read a whole CTranslate2 `model.bin`; `source` names it in error messages.

    Its layout is that of CTranslate2's own `python/ctranslate2/specs/model_spec.py`. Returns the kind of model, such as
    `WhisperSpec`, and arrays by name, aliases included. Raises InputError if the file is truncated or of an unknown
    version or number type.
    """
    cursor = _Cursor(data, source)
    version = cursor.number("I")
    if version not in CT2_VERSIONS:
        raise InputError(f"{source}: CTranslate2 format {version}, expected one of {CT2_VERSIONS}")
    spec = cursor.text()
    cursor.number("I")
    variables = {}
    for _ in range(cursor.number("I")):
        name = cursor.text()
        variables[name] = cursor.array()
    for _ in range(cursor.number("I")):
        alias, target = cursor.text(), cursor.text()
        variables[alias] = variables[target]
    return spec, variables


def whisper_from_ctranslate2(data: bytes, source: str) -> WhisperModel:
    """Convert a whole CTranslate2 `model.bin`, float32 or float16, to a float32 `encoder_only` model.

    Raises InputError, naming `source`, if the file holds another kind of model or an encoder other than Whisper's.
    """
    spec, variables = read_ctranslate2(data, source)
    if spec != "WhisperSpec":
        raise InputError(f"{source}: a CTranslate2 model of kind {spec}, expected WhisperSpec")
    left = {name: value for name, value in variables.items() if name.startswith("encoder/") and value.ndim}
    n_layers = len({name.split("/")[1] for name in left if name.startswith("encoder/layer_") and name.count("/") > 2})

    try:
        config = WhisperConfig(
            d_model=left["encoder/conv1/weight"].shape[0],
            num_mel_bins=left["encoder/conv1/weight"].shape[1],
            max_source_positions=left["encoder/position_encodings/encodings"].shape[0],
            encoder_layers=n_layers,
            encoder_attention_heads=int(variables["encoder/num_heads"]),
            encoder_ffn_dim=left["encoder/layer_0/ffn/linear_0/weight"].shape[0],
        )
        state = _encoder_state(left, n_layers, source)
    except KeyError as error:
        raise InputError(f"{source}: lacks the array {error}, expected the encoder of a Whisper model") from error
    if left:
        raise InputError(f"{source}: array {min(left)} has no place in the encoder of a Whisper model")
    return encoder_only(config, state)


def _encoder_state(left: dict[str, np.ndarray], n_layers: int, source: str) -> dict[str, torch.Tensor]:
    """Tensors under the names of transformers' WhisperEncoder, removed from `left`."""

    def take(name: str) -> torch.Tensor:
        value = left.pop(f"encoder/{name}")
        if value.dtype not in (np.float32, np.float16):
            raise InputError(f"{source}: encoder/{name} holds {value.dtype}, expected float32 or float16 weights")
        return torch.from_numpy(value.astype(np.float32))

    state = {"embed_positions.weight": take("position_encodings/encodings")}
    names = {name: name for name in ("conv1", "conv2", "layer_norm")}
    for i in range(n_layers):
        names |= {f"layers.{i}.{ours}": f"layer_{i}/{theirs}" for ours, theirs in CT2_BLOCK.items()}
    for ours, theirs in names.items():
        weight, bias = ("gamma", "beta") if ours.endswith("layer_norm") else ("weight", "bias")
        state[f"{ours}.weight"], state[f"{ours}.bias"] = take(f"{theirs}/{weight}"), take(f"{theirs}/{bias}")
    for i in range(n_layers):
        for kind in ("weight", "bias"):
            joint = state.pop(f"layers.{i}.self_attn.qkv.{kind}")
            for letter, part in zip("qkv", joint.chunk(3), strict=True):
                state[f"layers.{i}.self_attn.{letter}_proj.{kind}"] = part.clone()
        if state.pop(f"layers.{i}.self_attn.k_proj.bias").any():
            raise InputError(f"{source}: the keys of layer_{i} have a bias, expected none as in Whisper")
    return state


def encoder_only(config: WhisperConfig, encoder_state: dict[str, torch.Tensor]) -> WhisperModel:
    """Whisper model in eval mode whose decoder has no layers and four tokens, so that its saved folder is small.

    Of a whole model's configuration, which is not modified, and the state of its `WhisperEncoder`, which is not copied.
    """
    config = copy.deepcopy(config)
    config.decoder_layers, config.vocab_size, config.max_target_positions = 0, 4, 1
    config.pad_token_id, config.bos_token_id, config.eos_token_id, config.decoder_start_token_id = 0, 1, 2, 3
    config.suppress_tokens = config.begin_suppress_tokens = None
    with torch.device("meta"):
        model = WhisperModel(config)
    decoder_state = {name: torch.zeros(value.shape) for name, value in model.decoder.state_dict().items()}
    model.encoder.load_state_dict(encoder_state, assign=True)
    model.decoder.load_state_dict(decoder_state, assign=True)
    return model.eval()
