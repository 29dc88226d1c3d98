"""Magnitude-aware guidance (MAMBO-G): a smaller scale where the difference is large beside the velocity."""

import jax.numpy as jnp
from jaxtyping import Array

from jaxflow import ranges
from jaxflow.guidance.affine import alone, both, cheapest
from jaxflow.guidance.scales import Number, scale_at
from jaxflow.per_example import expand
from jaxflow.typing import Condition, GuidedField, Rule, Scale, VectorField


def magnitude_aware(*, alpha: Number = 8.0) -> Rule:
    """u(x | y) + (w - 1) exp(-alpha |d| / |u(x)|) d with d = u(x | y) - u(x); one call with 2b examples.

    Near the noise the difference is large, and a full step along it oversaturates. At w = 1 it is the
    conditional field, at alpha = 0 classifier-free guidance. Where u(x) = 0 it is the conditional one too.

    The norms are those of the velocity, over the event of each example, since the published models are flows;
    diffusers takes whatever the network predicts.

    Args:
        alpha: how fast the scale decreases, at least 0; 8 as in diffusers.

    Raises:
        ValueError: alpha is negative or not finite; from the rule: w is not finite, or, while tracing, the
            field does not return the shape of x.

    Source: MAMBO-G, 2508.03442.

    >>> there = lambda x, t, y: y
    >>> rule = magnitude_aware(alpha=jnp.log(2.0))
    >>> guided = rule(there, jnp.array([[2.0]]), jnp.array([1.0]), 3.0)
    >>> guided(jnp.zeros((1, 1)), jnp.zeros(1)).item()  # 2 + 2 * 1/2 * 1
    3.0
    """
    ranges.not_negative(alpha=alpha)

    def rule(field: GuidedField, y: Condition, null: Condition, w: Scale) -> VectorField:
        velocities = both(field, y, null)

        def guided(x: Array, t: Array) -> Array:
            unguided, conditional = velocities(x, t)
            difference = conditional - unguided
            size = _norm(unguided)
            ratio = jnp.where(size > 0, _norm(difference) / jnp.where(size > 0, size, 1), jnp.inf)
            rate = expand(alpha, x)
            # At alpha = 0 the ratio has no effect, infinite as it may be.
            factor = jnp.exp(-rate * jnp.where(rate == 0, 0, ratio))
            return conditional + expand(scale_at(w, t) - 1, x) * factor * difference

        return cheapest(w, guided, at_1=alone(field, y))

    return rule


def _norm(velocity: Array) -> Array:
    square = jnp.sum(velocity**2, axis=tuple(range(1, velocity.ndim)), keepdims=True)
    # The selects keep derivatives finite where it vanishes, as in a divergence.
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
