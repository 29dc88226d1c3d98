"""The guidance scale w: a number, one number per example (b,), or a function of t (b,)."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow import ranges
from jaxflow.typing import Scale

Number = float | int | Float[Array, "..."]
"""An option of a rule: a number, or one per example (b,); possibly traced."""


def interval(w: Scale, start: Number, end: Number) -> Callable[[Array], Array]:
    """The scale w for start <= t < end and 1 elsewhere: guidance in a limited interval.

    An interval that ends at 1 includes t = 1. Guidance at early times drops modes, at late times it has no
    effect. Outside the interval a rule calls the conditional model alone.

    A solver that evaluates the field at the end of its step (Heun, RK4) sees past a boundary there. With both
    boundaries on the grid, half the slope of Heun's step that ends at `start` is guided, and half that of the
    step that ends at an inner `end` is not: the same duration of guidance, half a step earlier.

    Raises:
        ValueError: w is not finite, or 0 <= start < end <= 1 does not hold.

    Source: Kynkaanniemi et al. 2404.07724, in noise-to-data ratios sigma = beta(t) / alpha(t); `start` and
    `stop` of diffusers are fractions of the number of steps.

    >>> interval(3.0, 0.2, 0.7)(jnp.array([0.1, 0.5, 0.7])).tolist()
    [1.0, 3.0, 1.0]
    """
    check(w)
    ranges.fraction(start=start, end=end)
    ranges.positive(**{"end - start": end - start})

    def scale(t: Array) -> Array:
        first, last = jnp.asarray(start, t.dtype), jnp.asarray(end, t.dtype)
        inside = (t >= first) & ((t < last) | (last == 1))
        return jnp.where(inside, scale_at(w, t).astype(t.dtype), jnp.ones_like(t))

    return scale


def scale_at(w: Scale, t: Float[Array, " b"]) -> Array:
    """The scale at times t (b,), of shape () or (b,).

    >>> scale_at(lambda t: 4 * t, jnp.array([0.25, 0.5])).tolist()
    [1.0, 2.0]
    """
    return jnp.asarray(w(t) if callable(w) else w)


def is_number(value: Any, number: int) -> bool:
    """Whether a scale or an option equals this number, known before tracing."""
    return isinstance(value, (int, float)) and value == number


def check(w: Scale) -> None:
    """Raise a ValueError if w is known and not finite."""
    if not callable(w):
        ranges.finite(w=w)
