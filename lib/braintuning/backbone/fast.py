"""Exact but faster convolutions of every family but Whisper, and layer norms that stay in the dtype of activations.

The base models normalise each channel of the first convolution over the whole clip, which writes and reads the largest
array of a forward pass several times, in float32 even under autocast. A channel's mean and variance follow from those
of the few samples under its kernel, so that the normalised result is one matrix product.

The positional convolution is grouped and 128 frames long, for which convolution libraries are slow: on an H100 it took
40 of the 101 ms of a forward pass in bfloat16. A product of spectra needs a tenth of the arithmetic.

Transformer blocks can be compiled as well, where the environment asks for it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from scipy.fft import next_fast_len
from torch.autograd.function import FunctionCtx
from torch.nn import functional
from transformers import PreTrainedModel

from braintuning.errors import InputError

COMPILE = "BRAINTUNING_COMPILE"
ROWS_AT_ONCE = 1024
"""Rows of patches whose products make one matrix product of a batch: few long ones keep most of a GPU waiting."""
ALIGNED = 8
"""GPUs multiply matrices faster where the length that is summed over is a multiple of this."""
FEWEST_BY_TRANSFORM = 4
"""Clips from which the transform of the kernel, needed once a batch, pays off on a CPU."""

Kernels = dict[torch.nn.Module, tuple[int, torch.Tensor]]
"""Of each positional layer, the latest transform length and the kernel's spectrum at that length."""
_kept: ContextVar[Kernels | None] = ContextVar("kept", default=None)


def front_convolutions(model: PreTrainedModel, audio: torch.Tensor) -> torch.Tensor:
    """Output `(batch, frames, channels)` of the feature extractor for `(batch, samples)` audio, to float32 rounding."""
    layers = model.feature_extractor.conv_layers
    norm = getattr(layers[0], "layer_norm", None)
    if not isinstance(norm, torch.nn.GroupNorm):
        return model.feature_extractor(audio).transpose(1, 2)
    hidden = layers[0].activation(normalised_convolution(audio, layers[0].conv, norm))
    for layer in layers[1:]:
        hidden = layer.activation(strided_convolution(hidden, layer.conv))
    return hidden


def normalised_convolution(audio: torch.Tensor, conv: torch.nn.Conv1d, norm: torch.nn.GroupNorm) -> torch.Tensor:
    """`norm(conv(audio))` as one matrix product, where each channel is a group of its own.

    A channel is `w . p + b` of the samples p under its kernel w. With the mean m and the covariance C of p over a clip,
    its mean is `w . m + b` and its variance `w C w`; the convolution's own b drops out. `conv` takes `(batch, samples)`
    audio as its one channel, without padding; the result, `(batch, frames, channels)`, has autocast's dtype under it.
    """
    kind = audio.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else audio.dtype
    with torch.autocast(kind, enabled=False):
        weight = conv.weight[:, 0]
        patches = audio.unfold(1, weight.shape[1], conv.stride[0])
        exact = patches.double()
        mean = exact.mean(dim=1, keepdim=True)
        covariance = products(exact - mean) / exact.shape[1]
        variance = ((weight.double() @ covariance) * weight.double()).sum(dim=-1).clamp_min(0)
        scale = norm.weight / torch.sqrt(variance + norm.eps)
        shift = norm.bias - (mean @ weight.double().T)[:, 0] * scale
        rows = functional.pad(patches.to(dtype), (0, 1), value=1.0)
        kernel = torch.cat([weight * scale[..., None], shift[..., None]], dim=-1).to(dtype)
        fill = 0, -kernel.shape[-1] % ALIGNED
        return functional.pad(rows, fill) @ functional.pad(kernel, fill).mT


def strided_convolution(hidden: torch.Tensor, conv: torch.nn.Conv1d) -> torch.Tensor:
    """`conv` over the frames of contiguous `(batch, frames, channels)` activations, unpadded, as matrix products.

    As many taps of the kernel as its stride lie beside each other in memory, and make one product without a copy.
    """
    (batch, frames, channels), length, step = hidden.shape, conv.kernel_size[0], conv.stride[0]
    n = (frames - length) // step + 1
    weight = conv.weight.permute(2, 1, 0)
    total = None
    for first in range(0, length, step):
        taps = weight[first : first + step].flatten(0, 1)
        start = hidden.storage_offset() + first * channels
        rows = hidden.as_strided((batch, n, len(taps)), (frames * channels, step * channels, 1), start)
        taps = taps.expand(batch, -1, -1)
        total = torch.bmm(rows, taps) if total is None else total.baddbmm_(rows, taps.to(total.dtype))
    return total if conv.bias is None else total + conv.bias


def products(rows: torch.Tensor) -> torch.Tensor:
    """`rows.mT @ rows` of (batch, n, k) rows where n is large and k small: summed over stretches of `ROWS_AT_ONCE`."""
    batch, n, k = rows.shape
    stretches = functional.pad(rows, (0, 0, 0, -n % ROWS_AT_ONCE)).view(-1, ROWS_AT_ONCE, k)
    return (stretches.mT @ stretches).view(batch, -1, k, k).sum(dim=1)


