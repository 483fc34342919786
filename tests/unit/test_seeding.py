import os
import subprocess
import sys

import numpy as np
from braintuning.results import generator


def test_same_purpose_same_numbers_whatever_ran_before():
    first = generator(0, "permute", "SIM01", "thewell").random(5)
    np.random.default_rng().random(3)
    generator(0, "noise").random(7)
    assert generator(0, "permute", "SIM01", "thewell").random(5).tolist() == first.tolist()


def test_every_seed_and_label_gives_its_own_numbers():
    purposes = [(0,), (1,), (0, "a"), (0, "b"), (0, "a", "b"), (0, "b", "a"), (0, "ab"), (0, "a", 1), (0, "a", 2)]
    assert len({generator(*purpose).random() for purpose in purposes}) == len(purposes)


def test_numbers_do_not_depend_on_the_process():
    code = "from braintuning.results import generator; print(generator(7, 'noise', 3).random())"
    environment = {**os.environ, "PYTHONHASHSEED": "123"}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert float(printed.stdout) == generator(7, "noise", 3).random()
