"""A dataset of a minute a story in the layout of ds003020, random speech models of a few thousand weights, a study."""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import soundfile
import yaml
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.weights import quiet_transformers
from braintuning.datasets.textgrid import Interval
from braintuning.demo.textgrid_writer import write_textgrid
from braintuning.errors import InputError
from transformers import BertConfig, BertModel, HubertConfig, Wav2Vec2Config, WhisperConfig

TR = 2.0
SECONDS = 60.0
N_VOLUMES = 40
N_ROWS = 20
N_VOXELS = 30
TRAIN, VALIDATION, TEST = ("harbour", "orchard"), ("kitchen",), ("winter",)
STORIES = TRAIN + VALIDATION + TEST
PARTICIPANTS = ("P1", "P2")
NO_SURFACE = SimpleNamespace(name="none")
REGIONS = ("A1", "LBelt", "A5", "PGi", "TPOJ1", "44", "V1", "")

WAV2VEC2 = {
    **{"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "vocab_size": 8},
    **{"conv_dim": [8] * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2},
}
WHISPER = {
    **{"d_model": 16, "encoder_layers": 2, "encoder_attention_heads": 2, "encoder_ffn_dim": 24, "vocab_size": 20},
    **{"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 24, "max_target_positions": 8},
    **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3},
    **{"suppress_tokens": None, "begin_suppress_tokens": None, "max_source_positions": 200},
}
CONFIGS = {
    "wav2vec2": lambda: Wav2Vec2Config(**WAV2VEC2),
    "hubert": lambda: HubertConfig(**WAV2VEC2),
    "whisper": lambda: WhisperConfig(**WHISPER),
}


def encoder(family: str = "hubert", seed: int = 0, pad_to_30s: bool = False) -> SpeechEncoder:
    """A random model; 2 blocks of 16 channels."""
    return SpeechEncoder.from_config(CONFIGS[family](), pad_to_30s=pad_to_30s, seed=seed)


def save_bert(folder: Path) -> Path:
    """Save a model that is no speech model."""
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    with quiet_transformers():
        BertModel(BertConfig(vocab_size=9, **sizes)).save_pretrained(folder)
    return folder


def sound(seed: int, seconds: float = SECONDS, rate: int = 16_000) -> np.ndarray:
    """A sine that swells and sinks, with noise; (samples,) float64 within -1 and 1."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    swell = 0.5 + 0.4 * np.sin(2 * np.pi * times * rng.uniform(0.03, 0.09) + rng.uniform(0, 6))
    return 0.5 * swell * np.sin(2 * np.pi * rng.uniform(150, 400) * times) + 0.02 * rng.standard_normal(len(times))


@contextmanager
def listening(hear: Callable[[str], object]) -> Iterator[None]:
    """Call `hear` with every event that is logged; what it raises stops the work, as a kill at that moment would."""

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            hear(record.getMessage())

    logger, handler = logging.getLogger("braintuning"), Handler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@dataclass(frozen=True)
class TinyDataset:
    """Where the files of the dataset lie."""

    root: Path

    def wav(self, story: str) -> Path:
        return self.root / "stimuli" / f"{story}.wav"

    def grid(self, story: str) -> Path:
        return self.root / "derivative" / "TextGrids" / f"{story}.TextGrid"

    def hf5(self, participant: str, story: str) -> Path:
        return self.root / "derivative" / "preprocessed_data" / participant / f"{story}.hf5"

    @property
    def volumes(self) -> Path:
        return self.root / "derivative" / "respdict.json"

    def space(self, participant: str) -> Path:
        return self.root / "derivative" / "pycortex-db" / participant / "space.json"

    def write_responses(
        self, participant: str, story: str, data: np.ndarray, repeats: np.ndarray | None = None
    ) -> None:
        path = self.hf5(participant, story)
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(path, "w") as file:
            file["data"] = data.astype(np.float64)
            if repeats is not None:
                file["individual_repeats"] = repeats.astype(np.float64)

    def write_grid(self, story: str, last: float = SECONDS - 2, tiers: tuple[str, ...] = ("phone", "word")) -> None:
        starts = np.arange(1.0, last - 0.5, 1.0)
        labels = {"phone": ("AH0", "T"), "word": ("and", "then")}
        intervals = {
            tier: [Interval(labels.get(tier, ("x",))[i % 2], float(s), float(s) + 0.5) for i, s in enumerate(starts)]
            for tier in tiers
        }
        write_textgrid(self.grid(story), intervals, max(SECONDS, last + 1))


def write_dataset(root: Path, spare: tuple[str, ...] = ()) -> TinyDataset:
    """Write two participants and stories of a minute, all but those for training with four repeats."""
    dataset = TinyDataset(root)
    for number, story in enumerate(STORIES + spare):
        dataset.wav(story).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(dataset.wav(story), sound(number), 16_000, subtype="PCM_16")
        dataset.write_grid(story)
        for participant in PARTICIPANTS:
            rng = np.random.default_rng([number, PARTICIPANTS.index(participant)])
            repeats = planted_repeats(rng)
            once = story in TRAIN
            dataset.write_responses(
                participant, story, repeats[0] if once else repeats.mean(axis=0), None if once else repeats
            )
    dataset.volumes.write_text(json.dumps(dict.fromkeys(STORIES + spare, N_VOLUMES)))
    for participant in PARTICIPANTS:
        dataset.space(participant).parent.mkdir(parents=True)
        dataset.space(participant).write_text(json.dumps({"space": "fs_LR_32k"}))
    return dataset


def copy_dataset(dataset: TinyDataset, root: Path) -> TinyDataset:
    """Copy a dataset, quicker than writing it again."""
    return TinyDataset(Path(shutil.copytree(dataset.root, root)))


def planted_repeats(rng: np.random.Generator, n_repeats: int = 4, n_rows: int = N_ROWS) -> np.ndarray:
    """Repeats with a signal in the first two thirds of the voxels alone; (repeats, rows, 30) float64."""
    signal = rng.standard_normal((n_rows, N_VOXELS))
    signal[:, N_VOXELS * 2 // 3 :] = 0
    return signal + 0.5 * rng.standard_normal((n_repeats, n_rows, N_VOXELS))


def voxel_labels() -> np.ndarray:
    """Regions of the dataset's 30 voxels."""
    return np.array([REGIONS[i % len(REGIONS)] for i in range(N_VOXELS)])


def cortex() -> SimpleNamespace:
    """Where the dataset's 30 voxels lie: in regions, and nowhere on a surface."""
    return SimpleNamespace(n_voxels=N_VOXELS, voxel_labels=voxel_labels(), surface=NO_SURFACE)


def study_content(root: Path, backbone: Path) -> dict:
    """What the study file says, ready to be changed."""
    return {
        "name": "tiny",
        "title": "A tiny study",
        "dataset": {"kind": "lebel", "root": str(root), "tr": TR},
        "participants": list(PARTICIPANTS),
        "stories": {"train": list(TRAIN), "validation": list(VALIDATION), "test": list(TEST)},
        "backbones": {"small": {"name": str(backbone), "pad_to_30s": False}},
        "conditions": ["pretrained", "brain-tuned", "random-brain-tuned"],
        "tuning": {"clip_seconds": 2.0, "epochs": 2, "batch_size": 16, "permutation_block_rows": 4},
        "features": {"window_seconds": 2.0, "hop_seconds": 1.0, "step_seconds": 0.5, "batch_size": 32},
        "encoding": {
            **{"delays": [1, 2], "n_alphas": 1, "log10_alpha_min": 1.0, "log10_alpha_max": 1.0},
            **{"validation_chunk_rows": 5, "permutation_block_rows": 5, "test_skip_rows": 2, "ceiling_threshold": 0.4},
        },
        "figures": {"notebooks": ["fig2"]},
    }


def write_yaml(path: Path, content: dict) -> Path:
    path.write_text(yaml.safe_dump(content))
    return path


def refused(call, *parts: str) -> str:
    """Message of the InputError that `call` raises: one sentence on one line, with every one of `parts` in it."""
    with pytest.raises(InputError) as caught:
        call()
    return one_sentence(str(caught.value), *parts)


def one_sentence(message: str, *parts: str) -> str:
    assert message and "\n" not in message and "Traceback" not in message and len(message) < 500, message
    for part in parts:
        assert str(part) in message, f"{part!r} not in {message!r}"
    return message


def tuning_material():
    """Settings, training and validation stories of noise that is louder in some rows than in others."""
    from braintuning.study.settings import Tuning
    from braintuning.tuning.model import StoryTargets

    def story(seed, n_rows):
        rng = np.random.default_rng(seed)
        loud = rng.random(n_rows)
        sound = rng.standard_normal((n_rows + 1, 8000)) * np.append(0.0, loud)[:, None]
        targets = np.outer(loud - 0.5, [3.0, -2.0, 1.0]).astype(np.float32)
        return StoryTargets(0.1 * sound.ravel().astype(np.float32), 1.0 + 0.5 * np.arange(n_rows), targets)

    settings = Tuning(
        clip_seconds=0.5, epochs=2, batch_size=7, trunk_learning_rate=1e-3, head_learning_rate=1e-2, patience=2
    )
    return settings, {"first": story(1, 10), "second": story(2, 9)}, {"third": story(3, 6)}


def losses_of(history):
    """Losses of training, NaN for epoch 0, and of validation; (epochs + 1, 2) float64."""
    return np.array([[row["train_loss"], row["validation_loss"]] for row in history], float)


def closed_form(x, y, alpha):
    """Ridge weights by the normal equations."""
    return np.linalg.solve(x.T @ x + alpha**2 * np.eye(x.shape[1]), x.T @ y)


def planted(rows, features, voxels=9, seed=0):
    """Responses that are linear in the features plus noise from little to overwhelming."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((rows, features)).astype(np.float32)
    weights = rng.standard_normal((features, voxels)) / np.sqrt(features)
    noise = rng.standard_normal((rows, voxels)) * np.logspace(-1.5, 1, voxels)
    return x, (x @ weights + noise).astype(np.float32)


def ceiling_by_hand(repeats: np.ndarray) -> np.ndarray:
    """Signal power by the mean covariance of all pairs of repeats, over the variance of their mean."""
    n = len(repeats)
    expected = np.full(repeats.shape[2], np.nan)
    for voxel in range(repeats.shape[2]):
        covariance = np.cov(repeats[:, :, voxel])
        power = (covariance.sum() - np.trace(covariance)) / (n * (n - 1))
        if power > 0:
            expected[voxel] = min(np.sqrt(power / np.var(repeats[:, :, voxel].mean(axis=0), ddof=1)), 1)
    return expected


def halve(path: Path) -> None:
    """Leave the first half of a file, as a write that was cut short would."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def forbid(monkeypatch: pytest.MonkeyPatch, module: object, name: str) -> None:
    """Fail the test if a function of a module is called."""
    monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail(f"{name} ran"))
