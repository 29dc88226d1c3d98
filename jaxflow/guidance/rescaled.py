"""Rescaled guidance: the guided velocity of any rule with the standard deviation of the conditional one."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array

from jaxflow import ranges
from jaxflow.guidance.affine import affine, alone, both, cheapest
from jaxflow.guidance.classifier_free import classifier_free
from jaxflow.guidance.scales import Number
from jaxflow.per_example import expand
from jaxflow.typing import Condition, GuidedField, Rule, Scale, StatefulField, VectorField


def rescaled(*, phi: Number = 0.7, rule: Rule = classifier_free) -> Rule:
    """u~ (phi std(u(x | y)) / std(u~) + 1 - phi), where u~ is the velocity guided by `rule`.

    The standard deviations are over the event of each example; phi = 0 changes nothing, 1 rescales
    fully. It prevents overexposed images at large w. Where std(u~) = 0, as for events of one number,
    u~ is returned unchanged; diffusers returns nan.

    Classifier-free guidance still takes one call with 2b examples; any other rule its own calls, and one
    with b examples for u(x | y). A rule with memory keeps it.

    Args:
        phi: the share of rescaling.
        rule: what is rescaled.

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

    def of_classifier_free(field: GuidedField, y: Condition, null: Condition, w: Scale) -> VectorField:
        velocities = both(field, y, null)

        def guided(x: Array, t: Array) -> Array:
            unguided, conditional = velocities(x, t)
            return _rescaled(affine(unguided, conditional, w, t), conditional, phi)

        return cheapest(w, guided, at_1=alone(field, y))

    def of_any(field: GuidedField, y: Condition, null: Condition, w: Scale) -> VectorField | StatefulField:
        inner, conditional = rule(field, y, null, w), alone(field, y)
        if not isinstance(inner, StatefulField):
            plain = inner
            return lambda x, t: _rescaled(plain(x, t), conditional(x, t), phi)
        stateful = inner

        def call(x: Array, t: Array, memory: Any) -> tuple[Array, Any]:
            velocity, memory = stateful.call(x, t, memory)
            return _rescaled(velocity, conditional(x, t), phi), memory

        return stateful._replace(call=call)

    return of_classifier_free if rule is classifier_free else of_any


def _rescaled(guided: Array, conditional: Array, phi: Number) -> Array:
    deviation, target = _deviation(guided), _deviation(conditional)
    ratio = jnp.where(deviation > 0, target / jnp.where(deviation > 0, deviation, 1), 1)
    weight = expand(phi, guided)
    return guided * (weight * ratio + (1 - weight))


def _deviation(velocity: Array) -> Array:
    return jnp.std(velocity, axis=tuple(range(1, velocity.ndim)), keepdims=True)
