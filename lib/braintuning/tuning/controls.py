"""What a model is tuned to."""

import numpy as np

from braintuning.errors import InputError

DRAWS = 1000


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
        `responses[order]` are the permuted responses. Every row moves by `block_rows` or more; where a story has too
        few blocks for that, of `DRAWS` orders the one whose least moved row moves farthest, and that by 1 at least.

    Raises
    ------
    InputError
        Fewer than two blocks.
    """
    blocks = np.split(np.arange(n_rows), np.arange(block_rows, n_rows, block_rows))
    if len(blocks) < 2:
        raise InputError(f"block permutation: found {n_rows} rows, expected more than one block of {block_rows}")
    farthest, best = 0, None
    for _ in range(DRAWS):
        order = np.concatenate([blocks[block] for block in rng.permutation(len(blocks))])
        moved = np.abs(order - np.arange(n_rows)).min()
        if moved > farthest:
            farthest, best = moved, order
        if moved >= block_rows:
            break
    return best
