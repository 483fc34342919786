"""The grouped positional convolution of wav2vec2, HuBERT and WavLM, by Fourier transform.

It is 128 frames long, and convolution libraries are slow at long grouped kernels: on an H100 it took 40 of the 101 ms
of a whole forward pass in bfloat16. A product of spectra takes a tenth of the arithmetic.
"""

import torch

FEWEST_BY_TRANSFORM = 4
"""Clips for which the kernel's transform, which is needed once a batch, pays on a CPU."""


def positional_convolution(layer: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """What transformers' positional embedding layer gives, to float32 rounding.

    Parameters
    ----------
    layer : Module
        `encoder.pos_conv_embed` of a model of these families.
    hidden : (batch, frames, dim) float

    Returns
    -------
    embedded : (batch, frames, dim)
        In the dtype of `hidden`.
    """
    few = hidden.device.type == "cpu" and len(hidden) < FEWEST_BY_TRANSFORM and not torch.is_grad_enabled()
    if few or getattr(layer, "batch_norm", None) is not None:
        return layer(hidden)
    convolved = grouped_convolution(hidden, layer.conv.weight, layer.conv.bias, layer.conv.groups)
    return layer.activation(convolved.to(hidden.dtype))


def grouped_convolution(hidden: torch.Tensor, kernel: torch.Tensor, bias: torch.Tensor, groups: int) -> torch.Tensor:
    """Grouped convolution over frames with zeros around them, in float32 also under autocast.

    Frame t of the result sees frames t - length // 2 to t - length // 2 + length - 1.

    Parameters
    ----------
    hidden : (batch, frames, dim) float
    kernel : (dim, dim / groups, length) float
    bias : (dim,) float
    groups : int

    Returns
    -------
    convolved : (batch, frames, dim) float32
    """
    (batch, frames, dim), length = hidden.shape, kernel.shape[-1]
    n_fft = _good_length(frames + length - 1)
    with torch.autocast(hidden.device.type, enabled=False):
        signal = torch.fft.rfft(hidden.float(), n_fft, dim=1).view(batch, -1, groups, dim // groups)
        response = torch.fft.rfft(kernel.float(), n_fft, dim=-1).conj().view(groups, dim // groups, dim // groups, -1)
        product = signal.permute(1, 2, 0, 3) @ response.permute(3, 0, 2, 1)
        whole = torch.fft.irfft(product.permute(2, 0, 1, 3).reshape(batch, -1, dim), n_fft, dim=1)
        return whole.roll(length // 2, dims=1)[:, :frames] + bias.float()


def _good_length(n: int) -> int:
    """The smallest product of 2, 3 and 5 that is at least `n`, for which the transform is quick."""
    while True:
        rest = n
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return n
        n += 1
