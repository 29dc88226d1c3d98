"""Rescaled guidance: the guided velocity given back the size of the conditional one."""

import jax.numpy as jnp
from jaxtyping import Array

from jaxflow import ranges
from jaxflow.guidance.affine import affine, alone, both, cheapest
from jaxflow.guidance.scales import Number
from jaxflow.per_example import expand
from jaxflow.typing import Condition, GuidedField, Rule, Scale, VectorField


def rescaled(*, share: Number = 0.7) -> Rule:
    """u~ (share std(u(x | y)) / std(u~) + 1 - share), u~ the classifier-free velocity.

    The standard deviations are over the event of each example; share = 0 changes nothing, 1 restores
    the size in full. It keeps pictures from getting overexposed at large w. Where u~ has no deviation, as an
    event of one number never has, nothing changes; in diffusers it is nan there.

    Raises:
        ValueError: share is outside [0, 1]; by the rule, w is not finite, or, while tracing, the field's
            answer has another shape than x.

    Source: Lin et al. 2305.08891, section 3.4, with velocities as the network's output.

    >>> stretched = lambda x, t, y: expand(y, x) * x
    >>> guided = rescaled(share=1.0)(stretched, jnp.array([2.0]), jnp.array(1.0), 3.0)
    >>> guided(jnp.array([[-1.0, 1.0]]), jnp.zeros(1)).tolist()
    [[-2.0, 2.0]]
    """
    ranges.share(share=share)

    def rule(field: GuidedField, y: Condition, null: Condition, w: Scale) -> VectorField:
        velocities = both(field, y, null)

        def guided(x: Array, t: Array) -> Array:
            unguided, conditional = velocities(x, t)
            mixed = affine(unguided, conditional, w, t)
            size, wanted = _deviation(mixed), _deviation(conditional)
            ratio = jnp.where(size > 0, wanted / jnp.where(size > 0, size, 1), 1)
            part = expand(share, mixed)
            return mixed * (part * ratio + (1 - part))

        return cheapest(w, guided, at_1=alone(field, y))

    return rule


def _deviation(velocity: Array) -> Array:
    return jnp.std(velocity, axis=tuple(range(1, velocity.ndim)), keepdims=True)