class LayerNorm(torch.nn.LayerNorm):
    """A layer norm with float32 weights whose output keeps its input's dtype under autocast."""

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Normalise the last dimension."""
        with torch.autocast(hidden.device.type, enabled=False):
            if hidden.dtype != self.weight.dtype and not torch.compiler.is_compiling():
                return MixedNorm.apply(hidden, self.weight, self.bias, self.eps)
            return super().forward(hidden.to(self.weight.dtype)).to(hidden.dtype)


class MixedNorm(torch.autograd.Function):
    """Layer norm of half-precision activations by float32 weights; mean and variance are computed in float32.

    CUDA's kernel takes weights in the dtype of activations alone. Near 1 these would miss the small steps of tuning:
    the weights are applied after it, in forward. A CPU's kernel adds the gradients of weights up in the dtype of
    activations, in which a sum of a thousand rows stops growing: there its backward pass is computed in float32.
    """

    @staticmethod
    def forward(
        ctx: FunctionCtx, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float
    ) -> torch.Tensor:
        """Normalise the last dimension, that of weight and bias."""
        if hidden.device.type == "cpu":
            found, mean, scale = torch.native_layer_norm(hidden, weight.shape, weight, bias, eps)
        else:
            normed, mean, scale = torch.native_layer_norm(hidden, weight.shape, None, None, eps)
            found = torch.addcmul(bias, normed, weight, out=torch.empty_like(hidden))
        ctx.save_for_backward(hidden, weight, bias, mean, scale)
        return found

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Gradients of hidden, weight and bias."""
        hidden, weight, bias, mean, scale = ctx.saved_tensors
        dtype = weight.dtype if hidden.device.type == "cpu" else hidden.dtype
        gradient, inputs, weights, biases = (part.to(dtype) for part in (gradient, hidden, weight, bias))
        found = torch.ops.aten.native_layer_norm_backward(
            gradient, inputs, weight.shape, mean, scale, weights, biases, list(ctx.needs_input_grad[:3])
        )
        return *found, None


def keep_dtype_in_norms(part: torch.nn.Module) -> None:
    """Make a `LayerNorm` of every layer norm with weights in a part of a model; they keep their names."""
    for module in part.modules():
        if type(module) is torch.nn.LayerNorm and module.elementwise_affine:
            module.__class__ = LayerNorm


def compile_blocks(model: PreTrainedModel) -> None:
    """Compile each transformer block by `torch.compile` where the environment's `BRAINTUNING_COMPILE` is 1.

    One compilation serves all blocks of a model; it takes up to a minute, again where gradients are off and at the
    second number of clips or frames. Parameters keep their names; a compiled block stays as it is. Raises InputError
    for another value than 0 or 1.
    """
    asked = os.environ.get(COMPILE) or "0"
    if asked not in ("0", "1"):
        raise InputError(f"{COMPILE}: found {asked!r}, expected 0 or 1")
    for block in model.encoder.layers if asked == "1" else ():
        if block._compiled_call_impl is None:
            block.compile()


@contextmanager
def kept_kernels(kernels: Kernels) -> Iterator[None]:
    """Reuse the spectra in `kernels`, and add those that are missing, wherever gradients are off.

    Only for as long as no weight changes: spectra are not compared with the weights they came from.
    """
    before = _kept.set(kernels)
    try:
        yield
    finally:
        _kept.reset(before)


def positional_convolution(layer: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """Output of a model's `encoder.pos_conv_embed`, to float32 rounding, in shape, (batch, frames, dim), and dtype.

    Data2Vec's several convolutions, and one with a batch norm, are left to transformers.
    """
    kept = None if torch.is_grad_enabled() else _kept.get()
    few = hidden.device.type == "cpu" and len(hidden) < FEWEST_BY_TRANSFORM and not torch.is_grad_enabled()
    other = not hasattr(layer, "conv") or getattr(layer, "batch_norm", None) is not None
    if (few and kept is None) or other:
        return layer(hidden)
    length = layer.conv.kernel_size[0]
    n_fft = next_fast_len(hidden.shape[1] + length - 1, real=True)
    kept_length, response = (kept or {}).get(layer, (None, None))
    if kept_length != n_fft:
        response = spectrum(layer.conv.weight, layer.conv.groups, n_fft)
        if kept is not None:
            response = response.resolve_conj().contiguous()
            kept[layer] = n_fft, response
    return layer.activation(spectral_product(hidden, response, n_fft, length, layer.conv.bias).to(hidden.dtype))


def spectrum(kernel: torch.Tensor, groups: int, n_fft: int) -> torch.Tensor:
    """Conjugate spectrum, (frequencies, groups, dim / groups in, dim / groups out), of a grouped Conv1d weight."""
    with torch.autocast(kernel.device.type, enabled=False):
        response = torch.fft.rfft(kernel.float(), n_fft, dim=-1).conj()
    return response.view(groups, kernel.shape[1], kernel.shape[1], -1).permute(3, 0, 2, 1)


def spectral_product(
    hidden: torch.Tensor, response: torch.Tensor, n_fft: int, length: int, bias: torch.Tensor
) -> torch.Tensor:
    """Zero-padded convolution over frames of `hidden`, `(batch, frames, dim)`, with a kernel of known `spectrum`.

    Frame t of the float32 result depends on frames t - length // 2 to t - length // 2 + length - 1.
    """
    (batch, frames, dim), groups = hidden.shape, response.shape[1]
    with torch.autocast(hidden.device.type, enabled=False):
        signal = torch.fft.rfft(hidden.float(), n_fft, dim=1).view(batch, -1, groups, dim // groups)
        product = signal.permute(1, 2, 0, 3) @ response
        whole = torch.fft.irfft(product.permute(2, 0, 1, 3).reshape(batch, -1, dim), n_fft, dim=1)
        return whole.roll(length // 2, dims=1)[:, :frames] + bias.float()
