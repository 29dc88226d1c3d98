"""Rectified-CFG++: the guidance term evaluated half a step ahead, along the conditional velocity."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array

from jaxflow import ranges
from jaxflow.guidance.affine import alone, both, cheapest
from jaxflow.guidance.scales import Number, scale_at
from jaxflow.per_example import expand
from jaxflow.typing import Condition, GuidedField, Rule, Scale, VectorField


def rectified(ahead: Number | Callable[[Array], Array], *, decay: Number = 0.0) -> Rule:
    """u(x, t | y) + (w - 1) (1 - t)^decay (u(x', t' | y) - u(x', t')), at x' = x + ahead u(x, t | y).

    t' = t + ahead, where `ahead` is half a step of the sampler. Two calls, with b and 2b examples; one with b
    where w is 1, as a number or a function of t.

    Args:
        ahead: lookahead in t, a number or a function of t (b,); t' is clipped to 1.
        decay: gamma of the paper's factor lambda_max (1 - t)^gamma, with our t and lambda_max = w - 1; if
            positive, guidance fades towards the data.

    Raises:
        ValueError: `ahead` or `decay` is negative or not finite; from the rule: w is not finite, or, while
            tracing, the field does not return the shape of x.

    Source: Saini et al. 2510.07631, algorithm 1.

    >>> toward = lambda x, t, y: expand(y, x) - x
    >>> guided = rectified(0.1)(toward, jnp.array([1.0]), jnp.array(0.0), 3.0)
    >>> guided(jnp.zeros((1, 1)), jnp.zeros(1)).item()
    3.0
    """
    ranges.not_negative(decay=decay)
    if not callable(ahead):
        ranges.not_negative(ahead=ahead)

    def rule(field: GuidedField, y: Condition, null: Condition, w: Scale) -> VectorField:
        conditional_model, velocities = alone(field, y), both(field, y, null)

        def guided(x: Array, t: Array) -> Array:
            here, later = conditional_model(x, t), _lookahead(t, ahead)
            unguided, conditional = velocities(x + expand(later - t, x) * here, later)
            strength = (scale_at(w, t) - 1) * (1 - t) ** jnp.asarray(decay, t.dtype)
            return here + expand(strength, x) * (conditional - unguided)

        return cheapest(w, guided, at_1=conditional_model)

    return rule


def _lookahead(t: Array, ahead: Number | Callable[[Array], Array]) -> Array:
    return jnp.minimum(t + jnp.asarray(ahead(t) if callable(ahead) else ahead, t.dtype), 1)
