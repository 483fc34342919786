"""Pretraining of small speech models with the self-supervised objective of their family."""

import copy
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from transformers import HubertConfig, PreTrainedConfig, Wav2Vec2Config

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.families import standardised
from braintuning.backbone.precision import autocast
from braintuning.demo.pretraining_corpus import MfccUnits, draw_clips
from braintuning.errors import InputError
from braintuning.results import atomic_path, generator
from braintuning.tuning.model import learning_rate_factor
from braintuning.tuning.objectives import Contrastive, MaskedUnits
from braintuning.tuning.units import EncoderUnits, fit_units

log = logging.getLogger(__name__)

FAMILIES = ("hubert", "wav2vec2")
N_ROUNDS = 2
N_CLUSTERED_CLIPS = 400


@dataclass(frozen=True)
class Pretraining:
    """Settings of a run: AdamW with linear warm-up and decay in each of two rounds of so many `steps`.

    The first round learns MFCC units; in the second HuBERT learns units of its own `unit_layer`, and wav2vec2 its
    contrastive objective on frozen convolutions, which would take more steps to learn than a CPU has time for.
    """

    family: str
    layers: int = 6
    dim: int = 256
    conv_dim: tuple[int, ...] = (32, 64, 128, 128, 128, 128, 128)
    clip_seconds: float = 2.5
    batch_size: int = 4
    real_share: float = 0.25  # of clips, where there is real speech
    steps: tuple[int, ...] = (1500, 3500)
    units: tuple[int, ...] = (100, 200)
    unit_layer: int = 4
    unmasked_weight: float = 0.5  # of such frames in a unit loss: in few steps they are what teaches the convolutions
    contrast_span: int = 5  # masked frames in a row in the contrastive round; 10 in the paper, which takes longer
    learning_rate: float = 1e-3
    warmup_fraction: float = 0.1
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    log_every: int = 50
    checkpoint_every: int = 250
    seed: int = 0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise InputError(f"family: {self.family!r}, expected one of {', '.join(FAMILIES)}")
        if len(self.steps) != N_ROUNDS or min(self.steps) < 1:
            raise InputError(f"steps: {self.steps}, expected {N_ROUNDS} positive numbers")

    def model_config(self) -> PreTrainedConfig:
        """Architecture of the model, with frames of 20 ms."""
        sizes = {
            "hidden_size": self.dim,
            "num_hidden_layers": self.layers,
            "num_attention_heads": max(self.dim // 64, 1),
            "intermediate_size": 4 * self.dim,
            "conv_dim": list(self.conv_dim),
            "vocab_size": 32,
            "num_conv_pos_embeddings": 32,
            "num_conv_pos_embedding_groups": max(self.dim // 16, 1),
        }
        if self.family == "hubert":
            return HubertConfig(**sizes)
        quantiser = {"num_codevectors_per_group": 64, "codevector_dim": 128, "proj_codevector_dim": 128}
        return Wav2Vec2Config(**sizes, **quantiser)


def trainable_front_end(encoder: SpeechEncoder, audio: torch.Tensor) -> torch.Tensor:
    """`SpeechEncoder.front_end` with a gradient; (batch, frames, channels)."""
    return encoder.model.feature_extractor(standardised(audio)).transpose(1, 2)


class PretrainingRun:
    """State of a run: `step` steps taken in a `round` with its `objective`; the first is the same in both families.

    `encoder` is trained entirely, except for the convolutions in wav2vec2's second round. Entries of `log` have round,
    step, loss (mean since the last entry) and seconds.
    """

    def __init__(self, settings: Pretraining, audio: Mapping[str, np.ndarray], device: str) -> None:
        self.settings, self.audio, self.device = settings, audio, device
        self.n_samples = {name: len(samples) for name, samples in audio.items()}
        self.encoder = SpeechEncoder.from_config(settings.model_config(), seed=settings.seed).to(device)
        same_for_all = replace(settings, family=FAMILIES[0]).model_config()
        first = SpeechEncoder.from_config(same_for_all, seed=settings.seed)
        self.encoder.model.load_state_dict(first.model.state_dict())
        self.encoder.model.requires_grad_(True)
        self.round, self.step, self.log = 0, 0, []
        self._begin(self._new_units())

    def _new_units(self) -> torch.nn.Module | None:
        settings, seed = self.settings, self.settings.seed + self.round
        if self.round and settings.family == "wav2vec2":
            return None
        n_units, clips = settings.units[self.round], self._clips(N_CLUSTERED_CLIPS, "units", self.round)
        if self.round == 0:
            return MfccUnits.fit(torch.from_numpy(clips), n_units, seed)
        return fit_units(self.encoder, list(clips), seed, n_units, settings.unit_layer)

    def _begin(self, units: torch.nn.Module | None) -> None:
        """Start a round with new heads and a new optimiser."""
        settings = self.settings
        torch.manual_seed(settings.seed + self.round)
        if units is None:
            self.objective = Contrastive(self.encoder, settings.contrast_span).to(self.device)
        else:
            self.objective = MaskedUnits(self.encoder, units, settings.unmasked_weight).to(self.device)
        self.encoder.model.feature_extractor.requires_grad_(units is not None)
        parameters = [*self.encoder.model.parameters(), *self.objective.parameters()]
        self.parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self.optimiser = torch.optim.AdamW(self.parameters, betas=(0.9, 0.98), weight_decay=settings.weight_decay)

    def _clips(self, count: int, *labels: str | int) -> np.ndarray:
        rng = generator(self.settings.seed, "clips", *labels)
        return draw_clips(self.audio, count, self.settings.clip_seconds, self.settings.real_share, rng)

    def advance(self) -> float:
        """Take one step and return its loss; clips, masks and noise depend only on the step's number."""
        settings, place = self.settings, (self.round, self.step)
        factor = learning_rate_factor(self.step, settings.steps[self.round], settings.warmup_fraction)
        self.optimiser.param_groups[0]["lr"] = settings.learning_rate * factor
        audio = torch.from_numpy(self._clips(settings.batch_size, *place)).to(self.device)
        torch.manual_seed(int(generator(settings.seed, "masks", *place).integers(2**31)))
        with autocast(self.device):
            loss = self.objective.loss_of(trainable_front_end(self.encoder, audio), audio)
        if not torch.isfinite(loss):
            found = f"loss {loss.item()} at round {self.round + 1}, step {self.step + 1}"
            raise InputError(f"pretraining: {found}, expected a finite number")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, settings.clip_norm)
        self.optimiser.step()
        self.step += 1
        return loss.item()

    def next_round(self) -> None:
        """Start the next round, with new units of the model's current states."""
        self.round, self.step = self.round + 1, 0
        self._begin(self._new_units())

    def save(self, path: Path) -> None:
        """Write everything needed to resume, whole or not at all."""
        state = {
            **{"settings": asdict(self.settings), "round": self.round, "step": self.step, "log": self.log},
            **{"model": self.encoder.model.state_dict(), "objective": self.objective.state_dict()},
            **{"optimiser": self.optimiser.state_dict(), "sounds": self.n_samples},
        }
        if self.round and self.settings.family == "hubert":
            state["teacher"] = self.objective.units.teacher.model.state_dict()
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            torch.save(state, file)

    def load(self, path: Path) -> None:
        """Resume from what `save` wrote; `InputError` if the audio or a setting other than the steps differs."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        found, n_found = Pretraining(**state["settings"]), len(state["sounds"])
        if replace(found, steps=self.settings.steps) != self.settings:
            raise InputError(f"{path}: a run of {found}, expected {self.settings}")
        if state["sounds"] != self.n_samples:
            raise InputError(f"{path}: a run on {n_found} other recordings, expected the {len(self.audio)} given")
        self.round, self.step, self.log = state["round"], state["step"], state["log"]
        if "teacher" in state:
            self.encoder.model.load_state_dict(state["teacher"])
            centres = state["objective"]["units.centres"]
            self._begin(EncoderUnits(self.encoder, self.settings.unit_layer, centres))
        elif self.round:
            self._begin(None)
        self.encoder.model.load_state_dict(state["model"])
        self.objective.load_state_dict(state["objective"])
        self.optimiser.load_state_dict(state["optimiser"])


def pretrain(
    settings: Pretraining, audio: Mapping[str, np.ndarray], folder: Path, device: str = "cpu"
) -> SpeechEncoder:
    """Pretrain a model, or resume a killed run, which ends with the same weights (on a CPU, to the bit).

    `audio` is as in `draw_clips`; `checkpoint.pt` and, in the end, `log.jsonl` are written into `folder`. `InputError`
    for audio shorter than a clip, a loss that is not finite, a checkpoint of other settings or audio.
    """
    run, checkpoint = PretrainingRun(settings, audio, device), Path(folder) / "checkpoint.pt"
    if checkpoint.is_file():
        run.load(checkpoint)
    losses, since = [], time.monotonic()
    while run.round < len(settings.steps) - 1 or run.step < settings.steps[-1]:
        if run.step >= settings.steps[run.round]:
            run.next_round()
        losses.append(run.advance())
        if run.step % settings.log_every == 0 or run.step == settings.steps[run.round]:
            now = time.monotonic()
            entry = {"round": run.round + 1, "step": run.step, "loss": round(float(np.mean(losses)), 5)}
            run.log.append({**entry, "seconds": round(now - since, 2)})
            log.info(json.dumps(run.log[-1]))
            losses, since = [], now
        if run.step % settings.checkpoint_every == 0:
            run.save(checkpoint)
    run.save(checkpoint)
    with atomic_path(Path(folder) / "log.jsonl") as temporary:
        temporary.write_text("".join(f"{json.dumps(entry)}\n" for entry in run.log), encoding="utf-8")
    run.encoder.model.masked_spec_embed.data.copy_(run.objective.mask_vector.data)
    return run.encoder


def save_small(encoder: SpeechEncoder, folder: Path) -> None:
    """Write a copy in half precision as a folder that `AutoModel.from_pretrained` loads."""
    half = copy.deepcopy(encoder)
    half.model.half()
    half.save_pretrained(folder)
