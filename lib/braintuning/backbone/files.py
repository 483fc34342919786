"""Speech models and their preprocessors as they lie in folders of transformers."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModel,
    PreTrainedConfig,
    PreTrainedModel,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
)

from braintuning.backbone.weights import PREPROCESSOR_FILE, has_weights, quiet_transformers
from braintuning.errors import InputError

Preprocessor = Wav2Vec2FeatureExtractor | WhisperFeatureExtractor
FAMILIES = ("wav2vec2", "hubert", "wavlm", "whisper")


def supported(model_type: str | None, name: str) -> str:
    """Give back one of `FAMILIES`; raises InputError, naming `name`, for anything else."""
    if model_type not in FAMILIES:
        raise InputError(f"{name}: a model of type {model_type!r}, expected one of {', '.join(FAMILIES)}")
    return model_type


def load_model(folder: Path, name: str) -> PreTrainedModel:
    """Load a whole model in float32; raises InputError, naming `name`, for another architecture or missing weights."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: no readable config.json, expected the folder of a transformers model") from error
    supported(config.get("model_type"), name)
    if not has_weights(folder):
        raise InputError(f"{name}: config.json without whole weights, expected model.safetensors or pytorch_model.bin")
    try:
        with quiet_transformers():
            model, report = AutoModel.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{name}: its weights cannot be read ({str(error).splitlines()[0]})") from error
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(("masked_spec_embed", "decoder.")))
    if missing:
        raise InputError(f"{name}: its weights lack {len(missing)} tensors of the model, such as {missing[0]}")
    return model


def load_preprocessor(config: PreTrainedConfig, folder: Path | None = None) -> Preprocessor:
    """Read the folder's preprocessor_config.json, or take the usual settings where there is none."""
    whisper = config.model_type == "whisper"
    if folder is not None and (folder / PREPROCESSOR_FILE).is_file():
        return (WhisperFeatureExtractor if whisper else Wav2Vec2FeatureExtractor).from_pretrained(folder)
    if not whisper:
        return Wav2Vec2FeatureExtractor(do_normalize=True)
    return WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=config.max_source_positions // 50)
