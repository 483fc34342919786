"""Self-supervised objectives: what each family of speech models learns from audio alone.

wav2vec2 tells the quantised latent of a masked frame from others of the clip (Baevski, Zhou, Mohamed & Auli 2020);
HuBERT, WavLM and UniSpeech-SAT name the k-means unit of a masked frame (Hsu et al. 2021; Chen et al. 2022, the last two
without the mixing of utterances, and UniSpeech-SAT without its contrast of speakers). Whisper was trained on
transcripts: that it reconstructs the log-mel input of masked frames is this project's choice. Masks, negatives and
Gumbel noise are drawn from torch's global generator.

The contrastive loss equals that of transformers' `Wav2Vec2ForPreTraining`, which runs the front end with every loss,
draws masks and negatives from numpy's global generator, and copies every negative.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.nn import functional
from transformers import PreTrainedModel, Wav2Vec2ForPreTraining
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2GumbelVectorQuantizer

from braintuning.backbone.encoder import SpeechEncoder
from braintuning.backbone.families import whisper_log_mel
from braintuning.backbone.weights import quiet_transformers, resolve
from braintuning.errors import InputError
from braintuning.tuning.units import fit_units

OF_UNITS = ("hubert", "wavlm", "unispeech-sat")
"""Families that name masked units."""
SPAN_FRAMES = 10
START_PROBABILITY = {"wav2vec2": 0.065, "units": 0.08, "reconstruction": 0.065}
TEMPERATURE = 0.1
N_NEGATIVES = 100
DIVERSITY_WEIGHT = 0.1
GUMBEL_TEMPERATURES = (2.0, 0.5)
GUMBEL_DECAY = 0.999


def objective(encoder: SpeechEncoder, recordings: Sequence[np.ndarray], seed: int) -> "Objective":
    """Self-supervised objective of an encoder's family, with heads drawn from `seed` where the weights hold none.

    Where these are masked units, they are fitted to the encoder's states of the (samples,) float32 recordings. Raises
    InputError where these have too few frames, or as `require_objective` does.
    """
    require_objective(encoder)
    units = fit_units(encoder, recordings, seed) if encoder.family in OF_UNITS else None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if encoder.family == "wav2vec2":
            heads = Contrastive(encoder)
        else:
            heads = MaskedReconstruction(encoder) if units is None else MaskedUnits(encoder, units)
    if encoder.family == "wav2vec2" and not encoder.weights_from.startswith("random"):
        heads.continue_pretraining()
    return heads.to(next(encoder.model.parameters()).device)


def require_objective(encoder: SpeechEncoder) -> None:
    """Raise InputError, naming the encoder, for a family whose own objective is not here."""
    known = ("wav2vec2", *OF_UNITS, "whisper")
    if encoder.family not in known:
        found = f"a model of type {encoder.family!r}, whose objective is not here"
        raise InputError(f"{encoder.name}: found stimulus-tuning of {found}, expected one of {', '.join(known)}")


class Objective(torch.nn.Module):
    """Heads on an encoder, which is no part of their parameters, and a loss of audio.

    The parameter `mask_vector`, (dim,), takes the place of a masked frame; it starts as the model's own.
    """

    def __init__(self, encoder: SpeechEncoder) -> None:
        super().__init__()
        self._encoder = (encoder,)
        own = getattr(encoder.model, "masked_spec_embed", None)
        if own is None:
            own = torch.zeros(encoder.dim) if encoder.family == "whisper" else torch.rand(encoder.dim)
        self.mask_vector = torch.nn.Parameter(own.detach().float().clone())

    @property
    def encoder(self) -> SpeechEncoder:  # noqa: D102
        return self._encoder[0]

    def loss(self, audio: torch.Tensor) -> torch.Tensor:
        """Loss of `(batch, samples)` 16 kHz audio behind the frozen front end; a scalar."""
        return self.loss_of(self.encoder.front_end(audio), audio)

    def loss_of(self, front: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:
        """Loss of the front end's output, `(batch, frames, channels)`, for the audio."""
        raise NotImplementedError


