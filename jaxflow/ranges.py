"""Ranges of numbers: what an argument may be, said in the ValueError of the first one that is not.

    ranges.positive(limit=limit)        limit = -1.0: a positive, finite number is needed

Arrays are within a range where all their numbers are. A traced number, inside `jax.jit` or `jax.vmap`, is not
known yet, and passes: every number can be an axis of a sweep.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

SEEDS = 2**32
"""Seeds beyond it would repeat those below, of which a random key takes 32 bits."""


def positive(**numbers: Any) -> None:
    """Neither 0 nor infinite."""
    check(lambda v: (v > 0) & (v < np.inf), "a positive, finite number is needed", **numbers)


def not_negative(**numbers: Any) -> None:
    """Finite, from 0."""
    check(lambda v: (v >= 0) & (v < np.inf), "a finite number from 0 is needed", **numbers)


def finite(**numbers: Any) -> None:
    """Neither nan nor infinite."""
    check(np.isfinite, "a finite number is needed", **numbers)


def share(**numbers: Any) -> None:
    """In [0, 1]."""
    check(lambda v: (v >= 0) & (v <= 1), "a number in [0, 1] is needed", **numbers)


def at_least(least: int, **counts: Any) -> None:
    """Counts."""
    check(lambda v: v >= least, f"at least {least} is needed", **counts)
    _whole(**counts)


def seed(seed: Any) -> None:
    """Of random keys."""
    check(lambda v: (v >= 0) & (v < SEEDS), f"a number from 0 to {SEEDS - 1} is needed", seed=seed)
    _whole(seed=seed)


def _whole(**numbers: Any) -> None:
    check(lambda v: np.issubdtype(v.dtype, np.integer), "a whole number is needed", **numbers)


def given(**values: Any) -> None:
    """Options of several values that have one at least; None is another way to leave one out."""
    for name, value in values.items():
        if value is not None and not value:
            raise ValueError(f"{name} = (): at least one value is needed, or leave out --{name}")


def check(holds: Callable[[np.ndarray], Any], needed: str, **numbers: Any) -> None:
    """Raise the ValueError `name = value: needed` for the first number that is known and does not hold."""
    for name, number in numbers.items():
        if not isinstance(number, jax.core.Tracer) and not np.all(holds(np.asarray(number))):
            raise ValueError(f"{name} = {number}: {needed}")
