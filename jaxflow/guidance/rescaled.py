"""Rescaled guidance: the guided velocity with the standard deviation of the conditional one."""

import jax.numpy as jnp
from jaxtyping import Array

from jaxflow import ranges
from jaxflow.guidance.affine import affine, alone, both, cheapest
from jaxflow.guidance.scales import Number
from jaxflow.per_example import expand
from jaxflow.typing import Condition, GuidedField, Rule, Scale, VectorField


def rescaled(*, phi: Number = 0.7) -> Rule:
    """u~ (phi std(u(x | y)) / std(u~) + 1 - phi), where u~ is the classifier-free velocity.

    The standard deviations are over the event of each example; phi = 0 changes nothing, 1 rescales
    fully. It prevents overexposed images at large w. Where std(u~) = 0, as for events of one number,
    u~ is returned unchanged; diffusers returns nan.

    Raises:
        ValueError: phi is outside [0, 1]; from the rule: w is not finite, or, while tracing, the field does
            not return the shape of x.

    Source: Lin et al. 2305.08891, section 3.4, applied to the velocity.

    >>> stretched = lambda x, t, y: expand(y, x) * x
    >>> guided = rescaled(phi=1.0)(stretched, jnp.array([2.0]), jnp.array(1.0), 3.0)
    >>> guided(jnp.array([[-1.0, 1.0]]), jnp.zeros(1)).tolist()
    [[-2.0, 2.0]]
    """
    ranges.fraction(phi=phi)

    def rule(field: GuidedField, y: Condition, null: Condition, w: Scale) -> VectorField:
        velocities = both(field, y, null)

        def guided(x: Array, t: Array) -> Array:
            unguided, conditional = velocities(x, t)
            mixed = affine(unguided, conditional, w, t)
            deviation, target = _deviation(mixed), _deviation(conditional)
            ratio = jnp.where(deviation > 0, target / jnp.where(deviation > 0, deviation, 1), 1)
            weight = expand(phi, mixed)
            return mixed * (weight * ratio + (1 - weight))

        return cheapest(w, guided, at_1=alone(field, y))

    return rule


def _deviation(velocity: Array) -> Array:
    return jnp.std(velocity, axis=tuple(range(1, velocity.ndim)), keepdims=True)
