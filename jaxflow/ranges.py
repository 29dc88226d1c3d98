"""Range checks of numeric arguments; the first value out of range raises a ValueError.

    ranges.positive(limit=limit)        limit = -1.0: must be positive and finite

An array is in range if all its elements are. Tracers, inside `jax.jit` or `jax.vmap`, pass unchecked, so that
any number can be an axis of a sweep.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

SEEDS = 2**32
"""Number of distinct seeds: a random key is made from 32 bits, and larger seeds would repeat smaller ones."""
COUNT = 2**31 - 1
"""Largest count: arrays on devices are indexed by 32 bits."""
SHOWN = 100
"""Characters of a value that a message quotes."""


def positive(**numbers: Any) -> None:
    """Above 0, and finite."""
    check(lambda v: (v > 0) & _finite(v), "must be positive and finite", **numbers)


def not_negative(**numbers: Any) -> None:
    """At least 0, and finite."""
    check(lambda v: (v >= 0) & _finite(v), "must be non-negative and finite", **numbers)


def finite(**numbers: Any) -> None:
    """Neither nan nor infinite."""
    check(_finite, "must be finite", **numbers)


def fraction(**numbers: Any) -> None:
    """In [0, 1]."""
    check(lambda v: (v >= 0) & (v <= 1), "must be in [0, 1]", **numbers)


def at_least(least: int, most: int = COUNT, **counts: Any) -> None:
    """Integers from `least` to `most`."""
    _integer(**counts)
    check(lambda v: v >= least, f"must be at least {least}", **counts)
    check(lambda v: v <= most, f"must be at most {most}", **counts)


def seed(seed: Any) -> None:
    """An integer from which a random key is made."""
    _integer(seed=seed)
    check(lambda v: (v >= 0) & (v < SEEDS), f"must be from 0 to {SEEDS - 1}", seed=seed)


def _integer(**numbers: Any) -> None:
    # Beyond 64 bits NumPy keeps a Python integer, as an object.
    integral = lambda v: v.dtype.kind in "iu" or (v.dtype == object and type(v.item()) is int)  # noqa: E731
    check(integral, "must be an integer", **numbers)


def not_empty(**values: Any) -> None:
    """Options that take several values: at least one, or None where the option was omitted."""
    for name, value in values.items():
        if value is not None and not value:
            raise ValueError(f"{name} = (): expected at least one value, or omit --{name}")


def check(holds: Callable[[np.ndarray], Any], requirement: str, **numbers: Any) -> None:
    """Raise the ValueError `name = value: requirement` for the first known number that fails it."""
    for name, number in numbers.items():
        if not isinstance(number, jax.core.Tracer) and not _all(holds, number):
            with np.printoptions(threshold=8, linewidth=1000):  # one line, also for a long grid
                raise ValueError(f"{name} = {quoted(number)}: {requirement}")


def quoted(value: Any) -> str:
    """The value as a message quotes it, cut to `SHOWN` characters; texts in quotation marks.

    >>> quoted("a" * 1000)[-5:], quoted(10**10000)
    ('aa...', 'an integer of 33220 bits')
    """
    if isinstance(value, int) and abs(value) >= 10**SHOWN:  # Python does not print those of 4,300 digits
        return f"an integer of {value.bit_length()} bits"
    text = repr(value[: SHOWN + 1]) if isinstance(value, str | list | tuple) else str(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _finite(value: np.ndarray) -> Any:
    return np.isfinite(value + 0.0)  # which fails for integers beyond all floats


def _all(holds: Callable[[np.ndarray], Any], number: Any) -> bool:
    try:
        return bool(np.all(holds(np.asarray(number))))
    except (TypeError, ValueError, OverflowError):  # a text, None, or an integer of more than 64 bits
        return False
