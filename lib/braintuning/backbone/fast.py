"""The convolutions of wav2vec2, HuBERT and WavLM, the first of which takes its normalisation in.

The base models normalise each channel of the first convolution over the whole clip: the largest array of a forward pass
is written and read several times, in float32 also under autocast. A channel's mean and variance follow from those of
the few samples that the kernel sees, so that the normalised result is one matrix product.
"""

import torch
from transformers import PreTrainedModel


def convolved(model: PreTrainedModel, audio: torch.Tensor) -> torch.Tensor:
    """What the model's feature extractor gives, to float32 rounding; for a front end that does not learn.

    Parameters
    ----------
    model : PreTrainedModel
    audio : (batch, samples) float32

    Returns
    -------
    hidden : (batch, frames, channels)
    """
    layers = model.feature_extractor.conv_layers
    norm = getattr(layers[0], "layer_norm", None)
    if not isinstance(norm, torch.nn.GroupNorm) or norm.num_groups != norm.num_channels:
        return model.feature_extractor(audio).transpose(1, 2)
    hidden = layers[0].activation(normalised_convolution(audio, layers[0].conv, norm))
    for layer in layers[1:]:
        hidden = layer(hidden)
    return hidden.transpose(1, 2)


def normalised_convolution(audio: torch.Tensor, conv: torch.nn.Conv1d, norm: torch.nn.GroupNorm) -> torch.Tensor:
    """`norm(conv(audio))` with a group for each channel, as one matrix product.

    A channel is `w . p + b` of the samples p under its kernel w. With the mean m and the covariance C of p over a clip,
    its mean is `w . m + b` and its variance `w C w`; the convolution's own b drops out.

    Parameters
    ----------
    audio : (batch, samples) float
    conv : Conv1d
        One channel in, no padding.
    norm : GroupNorm

    Returns
    -------
    normalised : (batch, channels, frames)
        In the dtype of autocast where that is on.
    """
    kind = audio.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else audio.dtype
    with torch.autocast(kind, enabled=False):
        weight = conv.weight[:, 0]
        patches = audio.unfold(1, weight.shape[1], conv.stride[0])
        exact = patches.double()
        mean = exact.mean(dim=1, keepdim=True)
        exact = exact - mean
        covariance = exact.mT @ exact / exact.shape[1]
        variance = ((weight.double() @ covariance) * weight.double()).sum(dim=-1).clamp_min(0)
        scale = norm.weight / torch.sqrt(variance + norm.eps)
        shift = norm.bias - (mean @ weight.double().T)[:, 0] * scale
        kernel = (weight * scale[..., None]).to(dtype)
        return torch.baddbmm(shift[..., None].to(dtype), kernel, patches.to(dtype).mT)
