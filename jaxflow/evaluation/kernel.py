"""Kernel distance between two sets of vectors: the squared maximum mean discrepancy.

    MMD^2 = E k(a, a') + E k(b, b') - 2 E k(a, b),    k(x, y) = (x . y / d + 1)^3

for independent a, a' of one distribution and b, b' of the other, in d dimensions. The estimate averages k
over all pairs of different points, so that it is unbiased: sets of different sizes are comparable, and
between equal distributions its mean is 0 and single values may be negative. This holds for independent
points; two sets with the same number of points of each class are more alike, and their mean is below 0.

Source: Gretton et al. 2012; Binkowski et al. 1801.01401 (KID), where the vectors are Inception features.
"""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float

from jaxflow import ranges
from jaxflow.evaluation import points

A = Float[np.ndarray, "n d"]
B = Float[np.ndarray, "m d"]
BLOCK = 1024
"""Points per block of kernels, which bounds memory."""


def kernel_distance(a: A, b: B) -> float:
    """The unbiased estimate of MMD^2 between the distributions of `a` and `b`.

    >>> a, b = np.array([[0.0], [1.0]]), np.array([[1.0], [1.0]])
    >>> kernel_distance(a, b)  # 1 + 8 - 2 (1 + 8) / 2
    0.0

    Raises:
        ValueError: these are not two sets of at least two finite points of equal dimension (`points.check`).
    """
    points.check(least=2, a=a, b=b)
    within, between = _means(a, a, skip=True), _means(a, b)
    return float(np.mean(within) + np.mean(_means(b, b, skip=True)) - 2 * np.mean(between))


def left_out(a: A, b: B) -> Float[np.ndarray, " n"]:
    """The distance without each point of `a`, for `intervals.jackknife`; their mean is the distance itself.

    Raises:
        ValueError: there are fewer than three points in `a` or two in `b`, or they are not two sets of finite
            points of equal dimension (`points.check`).
    """
    points.check(least=3, a=a)
    points.check(least=2, a=a, b=b)
    n, within, between = len(a), _means(a, a, skip=True), _means(a, b)
    pairs = (n * within.mean() - 2 * within) / (n - 2)
    cross = (n * between.mean() - between) / (n - 1)
    return np.asarray(pairs + np.mean(_means(b, b, skip=True)) - 2 * cross)


def over_subsets(a: A, b: B, *, subsets: int = 100, size: int = 1000, seed: int = 0) -> tuple[float, float]:
    """Mean and standard deviation of the distance between random subsets: KID as it is published.

    The deviation, which divides by the number of subsets, is that of distances between `size` points; of the
    mean it is no error, since the subsets share points, and it is 0 if they are the whole sets.
    `intervals.jackknife(left_out(a, b))` has the error of the distance between all points.

    Args:
        a: points.
        b: others.
        subsets: number of subsets, each drawn without replacement.
        size: points of each set in a subset.
        seed: of the subsets.

    Raises:
        ValueError: `subsets` or `size` is out of its range, or they are not two sets of finite points of
            equal dimension (`points.check`).
    """
    points.check(least=2, a=a, b=b)
    ranges.at_least(1, subsets=subsets)
    smaller = min(len(a), len(b))
    if not 2 <= size <= smaller:
        raise ValueError(f"size = {size}: must be from 2 to {smaller}, the points of the smaller set")
    random = np.random.default_rng(seed)
    draw = lambda some: some[random.permutation(len(some))[:size]]  # noqa: E731
    found = [kernel_distance(draw(a), draw(b)) for _ in range(subsets)]
    return float(np.mean(found)), float(np.std(found))


def _means(of: A, others: B, *, skip: bool = False) -> Float[np.ndarray, " n"]:
    """Mean kernel of each point with the others; `skip` leaves out the point itself, if they are one set."""
    of, others = np.asarray(of, np.float64), np.asarray(others, np.float64)
    sums = np.empty(len(of))
    for block in _blocks(len(of)):
        near = of[block] @ others.T / of.shape[1] + 1
        sums[block] = np.einsum("ij,ij,ij->i", near, near, near)
    if not skip:
        return sums / len(others)
    own = (np.sum(of**2, axis=1) / of.shape[1] + 1) ** 3
    return (sums - own) / (len(others) - 1)


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))
