"""The grouped positional convolution of wav2vec2, HuBERT and WavLM, by Fourier transform.

It is 128 frames long, and convolution libraries are slow at long grouped kernels: on an H100 it took 40 of the 101 ms
of a whole forward pass in bfloat16. A product of spectra takes a tenth of the arithmetic.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

FEWEST_BY_TRANSFORM = 4
"""Clips for which the kernel's transform, which is needed once a batch, pays on a CPU."""


Kernels = dict[tuple[torch.nn.Module, int], torch.Tensor]
"""Spectra of layers' kernels for some length of the transform."""
_kept: ContextVar[Kernels | None] = ContextVar("kept", default=None)


@contextmanager
def kept_kernels(kernels: Kernels) -> Iterator[None]:
    """Keep the spectra of kernels in `kernels`, and take them from there, wherever no gradient is asked for.

    For as long as no weight changes: what was kept is not compared with the weights. Of each layer the last length
    is kept.
    """
    before = _kept.set(kernels)
    try:
        yield
    finally:
        _kept.reset(before)


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
    kept = None if torch.is_grad_enabled() else _kept.get()
    few = hidden.device.type == "cpu" and len(hidden) < FEWEST_BY_TRANSFORM and not torch.is_grad_enabled()
    if (few and kept is None) or getattr(layer, "batch_norm", None) is not None:
        return layer(hidden)
    groups, length = layer.conv.groups, layer.conv.kernel_size[0]
    n_fft = _good_length(hidden.shape[1] + length - 1)
    if kept is None:
        response = spectrum(layer.conv.weight, groups, n_fft)
    elif (layer, n_fft) in kept:
        response = kept[layer, n_fft]
    else:
        for other in [key for key in kept if key[0] is layer]:
            del kept[other]
        response = spectrum(layer.conv.weight, groups, n_fft).resolve_conj().contiguous()
        kept[layer, n_fft] = response
    return layer.activation(_convolved(hidden, response, n_fft, length, layer.conv.bias).to(hidden.dtype))


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
    n_fft = _good_length(hidden.shape[1] + kernel.shape[-1] - 1)
    return _convolved(hidden, spectrum(kernel, groups, n_fft), n_fft, kernel.shape[-1], bias)


def spectrum(kernel: torch.Tensor, groups: int, n_fft: int) -> torch.Tensor:
    """Conjugate spectrum of a kernel, (dim, dim / groups, length); (frequencies, groups, channels in, channels out)."""
    with torch.autocast(kernel.device.type, enabled=False):
        response = torch.fft.rfft(kernel.float(), n_fft, dim=-1).conj()
    return response.view(groups, kernel.shape[1], kernel.shape[1], -1).permute(3, 0, 2, 1)


def _convolved(
    hidden: torch.Tensor, response: torch.Tensor, n_fft: int, length: int, bias: torch.Tensor
) -> torch.Tensor:
    (batch, frames, dim), groups = hidden.shape, response.shape[1]
    with torch.autocast(hidden.device.type, enabled=False):
        signal = torch.fft.rfft(hidden.float(), n_fft, dim=1).view(batch, -1, groups, dim // groups)
        product = signal.permute(1, 2, 0, 3) @ response
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
