"""The guidance scale w: a number, one number per example (b,), or a function of t (b,)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxflow.typing import Scale


def interval(w: Scale, start: float | int, end: float | int) -> Callable[[Array], Array]:
    """The scale w for start <= t < end and 1 elsewhere: guidance in a limited interval.

    Too early it drops modes, too late it changes nothing. Elsewhere a rule calls the conditional
    model alone.

    Raises:
        ValueError: w is not finite, or not 0 <= start < end <= 1.

    Source: Kynkaanniemi et al. 2404.07724, in noise-to-data ratios sigma = beta(t) / alpha(t).

    >>> interval(3.0, 0.2, 0.7)(jnp.array([0.1, 0.5, 0.7])).tolist()
    [1.0, 3.0, 1.0]
    """
    check(w)
    if not 0 <= start < end <= 1:
        raise ValueError(
            f"start = {start}, end = {end}: an interval of t with 0 <= start < end <= 1 is needed"
        )
    return lambda t: jnp.where((t >= start) & (t < end), at(w, t).astype(t.dtype), jnp.ones_like(t))


def at(w: Scale, t: Float[Array, " b"]) -> Array:
    """The scale at the times of the examples, () or (b,)."""
    return jnp.asarray(w(t) if callable(w) else w)


def is_number(w: Scale, number: int) -> bool:
    """Whether w is known, before tracing, to be this number."""
    return isinstance(w, (int, float)) and w == number


def check(w: Scale) -> None:
    """Raise a ValueError where w is known and not finite."""
    if callable(w) or isinstance(w, jax.core.Tracer):
        return
    if not np.all(np.isfinite(w)):
        raise ValueError(f"w = {w}: the guidance scale must be finite")
