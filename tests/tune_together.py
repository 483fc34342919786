"""Tunes a small model in every process that torchrun starts; the first one saves it. Used by test_batches.py."""

import sys
from pathlib import Path

import torch
from braintuning.tuning import processes
from braintuning.tuning.loop import tune
from braintuning.tuning.model import trainable_state
from tiny import encoder, tuning_material


def main(path: Path) -> None:
    """Tune and save the weights and losses."""
    torch.set_num_threads(1)
    with processes.together("cpu"):
        settings, train, validation = tuning_material()
        model, history = tune(
            encoder(), train, validation, settings, checkpoint=path.with_suffix(".checkpoint"), report=print
        )
        if processes.rank() == 0:
            torch.save({"weights": trainable_state(model), "history": history, "n": processes.count()}, path)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
