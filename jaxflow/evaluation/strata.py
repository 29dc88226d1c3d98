"""Stratified samples: sets of images whose classes have the frequencies of another set.

Frechet distance, precision and recall compare distributions. If the class frequencies differ, or one set has
only the first classes of a sorted folder, they measure that difference.
"""

from bisect import bisect_left

import numpy as np
from jaxtyping import Int

SHORT = 0.05
"""Share of a sample that may be missing from classes with too few members."""

Labels = Int[np.ndarray, " n"]
Positions = Int[np.ndarray, " m"]


def allocate(counts: Int[np.ndarray, " classes"], n: int) -> Int[np.ndarray, " classes"]:
    """Number of examples of each class among about n, proportional to `counts` and at least 1.

    By largest remainders; a class without members counts as one, and the sum exceeds n if the minimum of 1
    requires it.

    >>> allocate(np.array([900, 100]), 20).tolist(), allocate(np.array([990, 10, 0]), 20).tolist()
    ([18, 2], [18, 1, 1])
    """
    counts = np.maximum(np.asarray(counts, np.int64), 1)
    n = max(n, len(counts))
    # The quota of a class beyond its first example.
    owed = np.maximum(counts * (n / counts.sum()) - 1, 0)
    return 1 + _rounded(owed * ((n - len(counts)) / max(owed.sum(), 1e-12)))


def spread(labels: Labels, seed: int) -> Positions:
    """A random order of the examples in which any contiguous part has about the overall class frequencies.

    >>> y = np.repeat([0, 1], [6, 3])
    >>> [sorted(y[part].tolist()) for part in np.split(spread(y, 0), 3)]
    [[0, 0, 1], [0, 0, 1], [0, 0, 1]]
    """
    return _ranked(labels, seed)[0]


def half(labels: Labels, seed: int) -> Positions:
    """Random positions of half of the examples of each class, rounded down, in the order of `spread`."""
    order, ranks = _ranked(labels, seed)
    return order[ranks < (np.bincount(labels) // 2)[labels[order]]]


def sample_like(labels: Labels, like: Int[np.ndarray, " k"], most: int, seed: int) -> Positions:
    """Positions of a random sample of `labels` with the class frequencies of `like`.

    As many as possible, up to `most`, such that at most `SHORT` of them are missing from rare classes;
    classes without any member are ignored.

    >>> y = np.repeat([0, 1], [90, 30])
    >>> np.bincount(y[sample_like(y, np.array([0, 1]), 100, seed=0)]).tolist()
    [33, 30]
    """
    classes = max(int(labels.max(initial=0)), int(like.max(initial=0))) + 1
    members = np.bincount(labels, minlength=classes)
    wanted = np.where(members, np.bincount(like, minlength=classes), 0)
    frequencies = wanted / max(int(wanted.sum()), 1)
    missing = lambda n: np.maximum(n * frequencies - members, 0).sum() / n  # noqa: E731
    sizes = range(1, min(most, len(labels)) + 1)
    n = bisect_left(sizes, True, key=lambda n: missing(n) > SHORT)
    order, ranks = _ranked(labels, seed)
    counts = np.minimum(_rounded(n * frequencies), members)
    return order[ranks < counts[labels[order]]]


def _ranked(labels: Labels, seed: int) -> tuple[Positions, Positions]:
    """The order of `spread`, and the rank of each example within its class."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    by_class = shuffled[np.argsort(labels[shuffled], kind="stable")]
    counts = np.unique(labels, return_counts=True)[1]
    ranks = np.concatenate([np.arange(count) for count in counts])
    order = np.argsort((ranks + 0.5) / np.repeat(counts, counts), kind="stable")
    return by_class[order], ranks[order]


def _rounded(numbers: np.ndarray) -> Int[np.ndarray, " classes"]:
    """Integers with the same sum, by largest remainders."""
    whole = np.floor(numbers + 1e-9).astype(np.int64)
    short = round(float(numbers.sum())) - int(whole.sum())
    whole[np.argsort(whole - numbers, kind="stable")[:short]] += 1
    return whole
