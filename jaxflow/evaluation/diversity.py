"""Intra-class diversity: how much images of one class differ.

    diversity = mean over classes of the mean distance between two different images of the class

Odena et al. 1610.09585 compare random pairs of a class by MS-SSIM, Ojha et al. 2104.06820 average LPIPS over
pairs within a cluster and then over clusters; here the distance is the Euclidean one of any features. The
mean over pairs is unbiased, so that sets of different sizes are comparable.
"""

import numpy as np
from jaxtyping import Float, Int

from jaxflow.evaluation import points
from jaxflow.evaluation.manifolds import distances

MOST = 1000
"""Images of a class that are compared: enough, and their distances fit the memory."""


def diversity(features: Float[np.ndarray, "n d"], classes: Int[np.ndarray, " n"]) -> float:
    """The mean distance within a class, each class with the same weight; nan if no class has two images.

    Of a class with more than `MOST` images the first are compared; one with a single image does not count.

    >>> diversity(np.array([[0.0], [2.0], [5.0], [9.0], [7.0]]), np.array([0, 0, 1, 1, 2]))
    3.0

    Raises:
        ValueError: these are not finite points with a class each (`points.check`).
    """
    points.check(features=features)
    if len(classes) != len(features):
        raise ValueError(f"classes has the length {len(classes)}: expected {len(features)}, one per point")
    each = [np.flatnonzero(classes == label)[:MOST] for label in np.unique(classes)]
    means = [_mean_distance(features[where]) for where in each if len(where) > 1]
    return float(np.mean(means)) if means else float("nan")


def _mean_distance(some: Float[np.ndarray, "n d"]) -> float:
    # Rounding leaves a small distance of a point from itself.
    apart = distances(some, some)
    return float((apart.sum() - np.trace(apart)) / (len(some) * (len(some) - 1)))
