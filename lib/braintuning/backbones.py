"""Speech models behind one call, from 16 kHz audio to the hidden states of every layer."""

import copy
import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MethodType

import torch
from safetensors import SafetensorError
from torch.nn import functional
from transformers import (
    AutoModel,
    PreTrainedConfig,
    PreTrainedModel,
    Wav2Vec2FeatureExtractor,
    WhisperFeatureExtractor,
    WhisperModel,
)

from braintuning.errors import InputError
from braintuning.files import atomic_path
from braintuning.timing import SAMPLE_RATE
from braintuning.weights import PREPROCESSOR_FILE, encoder_only, has_weights, quiet_transformers, resolve

Preprocessor = Wav2Vec2FeatureExtractor | WhisperFeatureExtractor
FAMILIES = ("wav2vec2", "hubert", "wavlm", "whisper")
LORA_TARGETS = r".*encoder\.layers\.\d+\.(self_attn|attention)\.(q|k|v|out)_proj"


class SpeechEncoder(torch.nn.Module):
    """A wav2vec2, HuBERT, WavLM or Whisper encoder: a frozen front end and a trainable trunk.

    Layer 0 is the input of the first transformer block and layer k the output of block k, in every family; the last
    layer includes the model's final norm where it has one (Whisper, and wav2vec2, HuBERT and WavLM with
    `do_stable_layer_norm`). Dropout, LayerDrop and SpecAugment are off at all times: `train` turns on nothing but the
    dropout of LoRA adapters.

    Attributes
    ----------
    model : PreTrainedModel
        The transformers model; Whisper without its decoder.
    family : str
        One of `FAMILIES`.
    name, weights_from : str
        What was asked for, and where the weights came from.
    pad_to_30s : bool
        Whether Whisper sees each clip padded with silence to its full 30 s, as it was trained, or only the clip.
        Of no effect in other families.
    n_layers, dim : int
        Transformer blocks, and channels of their hidden states.
    frame_seconds : float
        Time from one frame to the next (0.02).
    """

    def __init__(
        self,
        model: PreTrainedModel,
        preprocessor: Preprocessor,
        *,
        name: str,
        weights_from: str,
        pad_to_30s: bool = True,
    ) -> None:
        super().__init__()
        self.family = _supported(model.config.model_type, name)
        self.model = _without_decoder(model) if self.family == "whisper" else model
        self.preprocessor = preprocessor
        self.name, self.weights_from, self.pad_to_30s = name, weights_from, pad_to_30s
        self.n_layers, self.dim = model.config.num_hidden_layers, model.config.hidden_size
        if preprocessor.sampling_rate != SAMPLE_RATE:
            raise InputError(f"{name}: takes audio at {preprocessor.sampling_rate} Hz, expected {SAMPLE_RATE} Hz")
        if self.family == "whisper":
            filters = torch.from_numpy(preprocessor.mel_filters.T).float().contiguous()
            self.register_buffer("mel_filters", filters, persistent=False)
            self._frame_samples = 2 * preprocessor.hop_length
        else:
            self._frame_samples = math.prod(model.config.conv_stride)
        self.frame_seconds = self._frame_samples / SAMPLE_RATE
        self._tuner = ()
        self.model.requires_grad_(False)
        for part in self._trunk_parts():
            part.requires_grad_(True)
        self.eval()

    @classmethod
    def from_pretrained(
        cls, name_or_folder: str | Path, *, pad_to_30s: bool | None = None, cache: Path | None = None
    ) -> "SpeechEncoder":
        """Load a model from a folder, the Hugging Face hub or an installed package (see `weights.resolve`).

        Parameters
        ----------
        name_or_folder : str or Path
            Such as `facebook/hubert-base-ls960`, or what `save_pretrained` wrote.
        pad_to_30s : bool, optional
            See the class; by default what the folder was saved with, else True.
        cache : Path, optional
            Folder for converted embedded weights.

        Raises
        ------
        InputError
            When nothing of that name is found, or it is of another architecture or incomplete.
        """
        name = str(name_or_folder)
        found, weights_from = resolve(name_or_folder, cache)
        model = _load_model(Path(found), name)
        preprocessor = _preprocessor(model.config, Path(found))
        if pad_to_30s is None:
            pad_to_30s = getattr(preprocessor, "pad_to_30s", True)
        return cls(model, preprocessor, name=name, weights_from=weights_from, pad_to_30s=pad_to_30s)

    @classmethod
    def from_config(cls, config: PreTrainedConfig, *, pad_to_30s: bool = True, seed: int = 0) -> "SpeechEncoder":
        """Make a model with random weights drawn from `seed`; raises InputError for another architecture."""
        name = f"random {_supported(config.model_type, 'configuration')}"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = AutoModel.from_config(copy.deepcopy(config))
        weights_from = f"random weights, seed {seed}"
        return cls(model, _preprocessor(config), name=name, weights_from=weights_from, pad_to_30s=pad_to_30s)

    def train(self, mode: bool = True) -> "SpeechEncoder":
        """Stay in eval mode but for the dropout of LoRA adapters, which follows `mode`."""
        super().train(False)
        for module in self.modules():
            if hasattr(module, "lora_dropout"):
                module.lora_dropout.train(mode)
        return self

    def n_frames(self, n_samples: int) -> int:
        """Frames that `n_samples` of audio cover; raises InputError when they are too few, or too many for Whisper."""
        if self.family == "whisper":
            frames, most = math.ceil(n_samples / self._frame_samples), self.model.config.max_source_positions
            if frames > most:
                found, limit = n_samples / SAMPLE_RATE, most * self.frame_seconds
                raise InputError(f"{self.name}: a clip of {found:.2f} s, expected at most {limit:g} s")
        else:
            frames = n_samples
            for kernel, stride in zip(self.model.config.conv_kernel, self.model.config.conv_stride, strict=True):
                frames = max((frames - kernel) // stride + 1, 0)
        if frames < 1:
            raise InputError(f"{self.name}: a clip of {n_samples} samples, too short for one frame")
        return frames

    @torch.no_grad()
    def front_end(self, audio: torch.Tensor) -> torch.Tensor:
        """Run the frozen part: normalisation of each clip on its own and convolutions, or Whisper's log-mel input.

        Parameters
        ----------
        audio : (batch, samples) float
            16 kHz, full scale ±1; moved to the model's device.

        Returns
        -------
        front : (batch, frames, channels)
            Whisper: with positions added, and as many frames as the trunk works on (1500 with `pad_to_30s`).
        """
        if audio.ndim != 2 or not audio.is_floating_point():
            found = f"{tuple(audio.shape)} {audio.dtype}"
            raise InputError(f"{self.name}: audio of shape {found}, expected (batch, samples) of a float type")
        audio = audio.to(next(self.model.parameters()).device, torch.float32)
        n_frames = self.n_frames(audio.shape[1])
        if self.family != "whisper":
            if self.preprocessor.do_normalize:
                audio = _standardised(audio)
            return self.model.feature_extractor(audio).transpose(1, 2)
        if self.pad_to_30s:
            n_frames = self.model.config.max_source_positions
        encoder, gelu = self.model.encoder, functional.gelu
        hidden = gelu(encoder.conv2(gelu(encoder.conv1(self._log_mel(audio, n_frames)))))
        return hidden[:, :, :n_frames].transpose(1, 2) + encoder.embed_positions.weight[:n_frames]

    def trunk(
        self, front: torch.Tensor, n_frames: int | None = None, layers: Sequence[int] | None = None
    ) -> torch.Tensor:
        """Run the trainable part on the output of `front_end`.

        Parameters
        ----------
        front : (batch, frames, channels) float
        n_frames : int, optional
            Leading frames to return, such as `n_frames(samples)` that leaves out Whisper's padding; all by default.
            Attention sees every frame.
        layers : sequence of int, optional
            Layers to return, -1 being the last; all by default.

        Returns
        -------
        hidden : (layers + 1, batch, frames, dim)
            In the order of `layers` where that is given.
        """
        states = _whisper_states(self.model, front) if self.family == "whisper" else _wav2vec2_states(self.model, front)
        chosen = states if layers is None else [states[layer] for layer in layers]
        return torch.stack([state[:, :n_frames] for state in chosen])

    def forward(self, audio: torch.Tensor, layers: Sequence[int] | None = None) -> torch.Tensor:
        """Hidden states `(layers + 1, batch, frames, dim)` of `(batch, samples)` audio, covered frames only."""
        return self.trunk(self.front_end(audio), self.n_frames(audio.shape[1]), layers)

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """Parameters to tune: the trunk, or the adapters alone after `lora`."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def lora(self, rank: int = 8, alpha: float = 32, dropout: float = 0.1, seed: int = 0) -> "SpeechEncoder":
        """Add low-rank adapters to the q, k, v and output projections of every block; only these stay trainable.

        Parameters
        ----------
        rank : int
        alpha : float
            The adapters' product is scaled by `alpha / rank` (Hu et al. 2021, LoRA).
        dropout : float
            On the adapters' input, after `train()`.
        seed : int
            Of the adapters' first values.
        """
        from peft import LoraConfig, LoraModel

        if self._tuner:
            raise InputError(f"{self.name}: has LoRA adapters already, expected none")
        if self.family == "wavlm":
            for block in self.model.encoder.layers:
                block.attention.torch_multi_head_self_attention = MethodType(_wavlm_attention, block.attention)
        config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=LORA_TARGETS)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._tuner = (LoraModel(self.model, config, "default"),)
        return self.train(self.training)

    def save_pretrained(self, folder: Path) -> None:
        """Write a folder that `transformers.AutoModel.from_pretrained` loads, whole or not at all; adapters merged."""
        model = copy.deepcopy(self._tuner[0]).merge_and_unload() if self._tuner else self.model
        preprocessor = copy.deepcopy(self.preprocessor)
        if self.family == "whisper":
            preprocessor.pad_to_30s = self.pad_to_30s
        with atomic_path(Path(folder)) as temporary, quiet_transformers():
            model.save_pretrained(temporary)
            preprocessor.save_pretrained(temporary)

    def _trunk_parts(self) -> list[torch.nn.Module]:
        encoder = self.model.encoder
        return (
            [encoder.layers, encoder.layer_norm]
            if self.family == "whisper"
            else [self.model.feature_projection, encoder]
        )

    def _log_mel(self, audio: torch.Tensor, n_frames: int) -> torch.Tensor:
        """Whisper's log-mel input `(batch, mels, columns)`, with what the convolutions see past `n_frames`.

        Equal to transformers' WhisperFeatureExtractor on the clip padded to 30 s, but no further than it is needed.
        """
        n_fft, hop = self.preprocessor.n_fft, self.preprocessor.hop_length
        most = 2 * self.model.config.max_source_positions
        columns = min(2 * n_frames + 2, most)
        length = min(columns + 2, most) * hop
        with torch.autocast(audio.device.type, enabled=False):
            padded = functional.pad(audio, (0, length - audio.shape[1]))
            window = torch.hann_window(n_fft, device=audio.device)
            power = torch.stft(padded, n_fft, hop, window=window, return_complex=True)[..., :-1].abs() ** 2
            log_mel = (self.mel_filters.float() @ power.contiguous()).clamp(min=1e-10).log10()
        log_mel = torch.maximum(log_mel, log_mel.amax(dim=(1, 2), keepdim=True) - 8.0)
        return ((log_mel + 4.0) / 4.0)[..., :columns].to(self.model.encoder.conv1.weight.dtype)


def _standardised(audio: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit variance per clip, as by transformers' Wav2Vec2FeatureExtractor."""
    variance, mean = torch.var_mean(audio, dim=1, keepdim=True, correction=0)
    return (audio - mean) / torch.sqrt(variance + 1e-7)


def _whisper_states(model: PreTrainedModel, front: torch.Tensor) -> list[torch.Tensor]:
    states = [front]
    for block in model.encoder.layers:
        states.append(block(states[-1], None))
    states[-1] = model.encoder.layer_norm(states[-1])
    return states


def _wav2vec2_states(model: PreTrainedModel, front: torch.Tensor) -> list[torch.Tensor]:
    projected = model.feature_projection(front)
    with _recorded(model.encoder.layers) as states:
        output = model.encoder(projected[0] if isinstance(projected, tuple) else projected)
    states[-1] = output.last_hidden_state
    return states


@contextmanager
def _recorded(blocks: torch.nn.ModuleList) -> Iterator[list[torch.Tensor]]:
    """Collect the input of the first block and the output of each, while the encoder itself runs them."""
    states: list[torch.Tensor] = []

    def after(_: torch.nn.Module, __: tuple, output: torch.Tensor | tuple) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    handles = [blocks[0].register_forward_pre_hook(lambda _, inputs: states.append(inputs[0]))]
    handles += [block.register_forward_hook(after) for block in blocks]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()


def _wavlm_attention(
    attention: torch.nn.Module, hidden: torch.Tensor, mask: None, bias: torch.Tensor
) -> tuple[torch.Tensor, None]:
    """WavLM's attention through its projection modules: transformers' own reads their weights past any adapter."""
    batch, frames, _ = hidden.shape

    def heads(projection: torch.nn.Module) -> torch.Tensor:
        return projection(hidden).view(batch, frames, attention.num_heads, -1).transpose(1, 2)

    query, key, value = heads(attention.q_proj), heads(attention.k_proj), heads(attention.v_proj)
    bias = bias.view(batch, attention.num_heads, frames, frames).to(query.dtype)
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    return attention.out_proj(mixed.transpose(1, 2).reshape(batch, frames, -1)), None


def _supported(model_type: str | None, name: str) -> str:
    if model_type not in FAMILIES:
        raise InputError(f"{name}: a model of type {model_type!r}, expected one of {', '.join(FAMILIES)}")
    return model_type


def _without_decoder(model: WhisperModel) -> WhisperModel:
    return model if model.config.decoder_layers == 0 else encoder_only(model.config, model.encoder.state_dict())


def _load_model(folder: Path, name: str) -> PreTrainedModel:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: no readable config.json, expected the folder of a transformers model") from error
    _supported(config.get("model_type"), name)
    if not has_weights(folder):
        raise InputError(
            f"{name}: a config.json without whole weights, expected model.safetensors or pytorch_model.bin"
        )
    try:
        with quiet_transformers():
            model, report = AutoModel.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
            )
    except (OSError, SafetensorError) as error:
        raise InputError(f"{name}: its weights cannot be read ({str(error).splitlines()[0]})") from error
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(("masked_spec_embed", "decoder.")))
    if missing:
        raise InputError(f"{name}: its weights lack {len(missing)} tensors of the model, such as {missing[0]}")
    return model


def _preprocessor(config: PreTrainedConfig, folder: Path | None = None) -> Preprocessor:
    """Read the folder's preprocessor_config.json, or take the usual settings where there is none."""
    whisper = config.model_type == "whisper"
    if folder is not None and (folder / PREPROCESSOR_FILE).is_file():
        return (WhisperFeatureExtractor if whisper else Wav2Vec2FeatureExtractor).from_pretrained(folder)
    if not whisper:
        return Wav2Vec2FeatureExtractor(do_normalize=True)
    return WhisperFeatureExtractor(feature_size=config.num_mel_bins, chunk_length=config.max_source_positions // 50)
