"""Speech encoder: 16 kHz audio to the hidden states of every layer, the same way for every model family."""

import copy
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn import functional
from transformers import AutoModel, PreTrainedConfig, PreTrainedModel

from braintuning.backbone import weights
from braintuning.backbone.families import adapt_wavlm_attention, hidden_states, standardised, whisper_log_mel
from braintuning.backbone.fast import front_convolutions, keep_dtype_in_norms
from braintuning.backbone.preprocessor import Preprocessor, load_preprocessor
from braintuning.backbone.pypi_weights import encoder_only
from braintuning.errors import InputError
from braintuning.results import atomic_path
from braintuning.timing import SAMPLE_RATE

LORA_TARGETS = r".*encoder\.layers\.\d+\.(self_attn|attention)\.(q|k|v|out)_proj"


class SpeechEncoder(torch.nn.Module):
    """Encoder of a speech model of one of `weights.FAMILIES`, from audio to the hidden states of every layer.

    Call it for both parts at once, or call the frozen `front_end` (normalisation of each clip and convolutions, or
    log-mel input) and then the trainable `trunk` (transformer blocks).

    Layer 0 is the input of the first block and layer k the output of block k, in every family. The last layer includes
    the final norm where the model has one: Whisper, and models with `do_stable_layer_norm`. Dropout, LayerDrop and
    SpecAugment are always off; `train` turns on only the dropout of LoRA adapters.

    Attributes
    ----------
    model : PreTrainedModel
        Whisper without its decoder.
    family, name, weights_from : str
        One of `weights.FAMILIES`, the name asked for, and where the weights came from.
    pad_to_30s : bool
        Whether Whisper's input is each clip padded with silence to 30 s, as in its training, or the clip alone.
    n_layers, dim : int
        Number of transformer blocks, and channels of a hidden state.
    frame_seconds : float
        Seconds from one frame to the next (0.02).

    Examples
    --------
    >>> encoder = SpeechEncoder.from_pretrained("data/models/hubert-small")
    >>> encoder(torch.zeros(1, 16_000)).shape  # (layers + 1, batch, frames, dim) of 1 s of audio
    torch.Size([7, 1, 49, 256])
    """

    def __init__(
        self, model: PreTrainedModel, preprocessor: Preprocessor, *, name: str, weights_from: str, pad_to_30s: bool
    ) -> None:
        super().__init__()
        self.family = weights.supported_family(model.config.model_type, name)
        if self.family == "whisper" and model.config.decoder_layers:
            model = encoder_only(model.config, model.encoder.state_dict())
        self.model, self.preprocessor = model, preprocessor
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
            keep_dtype_in_norms(part)
        self.eval()

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, *, pad_to_30s: bool | None = None) -> "SpeechEncoder":
        """Load a model from a folder, the Hugging Face hub or an installed package (see `weights.resolve`).

        Parameters
        ----------
        name_or_folder : str or Path
            Such as `facebook/hubert-base-ls960`, or a folder written by `save_pretrained`.
        pad_to_30s : bool, optional
            By default as saved in the folder, else True.

        Raises
        ------
        InputError
            The model is not found, of another architecture or incomplete.
        """
        name = str(name_or_folder)
        folder, weights_from = weights.resolve(name)
        model = weights.load_transformers_model(Path(folder), name)
        preprocessor = load_preprocessor(model.config, Path(folder), name)
        if pad_to_30s is None:
            pad_to_30s = getattr(preprocessor, "pad_to_30s", True)
        return cls(model, preprocessor, name=name, weights_from=weights_from, pad_to_30s=pad_to_30s)

    @classmethod
    def from_config(cls, config: PreTrainedConfig, *, pad_to_30s: bool = True, seed: int = 0) -> "SpeechEncoder":
        """Make a model with random weights drawn from `seed`; raises InputError for another architecture."""
        name = f"random {weights.supported_family(config.model_type, 'configuration')}"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = AutoModel.from_config(weights.without_adapter(copy.deepcopy(config), name))
        preprocessor, weights_from = load_preprocessor(config), f"random weights, seed {seed}"
        return cls(model, preprocessor, name=name, weights_from=weights_from, pad_to_30s=pad_to_30s)

    def forward(self, audio: torch.Tensor, layers: Sequence[int] | None = None) -> torch.Tensor:
        """Hidden states, (layers + 1, batch, frames, dim), of (batch, samples) audio, without frames of padding."""
        return self.trunk(self.front_end(audio), self.n_frames(audio.shape[1]), layers)

    @torch.no_grad()
    def front_end(self, audio: torch.Tensor) -> torch.Tensor:
        """Run the frozen part on (batch, samples) float 16 kHz audio of full scale ±1; (batch, frames, channels).

        For Whisper with positions added, and 1500 frames with `pad_to_30s`. Raises InputError for audio of another
        shape or dtype, and as `n_frames` does.
        """
        if audio.ndim != 2 or not audio.is_floating_point():
            found = f"{tuple(audio.shape)} {audio.dtype}"
            raise InputError(f"{self.name}: audio of shape {found}, expected (batch, samples) of a float type")
        audio = audio.to(next(self.model.parameters()).device, torch.float32)
        n_frames = self.n_frames(audio.shape[1])
        if self.family != "whisper":
            return front_convolutions(self.model, standardised(audio) if self.preprocessor.do_normalize else audio)
        if self.pad_to_30s:
            n_frames = self.model.config.max_source_positions
        encoder, gelu = self.model.encoder, functional.gelu
        hidden = gelu(encoder.conv2(gelu(encoder.conv1(self._log_mel(audio, n_frames)))))
        return hidden[:, :, :n_frames].transpose(1, 2) + encoder.embed_positions.weight[:n_frames]

    def trunk(
        self,
        front: torch.Tensor,
        n_frames: int | None = None,
        layers: Sequence[int] | None = None,
        frames: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Run the trainable part on the output of `front_end`, as far as the last layer asked for.

        Attention sees every frame, whichever are returned.

        Parameters
        ----------
        front : (batch, frames, channels) float
        n_frames : int, optional
            Leading frames to return, such as `n_frames(samples)` to leave out Whisper's padding; all by default.
        layers : sequence of int, optional
            Layers to return, -1 being the last; all by default.
        frames : (n,) int64, optional
            Frames to return instead of the leading ones.

        Returns
        -------
        hidden : (layers, batch, frames, dim)
            Layers and frames in the order in which they were asked for.
        """
        every = range(self.n_layers + 1)
        wanted = every if layers is None else [every[layer] for layer in layers]
        if frames is None:
            frames = slice(n_frames if n_frames and n_frames < front.shape[1] else None)
        states = enumerate(hidden_states(self.model, front, max(wanted), frames))
        kept = {layer: state for layer, state in states if layer in wanted}
        return torch.stack([kept[layer] for layer in wanted])

    def n_frames(self, n_samples: int) -> int:
        """Frames that `n_samples` of audio cover; raises InputError if these are none, or too many for Whisper."""
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

    def same_front_end(self, other: "SpeechEncoder") -> bool:
        """Whether another encoder's front end makes the same of audio, so that its output serves for both."""
        mine, its = self._front_state(), other._front_state()
        return mine.keys() == its.keys() and all(torch.equal(mine[name], its[name]) for name in mine)

    def train(self, mode: bool = True) -> "SpeechEncoder":
        """Stay in eval mode except for the dropout of LoRA adapters, which follows `mode`."""
        super().train(False)
        for module in self.modules():
            if hasattr(module, "lora_dropout"):
                module.lora_dropout.train(mode)
        return self

    def trainable_parameters(self) -> list[torch.nn.Parameter]:
        """Parameters to tune: the trunk's, or the adapters' alone after `lora`."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def lora(self, rank: int = 8, alpha: float = 32, dropout: float = 0.1, seed: int = 0) -> "SpeechEncoder":
        """Add low-rank adapters to the q, k, v and output projections of every block; only these stay trainable.

        Their product is scaled by `alpha / rank` (Hu et al. 2021, LoRA); `dropout` of their input follows `train`;
        `seed` is that of their initial values.
        """
        from peft import LoraConfig, LoraModel

        if self._tuner:
            raise InputError(f"{self.name}: has LoRA adapters already, expected none")
        if self.family == "wavlm":
            adapt_wavlm_attention(self.model)
        config = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=LORA_TARGETS)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self._tuner = (LoraModel(self.model, config, "default"),)
        return self.train(self.training)

    def save_pretrained(self, folder: Path) -> None:
        """Write a folder that `transformers.AutoModel` loads, adapters merged; whole or not at all."""
        model = copy.deepcopy(self._tuner[0]).merge_and_unload() if self._tuner else self.model
        preprocessor = copy.deepcopy(self.preprocessor)
        if self.family == "whisper":
            preprocessor.pad_to_30s = self.pad_to_30s
        with atomic_path(Path(folder)) as temporary, weights.quiet_transformers():
            model.save_pretrained(temporary)
            preprocessor.save_pretrained(temporary)

    def _trunk_parts(self) -> list[torch.nn.Module]:
        encoder = self.model.encoder
        if self.family == "whisper":
            return [encoder.layers, encoder.layer_norm]
        return [self.model.feature_projection, encoder]

    def _front_state(self) -> dict[str, torch.Tensor]:
        trunk = {id(parameter) for part in self._trunk_parts() for parameter in part.parameters()}
        whisper = self.family == "whisper"
        used = self.model.encoder if whisper else self.model
        state = {name: p for name, p in used.named_parameters() if id(p) not in trunk and name != "masked_spec_embed"}
        return {**state, "given": torch.tensor(self.pad_to_30s if whisper else self.preprocessor.do_normalize)}

    def _log_mel(self, audio: torch.Tensor, n_frames: int) -> torch.Tensor:
        """Whisper's log-mel input `(batch, mels, columns)`, including what the convolutions need past `n_frames`."""
        n_fft, hop = self.preprocessor.n_fft, self.preprocessor.hop_length
        columns = min(2 * n_frames + 2, 2 * self.model.config.max_source_positions)
        log_mel = whisper_log_mel(audio, self.mel_filters, columns, n_fft, hop)
        return log_mel.to(self.model.encoder.conv1.weight.dtype)
