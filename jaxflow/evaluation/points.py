"""Sets of points, such as images flattened or seen by a network, that a figure can be made of."""

from typing import Any

import numpy as np


def check(*, least: int = 1, **sets: Any) -> None:
    """Refuse what is not a set of at least so many finite points (n, d), all of one dimension.

    Raises:
        ValueError: `name` is none, or has another dimension than the first.

    >>> check(least=2, a=np.zeros((1, 3)))
    Traceback (most recent call last):
    ValueError: a has the shape (1, 3): points (n, d), n at least 2, are needed
    """
    dimensions = {}
    for name, values in sets.items():
        values = np.asarray(values)
        if values.ndim != 2 or len(values) < least:
            flat = "; images are flattened first, or embedded" if values.ndim > 2 else ""
            raise ValueError(
                f"{name} has the shape {values.shape}: points (n, d), n at least {least}, are needed{flat}"
            )
        finite = np.isfinite(values).all(axis=1)
        if not finite.all():
            first = int(np.argmin(finite))
            raise ValueError(
                f"{name}[{first}] is not finite, as {len(values) - finite.sum()} of {len(values)} points are:"
                " leave them out, and say so"
            )
        dimensions[name] = values.shape[1]
    if len(set(dimensions.values())) > 1:
        raise ValueError(f"{dimensions} are the dimensions: points of one dimension are needed")
