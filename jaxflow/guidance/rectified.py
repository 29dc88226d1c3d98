"""Rectified-CFG++: guidance measured half a step ahead, where the conditional model leads."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array

from jaxflow.guidance import scales
from jaxflow.guidance.affine import pair, shortest
from jaxflow.per_example import expand
from jaxflow.typing import Condition, GuidedField, Scale, VectorField


def rectified(
    field: GuidedField,
    y: Condition,
    null: Condition,
    w: Scale,
    *,
    ahead: float | int | Callable[[Array], Array],
    decay: float | int = 0.0,
) -> VectorField:
    """u(x, t | y) + (w - 1) (1 - t)^decay (u(x', t' | y) - u(x', t')), at x' = x + ahead u(x, t | y).

    t' = t + ahead, with `ahead` half a step of the sampler. Two calls, of b and 2b examples; one call of b
    where w is 1, as a number or a function of t.

    Args:
        field: guided field (x, t, y) -> (b, *event).
        y: condition, a pytree with a leading axis of b examples.
        null: the condition that says nothing, for one example.
        w: a number, one number per example (b,), or a function of t (b,).
        ahead: length of the look ahead in t, a number or a function of t (b,); cut at t = 1.
        decay: gamma of the paper's factor lambda_max (1 - t)^gamma, with our t and lambda_max = w - 1: for a
            positive one guidance fades towards the data.

    Raises:
        ValueError: w is not finite, or `ahead` is negative.

    Source: Saini et al. 2510.07631, algorithm 1.
    """
    if not callable(ahead) and not ahead >= 0:
        raise ValueError(f"ahead = {ahead}: the look ahead is not negative")
    velocities = pair(field, y, null)

    def mixed(x: Array, t: Array) -> Array:
        here = field(x, t, y)
        later = jnp.minimum(t + (ahead(t) if callable(ahead) else ahead), 1)
        unguided, conditional = velocities(x + expand(later - t, x) * here, later)
        strength = (scales.at(w, t) - 1) * (1 - t) ** decay
        return here + expand(strength, x) * (conditional - unguided)

    return shortest(w, mixed, at_1=lambda x, t: field(x, t, y))
