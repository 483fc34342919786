"""What a model is tuned to."""

import numpy as np

from braintuning.errors import InputError


def permute_blocks(n_rows: int, block_rows: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of a story in an order that moves every block of consecutive rows away from its place.

    The control of Moussa, Klakow & Toneva (2025): each volume keeps its spatial pattern and its neighbours, and loses
    the sound that evoked it.

    Parameters
    ----------
    n_rows : int
        Rows of the story.
    block_rows : int
        Rows that stay together; the last block holds what is left over.
    rng : numpy Generator

    Returns
    -------
    order : (n_rows,) int64
        `responses[order]` are the permuted responses; no row keeps its place.

    Raises
    ------
    InputError
        Fewer than two blocks.
    """
    blocks = np.split(np.arange(n_rows), np.arange(block_rows, n_rows, block_rows))
    if len(blocks) < 2:
        raise InputError(f"block permutation: found {n_rows} rows, expected more than one block of {block_rows}")
    order = np.arange(len(blocks))
    while (order == np.arange(len(blocks))).any():
        order = rng.permutation(len(blocks))
    return np.concatenate([blocks[block] for block in order])
