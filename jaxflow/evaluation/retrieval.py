"""Retrieval: the pictures of a data set that are nearest to generated ones.

top-k    share of generated pictures whose prompt names one of the k nearest pictures
"""

import numpy as np
from jaxtyping import Float, Int

BLOCK = 256
"""Generated pictures compared at once."""


def nearest(
    generated: Float[np.ndarray, "n d"], pictures: Float[np.ndarray, "m d"], k: int
) -> Int[np.ndarray, "n k"]:
    """Positions of the k nearest pictures by Euclidean distance, the nearest first.

    Raises:
        ValueError: there are fewer than k pictures.

    >>> nearest(np.array([[0.9], [2.2]]), np.array([[0.0], [1.0], [2.0]]), 2).tolist()
    [[1, 0], [2, 1]]
    """
    if k > len(pictures):
        raise ValueError(f"k = {k}: must be at most {len(pictures)}, the number of pictures")
    lengths, found = np.sum(pictures**2, axis=1), []
    for start in range(0, len(generated), BLOCK):
        squared = lengths - 2 * generated[start : start + BLOCK] @ pictures.T  # less a number per row
        some = np.argpartition(squared, k - 1, axis=1)[:, :k]
        order = np.argsort(np.take_along_axis(squared, some, axis=1), axis=1)
        found.append(np.take_along_axis(some, order, axis=1))
    return np.concatenate(found)
