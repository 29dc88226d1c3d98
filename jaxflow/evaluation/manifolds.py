"""Nearest neighbours: precision, recall and memorisation.

The manifold of a set of points is the union of the balls around them that reach to their k-th
nearest neighbour in the set. Precision is the share of generated points within the real
manifold (are they plausible?), recall the share of real points within the generated one (is
everything there?).

Source: Kynkaanniemi et al. 1904.06991.
"""

import numpy as np
from jaxtyping import Bool, Float

from jaxflow.evaluation import points

Points = Float[np.ndarray, "n d"]


def distances(a: Points, b: Float[np.ndarray, "m d"]) -> Float[np.ndarray, "n m"]:
    """Euclidean distance of each point of `a` to each of `b`."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    squared = np.sum(a**2, 1)[:, None] + np.sum(b**2, 1) - 2 * a @ b.T
    return np.sqrt(np.maximum(squared, 0))


def nearest_distance(a: Points, b: Float[np.ndarray, "m d"]) -> Float[np.ndarray, " n"]:
    """Distance of each point of `a` to the nearest of `b`.

    Raises:
        ValueError: these are no two sets of finite points of equal dimension (`points.check`).
    """
    points.check(a=a, b=b)
    return distances(a, b).min(axis=1)


def precision_recall(real: Points, generated: Float[np.ndarray, "m d"], k: int = 3) -> tuple[float, float]:
    """Share of generated points within the real manifold, and of real points within the generated one.

    A point on the surface of a ball is within it, as in the paper; prdc leaves it out. The point itself
    is not counted among the k, as in prdc.

    Args:
        real: the points of one manifold.
        generated: those of the other; figures compare where the sizes of both sets are the same.
        k: which nearest neighbour a ball reaches to.

    Raises:
        ValueError: one of the sets has no k-th neighbours, or they are no two sets of finite points of equal
            dimension (`points.check`).
    """
    points.check(real=real, generated=generated)
    if not 1 <= k < min(len(real), len(generated)):
        raise ValueError(
            f"k = {k}: of {len(real)} real and {len(generated)} generated points at least one and at most"
            f" {min(len(real), len(generated)) - 1} neighbours can be asked for"
        )
    between = distances(real, generated)
    precision = _within(between.T, _radii(real, k)).mean()
    recall = _within(between, _radii(generated, k)).mean()
    return float(precision), float(recall)


def _radii(centres: Points, k: int) -> Float[np.ndarray, " n"]:
    # Column 0 of the sorted distances is the point itself.
    return np.partition(distances(centres, centres), k, axis=1)[:, k]


def _within(to_centres: Float[np.ndarray, "n m"], radii: Float[np.ndarray, " m"]) -> Bool[np.ndarray, " n"]:
    return np.asarray(np.any(to_centres <= radii, axis=1))
