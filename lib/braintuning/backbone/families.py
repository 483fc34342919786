"""Differences between the model families: input features, transformer blocks, attention."""

from collections.abc import Iterator
from types import MethodType

import torch
from torch.nn import functional
from transformers import PreTrainedModel

from braintuning.backbone.fast import positional_convolution


def standardised(audio: torch.Tensor) -> torch.Tensor:
    """Scale (batch, samples) float audio to zero mean and unit variance per clip, as Wav2Vec2FeatureExtractor does."""
    variance, mean = torch.var_mean(audio, dim=1, keepdim=True, correction=0)
    return (audio - mean) / torch.sqrt(variance + 1e-7)


def whisper_log_mel(audio: torch.Tensor, mel_filters: torch.Tensor, columns: int, n_fft: int, hop: int) -> torch.Tensor:
    """Whisper's log-mel input, equal to that of transformers' WhisperFeatureExtractor but only as long as needed.

    (batch, samples) float32 audio, padded with silence to `columns * hop` samples, goes through (mels, n_fft / 2 + 1)
    filters to (batch, mels, columns) float32, also under autocast; the convolutions need `2 * frames + 2` columns.
    """
    with torch.autocast(audio.device.type, enabled=False):
        padded = functional.pad(audio, (0, columns * hop - audio.shape[1]))
        window = torch.hann_window(n_fft, device=audio.device)
        power = torch.stft(padded, n_fft, hop, window=window, return_complex=True)[..., :-1].abs() ** 2
        log_mel = (mel_filters.float() @ power.contiguous()).clamp(min=1e-10).log10()
    log_mel = torch.maximum(log_mel, log_mel.amax(dim=(1, 2), keepdim=True) - 8.0)
    return (log_mel + 4.0) / 4.0


def hidden_states(
    model: PreTrainedModel, front: torch.Tensor, last: int, frames: slice | torch.Tensor
) -> Iterator[torch.Tensor]:
    """Yield hidden states, (batch, n, dim), of layer 0 to layer `last` from the front end's output.

    `frames` are those to return, (n,) int64 or a slice of the leading ones; see `SpeechEncoder`.
    """
    encoder, family = model.encoder, model.config.model_type
    pre_norm = family == "whisper" or _normalises_first(model)
    hidden = front if family == "whisper" else _positioned(model, front)
    all_frames = isinstance(frames, slice) and frames.stop is None
    arguments = {"attention_mask": None}
    for number, block in enumerate(encoder.layers[:last], 1):
        yield hidden[:, frames]
        if number == last and not all_frames and family != "wavlm":
            if family == "whisper":
                hidden = _whisper_block(block, hidden, frames)
            else:
                hidden = _wav2vec2_block(block, hidden, frames, pre_norm)
            break
        hidden = block(hidden, **arguments)
        if isinstance(hidden, tuple):  # WavLM's first block makes the position bias of all
            hidden, arguments["position_bias"] = hidden
    else:
        hidden = hidden[:, frames]
    yield encoder.layer_norm(hidden) if pre_norm and last == len(encoder.layers) else hidden


def _positioned(model: PreTrainedModel, front: torch.Tensor) -> torch.Tensor:
    """Input of the first block in every family but Whisper."""
    hidden = model.feature_projection(front)
    hidden = hidden if isinstance(hidden, torch.Tensor) else hidden[0]
    hidden = hidden + positional_convolution(model.encoder.pos_conv_embed, hidden)
    return hidden if _normalises_first(model) else model.encoder.layer_norm(hidden)


def _normalises_first(model: PreTrainedModel) -> bool:
    """Whether blocks normalise their input, and the model its last output (Data2Vec never does)."""
    return getattr(model.config, "do_stable_layer_norm", False)


def _whisper_block(block: torch.nn.Module, hidden: torch.Tensor, frames: slice | torch.Tensor) -> torch.Tensor:
    """Output of a Whisper block at some frames."""
    normed = block.self_attn_layer_norm(hidden)
    attended, _ = block.self_attn(normed[:, frames], key_value_states=normed)
    hidden = hidden[:, frames] + attended
    return hidden + block.fc2(block.activation_fn(block.fc1(block.final_layer_norm(hidden))))


def _wav2vec2_block(
    block: torch.nn.Module, hidden: torch.Tensor, frames: slice | torch.Tensor, pre_norm: bool
) -> torch.Tensor:
    """Output of a block of a family other than Whisper and WavLM at some frames."""
    normed = block.layer_norm(hidden) if pre_norm else hidden
    hidden = hidden[:, frames] + block.attention(normed[:, frames], key_value_states=normed)[0]
    if not pre_norm:
        hidden = block.layer_norm(hidden)
        return block.final_layer_norm(hidden + block.feed_forward(hidden))
    hidden = hidden + block.feed_forward(block.final_layer_norm(hidden))
    adapter = getattr(block, "adapter_layer", None)
    return hidden if adapter is None else hidden + adapter(hidden)


def adapt_wavlm_attention(model: PreTrainedModel) -> None:
    """Let every WavLM block attend through its projection modules, so that adapters on them take effect."""
    for block in model.encoder.layers:
        block.attention.torch_multi_head_self_attention = MethodType(_wavlm_attention, block.attention)


def _wavlm_attention(
    attention: torch.nn.Module, hidden: torch.Tensor, mask: None, bias: torch.Tensor
) -> tuple[torch.Tensor, None]:
    """WavLM's attention through its projection modules; transformers reads their weights, bypassing adapters."""
    batch, frames, _ = hidden.shape

    def heads(projection: torch.nn.Module) -> torch.Tensor:
        return projection(hidden).view(batch, frames, attention.num_heads, -1).transpose(1, 2)

    query, key, value = heads(attention.q_proj), heads(attention.k_proj), heads(attention.v_proj)
    bias = bias.view(batch, attention.num_heads, frames, frames).to(query.dtype)
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
    return attention.out_proj(mixed.transpose(1, 2).reshape(batch, frames, -1)), None