class Contrastive(Objective):
    """wav2vec2's objective: contrastive loss over quantised latents and a penalty on codewords that go unused.

    Masked spans have `span` frames; about as many frames are masked with any. The Gumbel temperature falls from 2 to
    0.5 with `calls`, the losses computed in training, faster than in the paper's 400,000 steps.
    """

    def __init__(self, encoder: SpeechEncoder, span: int = SPAN_FRAMES) -> None:
        super().__init__(encoder)
        config, self.span = encoder.model.config, span
        self.quantiser = Wav2Vec2GumbelVectorQuantizer(config)
        torch.nn.init.uniform_(self.quantiser.codevectors)
        torch.nn.init.normal_(self.quantiser.weight_proj.weight)
        torch.nn.init.zeros_(self.quantiser.weight_proj.bias)
        self.project_latent = torch.nn.Linear(config.codevector_dim, config.proj_codevector_dim)
        self.project_hidden = torch.nn.Linear(config.hidden_size, config.proj_codevector_dim)
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.n_codewords = config.num_codevectors_per_group * config.num_codevector_groups

    def continue_pretraining(self) -> None:
        """Take over quantiser and projections where the encoder's weights hold them, at the lowest temperature."""
        folder, _ = resolve(self.encoder.name)
        with quiet_transformers():
            pretrained, report = Wav2Vec2ForPreTraining.from_pretrained(folder, output_loading_info=True)
        if any(name.startswith(("quantizer.", "project_")) for name in report["missing_keys"]):
            return
        self.quantiser.load_state_dict(pretrained.quantizer.state_dict())
        self.project_latent.load_state_dict(pretrained.project_q.state_dict())
        self.project_hidden.load_state_dict(pretrained.project_hid.state_dict())
        highest, lowest = GUMBEL_TEMPERATURES
        self.calls.fill_(math.ceil(math.log(lowest / highest, GUMBEL_DECAY)))

    def loss_of(self, front: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:  # noqa: D102
        highest, lowest = GUMBEL_TEMPERATURES
        self.quantiser.temperature = max(highest * GUMBEL_DECAY ** self.calls.item(), lowest)
        self.calls += self.training
        probability = START_PROBABILITY["wav2vec2"] * SPAN_FRAMES / self.span
        mask = span_mask(*front.shape[:2], probability, self.span).to(front.device)
        last, latent = masked_pass(self.encoder.model, front, mask, self.mask_vector)
        codes, perplexity = self.quantiser(latent[mask][None])
        latents, predicted = self.project_latent(codes[0]), self.project_hidden(last[mask])
        counts = mask.sum(dim=1).tolist()
        pairs = zip(predicted.split(counts), latents.split(counts), strict=True)
        logits = torch.cat([contrastive_logits(p, q, N_NEGATIVES) for p, q in pairs])
        contrast = functional.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))
        return contrast + DIVERSITY_WEIGHT * (1 - perplexity / self.n_codewords)


