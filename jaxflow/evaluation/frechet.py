"""Frechet distance between the Gaussians fitted to two sets of vectors.

    d^2 = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2)

The last term is the sum of the singular values of C1^1/2 C2^1/2, and so of any A B^T with C1 = A^T A and
C2 = B^T B: of the centred points themselves if they are fewer than their dimensions.

The estimate is biased upwards, more so for smaller sets: compare sets of equal size, and with the distance
between two sets of real data of that size.

Source: Dowson and Landau 1982; Heusel et al. 1706.08500, where the vectors are Inception features.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from jaxflow.evaluation import points


class Gaussian(NamedTuple):
    """The Gaussian fitted to a set of vectors."""

    mean: Float[np.ndarray, " d"]
    root: Float[np.ndarray, "m d"]
    """A of the covariance A^T A, with at most as many rows as points or dimensions."""


def frechet_distance(a: Float[np.ndarray, "n d"], b: Float[np.ndarray, "m d"]) -> float:
    """Squared Frechet distance between the Gaussians with the means and covariances of `a` and `b`.

    >>> corners = np.array([[0.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 2.0]])
    >>> round(frechet_distance(corners, corners + 3.0), 6)
    18.0

    Covariances divide by n - 1, as in torchmetrics; nothing is added to their diagonals.

    Raises:
        ValueError: these are not two sets of at least two finite points of equal dimension (`points.check`).
    """
    points.check(least=2, a=a, b=b)
    return between(fitted(a), fitted(b))


def fitted(of: Float[np.ndarray, "n d"]) -> Gaussian:
    """The Gaussian of at least two points, for distances from one set to many."""
    of = np.asarray(of, np.float64)
    mean = of.mean(axis=0)
    root = (of - mean) / np.sqrt(len(of) - 1)
    return Gaussian(mean, root if len(root) <= root.shape[1] else np.asarray(np.linalg.qr(root, mode="r")))


def between(a: Gaussian, b: Gaussian) -> float:
    """Squared Frechet distance between two Gaussians."""
    cross = np.linalg.svd(a.root @ b.root.T, compute_uv=False).sum()
    return float(np.sum((a.mean - b.mean) ** 2) + np.sum(a.root**2) + np.sum(b.root**2) - 2 * cross)
