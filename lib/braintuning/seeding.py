"""Random generators that depend on what they are for, not on what ran before."""

import hashlib

import numpy as np


def generator(seed: int, *labels: str | int) -> np.random.Generator:
    """A generator for one purpose: the same `seed` and `labels` always give the same numbers."""
    digest = hashlib.sha256("/".join(map(str, (seed, *labels))).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))