class MaskedUnits(Objective):
    """The objective of `OF_UNITS`: name the unit of each masked frame.

    The module `units` makes (batch, frames) int64 of (batch, samples) audio, and has `centres` (units, channels).
    `unmasked_weight` is the share of the loss on the other frames, 1 - alpha in Hsu et al. 2021, equation 2.
    """

    def __init__(self, encoder: SpeechEncoder, units: torch.nn.Module, unmasked_weight: float = 0.0) -> None:
        super().__init__(encoder)
        self.units, self.unmasked_weight = units, unmasked_weight
        self.project = torch.nn.Linear(encoder.dim, encoder.dim)
        self.codes = torch.nn.Parameter(torch.randn(len(units.centres), encoder.dim))

    def loss_of(self, front: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:  # noqa: D102
        mask = span_mask(*front.shape[:2], START_PROBABILITY["units"]).to(front.device)
        last, _ = masked_pass(self.encoder.model, front, mask, self.mask_vector)
        units, weight = self.units(audio), self.unmasked_weight
        loss = unit_loss(self.project(last[mask]), self.codes, units[mask])
        if not weight or mask.all():
            return loss
        return (1 - weight) * loss + weight * unit_loss(self.project(last[~mask]), self.codes, units[~mask])


class MaskedReconstruction(Objective):
    """For Whisper: reconstruct the log-mel input of masked frames.

    A learned vector replaces a masked frame's convolved input, whose position stays; a linear head on the last layer
    gives the frame's two log-mel columns, with a mean squared error. Padding is neither masked nor counted.
    """

    def __init__(self, encoder: SpeechEncoder) -> None:
        super().__init__(encoder)
        self.head = torch.nn.Linear(encoder.dim, 2 * encoder.model.config.num_mel_bins)

    def loss_of(self, front: torch.Tensor, audio: torch.Tensor) -> torch.Tensor:  # noqa: D102
        encoder, frames = self.encoder, self.encoder.n_frames(audio.shape[1])
        mask = span_mask(len(front), frames, START_PROBABILITY["reconstruction"]).to(front.device)
        positions = encoder.model.encoder.embed_positions.weight[:frames]
        hidden = torch.where(mask.unsqueeze(-1), self.mask_vector + positions, front[:, :frames])
        last = encoder.trunk(torch.cat([hidden, front[:, frames:]], dim=1), frames, layers=[-1])[0]
        n_fft, hop, audio = encoder.preprocessor.n_fft, encoder.preprocessor.hop_length, audio.to(front.device).float()
        log_mel = whisper_log_mel(audio, encoder.mel_filters, 2 * frames, n_fft, hop)
        targets = log_mel.transpose(1, 2).reshape(len(audio), frames, -1)
        return functional.mse_loss(self.head(last[mask]).float(), targets[mask])


def span_mask(clips: int, frames: int, start_probability: float, span: int = SPAN_FRAMES) -> torch.Tensor:
    """Draw masked frames, (clips, frames) bool: each starts a span with a probability, one in each clip always does.

    On the CPU, so that every device masks the same frames.
    """
    draws = torch.rand(clips, frames)
    starts = (draws < start_probability) | (draws == draws.amin(dim=1, keepdim=True))
    count = functional.pad(starts.int().cumsum(dim=1), (span, 0))
    return count[:, span:] > count[:, :frames]


def masked_pass(
    model: PreTrainedModel, front: torch.Tensor, mask: torch.Tensor, vector: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run a model of any family but Whisper with a vector in place of masked frames after the feature projection.

    From the convolutions' output, (batch, frames, channels), and (batch, frames) bool to the last layer, (batch,
    frames, dim), and the normalised latents that wav2vec2 quantises; HuBERT gives the convolutions' output itself.
    """
    projected = model.feature_projection(front)
    hidden, latent = projected if isinstance(projected, tuple) else (projected, front)
    hidden = torch.where(mask.unsqueeze(-1), vector.to(hidden.dtype), hidden)
    return model.encoder(hidden).last_hidden_state, latent


def unit_loss(predicted: torch.Tensor, codes: torch.Tensor, units: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of cosine similarities over 0.1 (Hsu et al. 2021, equation 3).

    `predicted` is (frames, channels), `codes` (units, channels) float, `units` (frames,) int.
    """
    similarity = functional.normalize(predicted.float(), dim=-1) @ functional.normalize(codes.float(), dim=-1).T
    return functional.cross_entropy(similarity / TEMPERATURE, units)


def contrastive_logits(predicted: torch.Tensor, latents: torch.Tensor, n_negatives: int) -> torch.Tensor:
    """Similarity of each masked frame of one clip to its own latent, then to those of other masked frames.

    Cosine similarity over 0.1 (Baevski et al. 2020, equation 3) of (frames, channels) to as many latents; the result is
    (frames, 1 + n_negatives). A negative that equals the frame's own latent counts for nothing.
    """
    similarity = functional.normalize(predicted.float(), dim=-1) @ functional.normalize(latents.float(), dim=-1).T
    same = (latents[:, None] == latents[None]).all(dim=-1)
    others = draw_negatives(len(predicted), n_negatives).to(predicted.device)
    negatives = similarity.masked_fill(same, -torch.inf).gather(1, others)
    return torch.cat([similarity.diagonal()[:, None], negatives], dim=1) / TEMPERATURE


def draw_negatives(frames: int, n_negatives: int) -> torch.Tensor:
    """Draw other frames for each, with replacement, on the CPU; (frames, n_negatives) int64."""
    others = (torch.rand(frames, n_negatives) * (frames - 1)).long().clamp(max=max(frames - 2, 0))
    return (others + (others >= torch.arange(frames)[:, None])) % frames
