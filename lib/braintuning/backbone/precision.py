"""In which precision models compute: bfloat16 where the processor has units for it, with float32 weights and losses."""

import os

import torch

from braintuning.errors import InputError, nearest

VARIABLE = "BRAINTUNING_PRECISION"
CHOICES = ("auto", "float32", "bfloat16")


def precision(device: str) -> str:
    """`float32` or `bfloat16`: what the environment variable `BRAINTUNING_PRECISION` asks for.

    Without it, or with `auto`: bfloat16 on CUDA and on processors with instructions for it (AVX512-BF16, AMX),
    else float32.

    Parameters
    ----------
    device : str
        `cpu` or `cuda`.

    Raises
    ------
    InputError
        The variable holds something else.
    """
    asked = os.environ.get(VARIABLE) or "auto"
    if asked not in CHOICES:
        raise InputError(f"{VARIABLE}: found {asked!r}, expected one of {', '.join(CHOICES)}{nearest(asked, CHOICES)}")
    if asked != "auto":
        return asked
    return "bfloat16" if device == "cuda" or _processor_has_bfloat16() else "float32"


def autocast(device: str) -> torch.autocast:
    """Context in which matrix products are computed in `precision(device)`; weights stay float32."""
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision(device) == "bfloat16")


def activation_dtype(device: str) -> torch.dtype:
    """Type of what a model's layers give inside `autocast`."""
    return getattr(torch, precision(device))


def _processor_has_bfloat16() -> bool:
    able = torch.cpu.get_capabilities()
    return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
