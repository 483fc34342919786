"""Tunes a small model in every process that torchrun starts; the first one saves it. Used by test_loop.py."""

import logging
import sys
from pathlib import Path

import torch
from accelerate import PartialState
from braintuning.tuning.loop import brain_tune
from braintuning.tuning.model import trainable_state
from tiny import encoder, tuning_material


def main(path: Path) -> None:
    """Tune and save the weights and losses."""
    torch.set_num_threads(1)
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    settings, train, validation = tuning_material()
    model, history = brain_tune(encoder(), train, validation, settings, checkpoint=path.with_suffix(".checkpoint"))
    processes = PartialState()
    if processes.is_main_process:
        torch.save({"weights": trainable_state(model), "history": history, "n": processes.num_processes}, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
