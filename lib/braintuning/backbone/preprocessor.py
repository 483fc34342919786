"""How audio is prepared for a model: normalised, or made into log-mel frames, as its folder says."""

import json
import logging
from pathlib import Path

from transformers import AutoFeatureExtractor, PreTrainedConfig, Wav2Vec2FeatureExtractor, WhisperFeatureExtractor

from braintuning.errors import InputError

PREPROCESSOR_FILE, PROCESSOR_FILE = "preprocessor_config.json", "processor_config.json"
WITHIN_PROCESSOR = ("feature_extractor", "audio_processor")
"""Keys of `PROCESSOR_FILE` that hold what transformers before version 5 wrote into `PREPROCESSOR_FILE`."""
Preprocessor = Wav2Vec2FeatureExtractor | WhisperFeatureExtractor
log = logging.getLogger(__name__)


def load_preprocessor(config: PreTrainedConfig, folder: Path | None = None, name: str = "") -> Preprocessor:
    """Read how a model's audio is prepared from its folder, as `AutoFeatureExtractor` does.

    Transformers writes it into processor_config.json since version 5, before into preprocessor_config.json. A folder
    with neither gets the family's usual settings, with a warning. Raises InputError where they cannot be read, or are
    those of another kind of input.
    """
    whisper = config.model_type == "whisper"
    kind = WhisperFeatureExtractor if whisper else Wav2Vec2FeatureExtractor
    usual = {"feature_size": config.num_mel_bins, "chunk_length": config.max_source_positions // 50} if whisper else {}
    if folder is None or not _says_how_audio_is_prepared(folder):
        if folder is not None:
            usually = "Whisper's log-mel frames" if whisper else "clips of zero mean and unit variance"
            log.warning(f"{name}: no {PREPROCESSOR_FILE} or {PROCESSOR_FILE} on how audio is prepared, takes {usually}")
        return kind(**usual)
    try:
        found = AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{name}: its feature extractor cannot be read ({first_line(error)})") from error
    expected = usual.get("feature_size", 1)
    if not isinstance(found, kind) or found.feature_size != expected:
        what = f"{type(found).__name__} with {getattr(found, 'feature_size', 'no')} features a frame"
        raise InputError(f"{name}: its feature extractor is a {what}, expected a {kind.__name__} with {expected}")
    return found


def _says_how_audio_is_prepared(folder: Path) -> bool:
    if (folder / PREPROCESSOR_FILE).is_file() or not (folder / PROCESSOR_FILE).is_file():
        return (folder / PREPROCESSOR_FILE).is_file()
    try:
        within = json.loads((folder / PROCESSOR_FILE).read_text(encoding="utf-8"))
    except ValueError:
        return True  # in words that cannot be read
    return any(key in within for key in WITHIN_PROCESSOR)


def first_line(error: Exception) -> str:
    """First line of an error's message, for a sentence about it."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
