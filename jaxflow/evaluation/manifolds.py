"""Nearest neighbours: precision, recall, density, coverage and memorisation.

The manifold of a set of points is the union of balls, one around each point, with the distance to its k-th
nearest neighbour in the set as radius.

    precision    share of generated points in some ball of the real ones: plausibility
    density      real balls that contain a generated point, over k, on average
    recall       share of real points in some ball of the generated ones: diversity
    coverage     share of real balls that contain some generated point

An outlier among the generated points has a large ball, which raises recall; an outlier among the real ones
raises precision. Density and coverage use real balls only, and density counts them. If both sets come from
one continuous distribution, density is 1 on average, and coverage, of n real and m generated points,

    1 - (n-1) ... (n-k) / ((n+m-1) ... (n+m-k))

in any dimension: for equal sets about 1 - 2^-k. Precision and recall have no such value.

Source: Kynkaanniemi et al. 1904.06991 (precision and recall), Naeem et al. 2002.09797 (density and coverage).
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

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


class Overlap(NamedTuple):
    """How the manifolds of real and of generated points overlap: the figures, and the points they average."""

    balls: Int[np.ndarray, " generated"]
    """Real balls that contain each generated point."""
    recalled: Bool[np.ndarray, " real"]
    """Whether each real point is in a ball of a generated one."""
    covered: Bool[np.ndarray, " real"]
    """Whether the ball of each real point contains a generated one."""
    k: int
    """The radius of a ball is the distance to the k-th nearest neighbour."""

    @property
    def precision(self) -> float:
        """Share of generated points in a real ball."""
        return float(np.mean(self.balls > 0))

    @property
    def recall(self) -> float:
        """Share of real points in a generated ball."""
        return float(np.mean(self.recalled))

    @property
    def density(self) -> float:
        """Real balls around a generated point, over k; it may exceed 1."""
        return float(np.mean(self.balls)) / self.k

    @property
    def coverage(self) -> float:
        """Share of real balls with a generated point."""
        return float(np.mean(self.covered))


def overlap(real: Points, generated: Centres, k: int = 3) -> Overlap:
    """Compare the manifolds of two sets of points.

    >>> real, generated = np.array([[0.0], [1.0], [3.0]]), np.array([[0.5], [0.6], [9.0]])
    >>> found = overlap(real, generated, k=1)
    >>> found.balls.tolist(), found.recalled.tolist(), found.covered.tolist()
    ([2, 2, 0], [False, True, True], [True, True, False])

    A point on the surface of a ball is inside, as in the paper on precision and recall, unlike in prdc. A
    point is not its own neighbour, as in prdc.

    Args:
        real: the real points.
        generated: the generated ones; figures are comparable only between sets of equal sizes.
        k: the radius of a ball is the distance to the k-th nearest neighbour. The papers take 3 for precision
            and recall, and 5 for density and coverage.

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
    around_real, around_generated = _radii(real, k), _radii(generated, k)
    balls = np.empty(len(generated), np.int64)
    recalled, covered = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for block in _blocks(len(generated)):
        between = distances(generated[block], real)
        inside = between <= around_real
        balls[block] = inside.sum(axis=1)
        covered |= inside.any(axis=0)
        recalled |= (between <= around_generated[block, None]).any(axis=0)
    return Overlap(balls, recalled, covered, k)


def _radii(centres: Centres, k: int) -> Float[np.ndarray, " m"]:
    # Column 0 of the sorted distances is the point itself.
    return np.concatenate(
        [np.partition(distances(centres[block], centres), k, axis=1)[:, k] for block in _blocks(len(centres))]
    )


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))
