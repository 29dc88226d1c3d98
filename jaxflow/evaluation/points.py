"""Checks of sets of points, such as flattened images or features of a network."""

from typing import Any

import numpy as np


def check(*, least: int = 1, **sets: Any) -> None:
    """Check that each argument is a set of at least `least` finite points (n, d), all of one dimension.

    Raises:
        ValueError: one is not; the message names it.

    >>> check(least=2, a=np.zeros((1, 3)))
    Traceback (most recent call last):
    ValueError: a has the shape (1, 3): expected points (n, d), n at least 2
    """
    dimensions = {}
    for name, values in sets.items():
        values = np.asarray(values)
        if values.ndim != 2 or len(values) < least:
            flat = "; flatten or embed images first" if values.ndim > 2 else ""
            raise ValueError(
                f"{name} has the shape {values.shape}: expected points (n, d), n at least {least}{flat}"
            )
        # Integers, such as the pixels of a whole data set, are finite.
        finite = (
            np.isfinite(values).all(axis=1) if values.dtype.kind not in "biu" else np.ones(len(values), bool)
        )
        if not finite.all():
            first = int(np.argmin(finite))
            count = f"{int(np.sum(~finite))} of {len(values)} points"
            raise ValueError(
                f"{name}[{first}] is not finite ({count} are not): omit them, and report how many"
            )
        dimensions[name] = values.shape[1]
    if len(set(dimensions.values())) > 1:
        raise ValueError(f"dimensions {dimensions}: must be equal")
