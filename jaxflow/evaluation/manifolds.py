"""Nearest neighbours: precision, recall and memorisation.

The manifold of a set of points is the union of balls, one around each point, with the distance to its k-th
nearest neighbour in the set as radius. Precision is the share of generated points in the manifold of the real
ones (plausibility), recall the share of real points in that of the generated ones (coverage).

Source: Kynkaanniemi et al. 1904.06991.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Shaped

from jaxflow.evaluation import points

Points = Float[np.ndarray, "n d"]
Centres = Float[np.ndarray, "m d"]
BLOCK = 1024
"""Points per block of distances, which bounds memory."""


def distances(a: Points, b: Centres) -> Float[np.ndarray, "n m"]:
    """Euclidean distance of each point of `a` to each of `b`."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    squared = np.sum(a**2, 1)[:, None] + np.sum(b**2, 1) - 2 * a @ b.T
    return np.sqrt(np.maximum(squared, 0))


def nearest_distance(a: Shaped[np.ndarray, "n d"], b: Shaped[np.ndarray, "m d"]) -> Float[np.ndarray, " n"]:
    """Distance of each point of `a` to the nearest of `b`, which may be many, and integers, such as pixels.

    The nearest is found in single precision, its distance computed in double.

    Raises:
        ValueError: these are not two sets of finite points of equal dimension (`points.check`).
    """
    points.check(a=a, b=b)
    centre = a.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred = a.astype(np.float32) - centre
    best, where = np.full(len(a), np.inf), np.zeros(len(a), int)
    for block in _blocks(len(b)):
        there = b[block].astype(np.float32) - centre
        squared = np.sum(there**2, 1) - 2 * centred @ there.T  # minus |a|^2, common to all
        nearest = squared.argmin(axis=1)
        found = squared[np.arange(len(a)), nearest]
        where = np.where(found < best, block.start + nearest, where)
        best = np.minimum(found, best)
    difference = a.astype(np.float64) - b[where].astype(np.float64)
    return np.sqrt(np.sum(difference**2, axis=1))


def precision_recall(real: Points, generated: Centres, k: int = 3) -> tuple[float, float]:
    """Share of generated points in the real manifold, and of real points in the generated one.

    A point on the surface of a ball is inside, as in the paper, unlike in prdc. A point is not its own
    neighbour, as in prdc.

    Args:
        real: the real points.
        generated: the generated ones; figures are comparable only between sets of equal sizes.
        k: the radius of a ball is the distance to the k-th nearest neighbour.

    Raises:
        ValueError: a set has no more than k points, or they are not two sets of finite points of equal
            dimension (`points.check`).
    """
    points.check(real=real, generated=generated)
    smaller = min(len(real), len(generated))
    if not 1 <= k < smaller:
        raise ValueError(
            f"k = {k}: must be at least 1 and below {smaller}, with {len(real)} real and {len(generated)}"
            " generated points"
        )
    return _share_within(generated, real, k), _share_within(real, generated, k)


def _share_within(inside: Points, centres: Centres, k: int) -> float:
    radii = np.concatenate([_radii(centres[block], centres, k) for block in _blocks(len(centres))])
    hits = [_within(inside[block], centres, radii) for block in _blocks(len(inside))]
    return float(np.concatenate(hits).mean())


def _radii(some: Points, centres: Centres, k: int) -> Float[np.ndarray, " n"]:
    # Column 0 of the sorted distances is the point itself.
    return np.partition(distances(some, centres), k, axis=1)[:, k]


def _within(some: Points, centres: Centres, radii: Float[np.ndarray, " m"]) -> Bool[np.ndarray, " n"]:
    return np.asarray(np.any(distances(some, centres) <= radii, axis=1))


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))
