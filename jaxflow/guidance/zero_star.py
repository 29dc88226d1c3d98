"""CFG-Zero*: the unguided velocity scaled to the conditional one, and rest at the start."""

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxflow.guidance.affine import affine, pair, shortest
from jaxflow.per_example import expand
from jaxflow.typing import Condition, GuidedField, Scale, VectorField


def zero_star(
    field: GuidedField, y: Condition, null: Condition, w: Scale, *, still_until: float | int = 0.04
) -> VectorField:
    """(1 - w) s u(x) + w u(x | y) with s = <u(x | y), u(x)> / |u(x)|^2, and 0 for t < still_until.

    s u(x) is the projection of the conditional velocity on the unguided one; an underfitted model is
    least right near the noise, where it is better not to move. At w = 1 the field is the
    conditional one from still_until on, at w = 0 the projection. A step rests as a whole if all its
    calls are before still_until: Euler's is one call, Heun's second is at the end of the step.

    Raises:
        ValueError: w is not finite, or still_until is outside [0, 1).

    Source: Fan et al. 2503.18886, algorithm 1; there the first 4 % of the steps.
    """
    if not 0 <= still_until < 1:
        raise ValueError(f"still_until = {still_until}: a number in [0, 1) is needed")

    velocities = pair(field, y, null)

    def mixed(x: Array, t: Array) -> Array:
        unguided, conditional = velocities(x, t)
        axes = tuple(range(1, x.ndim))
        along = jnp.sum(conditional * unguided, axis=axes, keepdims=True)
        size = jnp.sum(unguided**2, axis=axes, keepdims=True)
        return affine(along / jnp.maximum(size, jnp.finfo(size.dtype).tiny) * unguided, conditional, w, t)

    guided = shortest(w, mixed, at_1=lambda x, t: field(x, t, y))
    if still_until == 0:
        return guided

    def moving(x: Array, t: Array) -> Array:
        awake = expand(jnp.where(t < still_until, 0, 1), x)
        return jnp.where(awake == 0, jnp.zeros_like(x), guided(x, t))

    return lambda x, t: jax.lax.cond(jnp.all(t < still_until), lambda x, t: jnp.zeros_like(x), moving, x, t)
