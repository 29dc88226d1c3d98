"""Autoguidance: away from a worse model with the same condition."""

from jaxtyping import Array

from jaxflow.guidance.affine import affine, alone, cheapest
from jaxflow.typing import Condition, GuidedField, Rule, Scale, VectorField


def autoguidance(worse: GuidedField) -> Rule:
    """u~ = (1 - w) u_worse(x | y) + w u(x | y), where the worse model is smaller or less trained.

    It corrects errors that the two models share, without losing diversity; the rule's null is not used. Two
    calls with b examples, or one where w is 0 or 1, as a number or a function of t.

    Raises:
        ValueError: from the rule: w is not finite, or, while tracing, a field does not return the shape of x.

    Source: Karras et al. 2406.02507, equation 3.

    >>> import jax.numpy as jnp
    >>> better, worse = (lambda x, t, y, k=k: k * x for k in (-1.0, -0.5))
    >>> guided = autoguidance(worse)(better, jnp.array([0]), jnp.array(1), 2.0)
    >>> guided(jnp.ones((1, 1)), jnp.zeros(1)).item()
    -1.5
    """

    def rule(field: GuidedField, y: Condition, null: Condition, w: Scale) -> VectorField:
        better, other = alone(field, y), alone(worse, y)

        def mixed(x: Array, t: Array) -> Array:
            return affine(other(x, t), better(x, t), w, t)

        return cheapest(w, mixed, at_1=better, at_0=other)

    return rule
