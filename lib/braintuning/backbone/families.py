"""What differs between the families of speech models: input, blocks, attention, decoder."""

from collections.abc import Iterator
from types import MethodType

import torch
from torch.nn import functional
from transformers import PreTrainedModel, WhisperModel

from braintuning.backbone.positional_convolution import positional_convolution
from braintuning.backbone.pypi_weights import encoder_only


def standardised(audio: torch.Tensor) -> torch.Tensor:
    """Scale `(batch, samples)` float audio to zero mean and unit variance per clip.

    As transformers' Wav2Vec2FeatureExtractor does, with its 1e-7 added to the variance.
    """
    variance, mean = torch.var_mean(audio, dim=1, keepdim=True, correction=0)
    return (audio - mean) / torch.sqrt(variance + 1e-7)


def whisper_log_mel(audio: torch.Tensor, mel_filters: torch.Tensor, columns: int, n_fft: int, hop: int) -> torch.Tensor:
    """Whisper's log-mel input, equal to transformers' WhisperFeatureExtractor but no longer than it is needed.

    Parameters
    ----------
    audio : (batch, samples) float32
        At most `columns * hop` samples; padded with silence to that.
    mel_filters : (mels, n_fft / 2 + 1) float
    columns : int
        Length of the result; `2 * frames + 2` is what the convolutions see for that many frames.
    n_fft, hop : int
        Samples in the window, and from one column to the next.

    Returns
    -------
    log_mel : (batch, mels, columns) float32
        Also under autocast.
    """
    with torch.autocast(audio.device.type, enabled=False):
        padded = functional.pad(audio, (0, columns * hop - audio.shape[1]))
        window = torch.hann_window(n_fft, device=audio.device)
        power = torch.stft(padded, n_fft, hop, window=window, return_complex=True)[..., :-1].abs() ** 2
        log_mel = (mel_filters.float() @ power.contiguous()).clamp(min=1e-10).log10()
    log_mel = torch.maximum(log_mel, log_mel.amax(dim=(1, 2), keepdim=True) - 8.0)
    return (log_mel + 4.0) / 4.0


def whisper_states(
    model: WhisperModel, front: torch.Tensor, last: int, frames: slice | torch.Tensor
) -> Iterator[torch.Tensor]:
    """Hidden states of Whisper's encoder, from its convolved input with positions added.

    Parameters
    ----------
    model : WhisperModel
    front : (batch, frames, dim) float
    last : int
        Layer to stop at.
    frames : slice or (n,) int64
        Frames to give, the leading ones where it is a slice; attention sees every frame.

    Yields
    ------
    state : (batch, n, dim)
        What enters the first block, then what each block gives; that of the model's last block after the final norm.
    """
    hidden = front
    for number, block in enumerate(model.encoder.layers[:last], 1):
        yield hidden[:, frames]
        if number == last and _some(frames):
            hidden = _whisper_block(block, hidden, frames)
            break
        hidden = block(hidden, None)
    else:
        hidden = hidden[:, frames]
    yield model.encoder.layer_norm(hidden) if last == len(model.encoder.layers) else hidden


def wav2vec2_states(
    model: PreTrainedModel, front: torch.Tensor, last: int, frames: slice | torch.Tensor
) -> Iterator[torch.Tensor]:
    """Hidden states of wav2vec2, HuBERT or WavLM, from what the convolutions give.

    Parameters
    ----------
    model : PreTrainedModel
    front : (batch, frames, channels) float
        The model projects it to `dim` channels.
    last : int
        Layer to stop at.
    frames : slice or (n,) int64
        Frames to give, the leading ones where it is a slice; attention sees every frame.

    Yields
    ------
    state : (batch, n, dim)
        What enters the first block, then what each block gives; that of the model's last block after the final norm
        with `do_stable_layer_norm`.
    """
    encoder, norm_comes_last = model.encoder, model.config.do_stable_layer_norm
    hidden = model.feature_projection(front)
    hidden = hidden if isinstance(hidden, torch.Tensor) else hidden[0]
    hidden = hidden + positional_convolution(encoder.pos_conv_embed, hidden)
    hidden = hidden if norm_comes_last else encoder.layer_norm(hidden)
    position_bias = {}
    for number, block in enumerate(encoder.layers[:last], 1):
        yield hidden[:, frames]
        if number == last and _some(frames) and model.config.model_type != "wavlm":
            hidden = _wav2vec2_block(block, hidden, frames, norm_comes_last)
            break
        hidden = block(hidden, **position_bias)
        if isinstance(hidden, tuple):
            hidden, position_bias["position_bias"] = hidden
    else:
        hidden = hidden[:, frames]
    yield encoder.layer_norm(hidden) if norm_comes_last and last == len(encoder.layers) else hidden


def _some(frames: slice | torch.Tensor) -> bool:
    return isinstance(frames, torch.Tensor) or frames.stop is not None


def _whisper_block(block: torch.nn.Module, hidden: torch.Tensor, frames: slice | torch.Tensor) -> torch.Tensor:
    """What a block of Whisper's encoder gives for some frames."""
    normed = block.self_attn_layer_norm(hidden)
    attended, _ = block.self_attn(normed[:, frames], key_value_states=normed)
    hidden = hidden[:, frames] + attended
    return hidden + block.fc2(block.activation_fn(block.fc1(block.final_layer_norm(hidden))))


def _wav2vec2_block(
    block: torch.nn.Module, hidden: torch.Tensor, frames: slice | torch.Tensor, norm_comes_first: bool
) -> torch.Tensor:
    """What a block of wav2vec2 or HuBERT gives for some frames."""
    heard = block.layer_norm(hidden) if norm_comes_first else hidden
    hidden = hidden[:, frames] + block.attention(heard[:, frames], key_value_states=heard)[0]
    if not norm_comes_first:
        hidden = block.layer_norm(hidden)
        return block.final_layer_norm(hidden + block.feed_forward(hidden))
    hidden = hidden + block.feed_forward(block.final_layer_norm(hidden))
    adapter = getattr(block, "adapter_layer", None)
    return hidden if adapter is None else hidden + adapter(hidden)


def adapt_wavlm_attention(model: PreTrainedModel) -> None:
    """Let every block of a WavLM model attend through its projection modules, so that adapters on them take part."""
    for block in model.encoder.layers:
        block.attention.torch_multi_head_self_attention = MethodType(_wavlm_attention, block.attention)


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


def without_decoder(model: WhisperModel) -> WhisperModel:
    """Give the model itself where its decoder has no layers, else an `encoder_only` one with its encoder's tensors."""
    return model if model.config.decoder_layers == 0 else encoder_only(model.config, model.encoder.state_dict())
