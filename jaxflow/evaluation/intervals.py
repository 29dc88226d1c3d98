"""Intervals: how much a figure of a sample would change with another sample.

    bootstrap    the quantiles of the figure over samples drawn from the sample with replacement
    jackknife    figure +- t se,    se^2 = (g - 1) / g  sum of (figure without part i - their mean)^2,

where t is the quantile of Student's distribution with g - 1 degrees of freedom, and the g parts are single
points or equal groups of them. The bootstrap fits means and medians over points. It misleads where a figure
depends on how many *different* points there are: a resample has only 63 % of them, and copies in place of the
rest. The bias of a Frechet distance or an Inception score then appears twice, so that the interval may lie
beside the figure; balls around points with copies shrink, and pairs of equal points raise kernel distances
and lower diversities. For these the jackknife, which copies nothing, gives an interval around the figure; the
figure keeps its bias, and the interval errs to the wide side on average.

Neither knows of errors that all points share, such as those of the images that are compared with.

Source: Efron 1979 (bootstrap), Tukey 1958 and Efron and Stein 1981 (jackknife), Shao and Wu 1989 (groups).
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from jaxflow import ranges

Positions = Int[np.ndarray, " n"]
BLOCK = 2**18
"""Positions drawn at once, which bounds memory."""


class Interval(NamedTuple):
    """A range of plausible values of a figure."""

    low: float
    high: float

    @property
    def half(self) -> float:
        """Half of its width."""
        return (self.high - self.low) / 2


class Measured(NamedTuple):
    """Figures of a set of points, and intervals of 95 % of some of them."""

    figures: dict[str, float]
    intervals: dict[str, Interval]


def bootstrap(
    figure: Callable[[Int[np.ndarray, "r n"]], Float[np.ndarray, " r"]],
    n: int,
    *,
    seed: int = 0,
    resamples: int = 1000,
    level: float = 0.95,
) -> Interval:
    """The percentile interval of a figure of n points.

    >>> hits = np.array([True] * 90 + [False] * 10)
    >>> interval = bootstrap(lambda some: hits[some].mean(axis=1), len(hits))
    >>> interval.low < 0.9 < interval.high, round(interval.half, 2)
    (True, 0.06)

    Args:
        figure: of the points at each row of positions, which repeat within a row.
        n: number of points.
        seed: of the resamples.
        resamples: number of samples drawn.
        level: share of them within the interval.

    Raises:
        ValueError: a number is out of its range.
    """
    ranges.at_least(1, n=n, resamples=resamples)
    _check(level)
    random = np.random.default_rng(seed)
    some = max(1, BLOCK // n)
    blocks = [min(some, resamples - start) for start in range(0, resamples, some)]
    values = [figure(random.integers(0, n, (rows, n))) for rows in blocks]
    low, high = np.quantile(np.concatenate(values), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def leaving_out(n: int, groups: int = 20) -> Iterator[Positions]:
    """The positions 0 to n - 1 without each of as many contiguous parts, or of n parts if there are fewer.

    Points must be in random order, or in that of `strata.spread`, in which each part has all classes.

    >>> [kept.tolist() for kept in leaving_out(6, 3)]
    [[2, 3, 4, 5], [0, 1, 4, 5], [0, 1, 2, 3]]
    """
    for part in np.array_split(np.arange(n), min(n, groups)):
        yield np.delete(np.arange(n), part)


def jackknife(left_out: Float[np.ndarray, " g"], figure: float, *, level: float = 0.95) -> Interval:
    """The jackknife interval around a figure.

    >>> numbers = np.array([1.0, 2.0, 6.0, 7.0])
    >>> left_out = np.array([numbers[kept].mean() for kept in leaving_out(4)])
    >>> error = numbers.std(ddof=1) / 2  # of the mean of four
    >>> print(f"{jackknife(left_out, 4.0).half / error:.3f}")  # Student's quantile for 3 degrees
    3.182

    Args:
        left_out: the figure without each part of the points; at least two.
        figure: that of all points.
        level: probability that such an interval contains the figure's mean, if it is normally distributed.

    Raises:
        ValueError: a number is out of its range.
    """
    from scipy.special import stdtrit  # which scripts that only draw figures do without

    g = len(left_out)
    ranges.at_least(2, **{"number of left_out": g})
    _check(level)
    error = np.sqrt((g - 1) / g * np.sum((left_out - np.mean(left_out)) ** 2))
    half = float(stdtrit(g - 1, (1 + level) / 2) * error)
    return Interval(figure - half, figure + half)


def _check(level: float) -> None:
    ranges.check(lambda v: 0 < v < 1, "must be between 0 and 1", level=level)
