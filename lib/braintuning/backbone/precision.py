"""Precision that models compute in: bfloat16 where the processor supports it, with float32 weights and losses."""

import os

import torch

from braintuning.errors import InputError, nearest

VARIABLE = "BRAINTUNING_PRECISION"
CHOICES = ("auto", "float32", "bfloat16")


def precision(device: str) -> str:
    """`float32` or `bfloat16` on a device, `cpu` or `cuda`, as the environment's `BRAINTUNING_PRECISION` asks.

    If it is unset or `auto`: bfloat16 on CUDA and on processors with instructions for it (AVX512-BF16, AMX), else
    float32. Raises InputError if it is anything else.
    """
    asked = os.environ.get(VARIABLE) or "auto"
    if asked not in CHOICES:
        raise InputError(f"{VARIABLE}: found {asked!r}, expected one of {', '.join(CHOICES)}{nearest(asked, CHOICES)}")
    if asked != "auto":
        return asked
    able = torch.cpu.get_capabilities()
    return "bfloat16" if device == "cuda" or able.get("avx512_bf16") or able.get("amx_bf16") else "float32"


def autocast(device: str) -> torch.autocast:
    """Context in which matrix products are computed in `precision(device)`; weights stay float32."""
    return torch.autocast(device, dtype=torch.bfloat16, enabled=precision(device) == "bfloat16")


def activation_dtype(device: str) -> torch.dtype:
    """Dtype of layers' outputs inside `autocast`."""
    return getattr(torch, precision(device))
