"""CFG-Zero*: the unguided velocity optimally scaled, and zero velocity in the first steps."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxflow import ranges
from jaxflow.guidance.affine import affine, alone, both, cheapest
from jaxflow.guidance.scales import Number, is_number
from jaxflow.per_example import expand
from jaxflow.typing import Condition, GuidedField, Rule, Scale, VectorField


def zero_star(*, zero_until: Number = 0.0) -> Rule:
    """(1 - w) s u(x) + w u(x | y) with s = <u(x | y), u(x)> / |u(x)|^2, and 0 for t < zero_until.

    s u(x) is the projection of the conditional velocity on the unguided one. An underfitted model is
    least accurate near the noise, where a zero velocity does better. At w = 1 the field is the
    conditional one from `zero_until` on, at w = 0 the projection.

    The paper zeroes the first 4 % of the steps: on a grid of n steps, zero_until = grid[k] with
    k = int(0.04 * n), whatever the spacing. A step is zero as a whole if all its calls are before that time:
    Euler makes one call per step, at its start; Heun's second is at the end of the step.

    diffusers counts the zeroed steps, one by default, and has |u(x)|^2 + 1e-8 in the denominator, in float32.

    Args:
        zero_until: time until which the velocity is 0, in [0, 1); 0 disables it.

    Raises:
        ValueError: zero_until is outside [0, 1); from the rule: w is not finite, or, while tracing, the field
            does not return the shape of x.

    Source: Fan et al. 2503.18886, algorithm 1.

    >>> toward = lambda x, t, y: expand(y, x) - x
    >>> guided = zero_star(zero_until=0.1)(toward, jnp.array([1.0]), jnp.array(0.5), 2.0)
    >>> [guided(jnp.zeros((1, 1)), jnp.array([t])).item() for t in (0.0, 0.1)]
    [0.0, 1.0]
    """
    ranges.check(lambda time: (time >= 0) & (time < 1), "must be in [0, 1)", zero_until=zero_until)

    def rule(field: GuidedField, y: Condition, null: Condition, w: Scale) -> VectorField:
        velocities = both(field, y, null)

        def mixed(x: Array, t: Array) -> Array:
            unguided, conditional = velocities(x, t)
            return affine(_projection(conditional, unguided), conditional, w, t)

        guided = cheapest(w, mixed, at_1=alone(field, y))
        return guided if is_number(zero_until, 0) else _zeroed(guided, zero_until)

    return rule


def _projection(velocity: Array, onto: Array) -> Array:
    axes = tuple(range(1, velocity.ndim))
    along = jnp.sum(velocity * onto, axis=axes, keepdims=True)
    size = jnp.sum(onto**2, axis=axes, keepdims=True)
    return along / jnp.maximum(size, jnp.finfo(size.dtype).tiny) * onto


def _zeroed(field: VectorField, zero_until: Number) -> VectorField:
    def moving(x: Array, t: Array) -> Array:
        still = expand(t < jnp.asarray(zero_until, t.dtype), x) == 1
        return jnp.where(still, jnp.zeros_like(x), field(x, t))

    def zeroed(x: Array, t: Array) -> Array:
        still = jnp.all(t < jnp.asarray(zero_until, t.dtype))
        return jax.lax.cond(still, lambda x, t: jnp.zeros_like(x), moving, x, t)

    return zeroed
