"""Tuning that is killed many times at random moments ends with the weights of one that was left alone, to the bit."""

import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import peft
import pytest
import tiny
import torch
from braintuning.study.settings import Tuning
from braintuning.tuning.loop import brain_tune
from braintuning.tuning.model import StoryTargets

assert peft, "imported before the forks, so that none of them is killed while it imports"


def stories(*seeds):
    made = {}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        times = 1.0 + 0.6 * np.arange(12)
        audio = rng.standard_normal(16_000 * 9).astype(np.float32)
        made[f"story{seed}"] = StoryTargets(audio, times, rng.standard_normal((12, 5)).astype(np.float32))
    return made


def tune_and_save(folder, checkpoint, lora_rank, epochs):
    torch.set_num_threads(1)
    settings = Tuning(
        clip_seconds=0.5, epochs=epochs, patience=epochs, batch_size=4, head_learning_rate=1e-2,
        trunk_learning_rate=1e-3, lora_rank=lora_rank,
    )  # fmt: skip
    log = folder / "log" if checkpoint else Path(os.devnull)
    with tiny.listening(lambda line: log.open("a").write(line + "\n")):
        model, history = brain_tune(
            tiny.encoder("hubert"), stories(1, 2), stories(3), settings,
            checkpoint=folder / "checkpoint" if checkpoint else None, aim="control",
        )  # fmt: skip
    done = {"weights": model.state_dict(), "history": history}
    torch.save(done, folder / ("killed.pt" if checkpoint else "whole.pt"))


def lines_of(log):
    return log.read_text().splitlines() if log.exists() else []


def kill_at_a_random_moment(victim, log, moments):
    """Kill it before it has started well, or somewhere in the epochs after one to three more lines of its log."""
    wanted = len(lines_of(log)) + moments.randint(0, 3)
    while victim.is_alive() and len(lines_of(log)) < wanted:
        time.sleep(0.005)
    time.sleep(moments.uniform(0, 0.1))
    os.kill(victim.pid, signal.SIGKILL)
    victim.join()


@pytest.mark.parametrize(("lora_rank", "epochs", "kills"), [(None, 40, 10), (2, 32, 8)], ids=["full", "lora"])
def test_kills_change_nothing(tmp_path, lora_rank, epochs, kills):
    fork, moments, log = multiprocessing.get_context("fork"), random.Random(20), tmp_path / "log"

    def start(checkpoint):
        process = fork.Process(target=tune_and_save, args=(tmp_path, checkpoint, lora_rank, epochs))
        process.start()
        return process

    whole = start(checkpoint=False)
    whole.join(300)
    for _ in range(kills):
        victim = start(checkpoint=True)
        kill_at_a_random_moment(victim, log, moments)
        assert victim.exitcode == -signal.SIGKILL, "it was done before it could be killed"
    start(checkpoint=True).join(300)
    resumed = sum("resumed after epoch" in line for line in lines_of(log))
    assert resumed >= kills / 4, lines_of(log)
    a, b = (torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "killed"))
    assert a["history"] == b["history"] and len(a["history"]) == epochs + 1
    a, b = a["weights"], b["weights"]
    assert a["head.weight"].any(), "an untuned model would prove nothing"
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
