"""Tuning that is killed 20 times at random moments ends with the weights of one that was left alone, to the bit."""

import multiprocessing
import os
import random
import signal
import time

import numpy as np
import peft
import pytest
import tiny
import torch
from braintuning.settings import Tuning
from braintuning.tuned_model import StoryTargets
from braintuning.tuning import tune

EPOCHS, KILLS = 40, 20
assert peft, "imported before the forks, so that none of them is killed while it imports"


def stories(*seeds):
    made = {}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        times = 1.0 + 0.6 * np.arange(12)
        audio = rng.standard_normal(16_000 * 9).astype(np.float32)
        made[f"story{seed}"] = StoryTargets(audio, times, rng.standard_normal((12, 5)).astype(np.float32))
    return made


def tune_and_save(folder, checkpoint, lora_rank):
    torch.set_num_threads(1)
    settings = Tuning(
        clip_seconds=0.5, epochs=EPOCHS, patience=EPOCHS, batch_size=4, head_learning_rate=1e-2,
        trunk_learning_rate=1e-3, lora_rank=lora_rank,
    )  # fmt: skip
    report = (lambda line: (folder / "log").open("a").write(line + "\n")) if checkpoint else (lambda line: None)
    model, _ = tune(
        tiny.encoder("hubert"), stories(1, 2), stories(3), settings,
        checkpoint=folder / "checkpoint" if checkpoint else None, report=report,
    )  # fmt: skip
    torch.save(model.state_dict(), folder / ("killed.pt" if checkpoint else "whole.pt"))


@pytest.mark.parametrize("lora_rank", [None, 2], ids=["full", "lora"])
def test_20_kills_change_nothing(tmp_path, lora_rank):
    fork = multiprocessing.get_context("fork")
    whole = fork.Process(target=tune_and_save, args=(tmp_path, False, lora_rank))
    start = time.monotonic()
    whole.start()
    whole.join(300)
    duration = time.monotonic() - start
    moments, killed = random.Random(20), 0
    while killed < KILLS:
        victim = fork.Process(target=tune_and_save, args=(tmp_path, True, lora_rank))
        victim.start()
        victim.join(moments.uniform(0.02, 0.15) * duration)
        if victim.exitcode is not None:
            break
        os.kill(victim.pid, signal.SIGKILL)
        victim.join()
        killed += 1
    last = fork.Process(target=tune_and_save, args=(tmp_path, True, lora_rank))
    last.start()
    last.join(300)
    log = (tmp_path / "log").read_text()
    assert killed >= 10 and log.count("resumed after epoch") >= 5, log
    a, b = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "killed"))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
