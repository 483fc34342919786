import numpy as np
import pytest
import tiny
import torch
from braintuning.backbone import precision
from braintuning.pipeline.steps import made_on
from tiny import refused


@pytest.fixture
def asked(monkeypatch):
    return lambda value: monkeypatch.setenv(precision.VARIABLE, value)


def on_a_processor(monkeypatch, **able):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": True, **able})


@pytest.mark.parametrize("instruction", ["avx512_bf16", "amx_bf16"])
def test_bfloat16_where_the_processor_has_it(instruction, asked, monkeypatch):
    asked("auto")
    on_a_processor(monkeypatch, **{instruction: True})
    assert precision.precision("cpu") == "bfloat16" == precision.precision("cuda")
    on_a_processor(monkeypatch, **{instruction: False})
    assert precision.precision("cpu") == "float32" and precision.precision("cuda") == "bfloat16"
    monkeypatch.delenv(precision.VARIABLE)
    assert precision.precision("cpu") == "float32"


def test_what_is_asked_for_is_done_and_said(asked):
    for value in ("float32", "bfloat16"):
        asked(value)
        assert {precision.precision(device) for device in ("cpu", "cuda")} == {value}
        assert precision.activation_dtype("cpu") == getattr(torch, value)
        with precision.autocast("cpu"):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == getattr(torch, value)
        assert made_on("cpu") == f"cpu, {value}"
    asked("bf16")
    refused(lambda: precision.precision("cpu"), precision.VARIABLE, "'bf16'", "bfloat16")


@pytest.mark.parametrize("family", tiny.CONFIGS)
def test_states_in_bfloat16_are_near_those_in_float32(family, asked):
    """A bfloat16 number has eight bits; after some layers of roundings two per cent of a state's length."""
    encoder, audio = (
        tiny.encoder(family),
        torch.from_numpy(np.stack([tiny.sound(seed, seconds=2.0) for seed in range(3)])).float(),
    )
    found = {}
    for value in ("float32", "bfloat16"):
        asked(value)
        with torch.no_grad(), precision.autocast("cpu"):
            found[value] = encoder(audio).float()
    for exact, rounded in zip(found["float32"], found["bfloat16"], strict=True):
        assert 0 < (rounded - exact).norm() / exact.norm() < 0.02
