"""The guidance scale w: a number, one number per example (b,), or a function of t (b,)."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow import ranges
from jaxflow.typing import Scale

Number = float | int | Float[Array, "..."]
"""An option of a rule: a number, or one per example (b,); traced where a sweep runs over it."""


def interval(w: Scale, start: Number, end: Number) -> Callable[[Array], Array]:
    """The scale w for start <= t < end and 1 elsewhere: guidance in a limited interval.

    An interval that ends at 1 includes t = 1. Too early guidance drops modes, too late it changes nothing.
    Elsewhere a rule calls the conditional model alone.

    A solver that looks at the end of its step (Heun, RK4) sees beyond a boundary there. With both on the
    grid, Heun's step that ends at `start` has half of its slope guided, and the one that ends at an inner
    `end` half of it not guided: the same length of guidance, half a step earlier.

    Raises:
        ValueError: w is not finite, or not 0 <= start < end <= 1.

    Source: Kynkaanniemi et al. 2404.07724, in noise-to-data ratios sigma = beta(t) / alpha(t); diffusers'
    `start` and `stop` are shares of the number of steps.

    >>> interval(3.0, 0.2, 0.7)(jnp.array([0.1, 0.5, 0.7])).tolist()
    [1.0, 3.0, 1.0]
    """
    check(w)
    ranges.share(start=start, end=end)
    ranges.positive(**{"end - start": end - start})

    def scale(t: Array) -> Array:
        first, last = jnp.asarray(start, t.dtype), jnp.asarray(end, t.dtype)
        inside = (t >= first) & ((t < last) | (last == 1))
        return jnp.where(inside, scale_at(w, t).astype(t.dtype), jnp.ones_like(t))

    return scale


def scale_at(w: Scale, t: Float[Array, " b"]) -> Array:
    """The scale at the times of the examples, () or (b,).

    >>> scale_at(lambda t: 4 * t, jnp.array([0.25, 0.5])).tolist()
    [1.0, 2.0]
    """
    return jnp.asarray(w(t) if callable(w) else w)


def is_number(value: Any, number: int) -> bool:
    """Whether a scale or an option is known, before tracing, to be this number."""
    return isinstance(value, (int, float)) and value == number


def check(w: Scale) -> None:
    """Raise a ValueError where w is known and not finite."""
    if not callable(w):
        ranges.finite(w=w)
