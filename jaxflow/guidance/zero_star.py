"""CFG-Zero*: the unguided velocity scaled to the conditional one, and rest at the start."""

import jax.numpy as jnp
from jaxtyping import Array

from jaxflow.guidance.affine import affine, combined
from jaxflow.per_example import expand
from jaxflow.typing import Condition, GuidedField, Scale, VectorField


def zero_star(
    field: GuidedField, y: Condition, null: Condition, w: Scale, *, still_until: float | int = 0.04
) -> VectorField:
    """(1 - w) s u(x) + w u(x | y) with s = <u(x | y), u(x)> / |u(x)|^2, and 0 for t < still_until.

    s u(x) is the projection of the conditional velocity on the unguided one; an underfitted model is
    least right near the noise, where it is better not to move. At w = 1 the field is the
    conditional one from still_until on, at w = 0 the projection.

    Raises:
        ValueError: w is not finite, or still_until is outside [0, 1).

    Source: Fan et al. 2503.18886, algorithm 1; there the first 4 % of the steps.
    """
    if not 0 <= still_until < 1:
        raise ValueError(f"still_until = {still_until}: it lies in [0, 1)")

    def combine(unguided: Array, conditional: Array, x: Array, t: Array) -> Array:
        axes = tuple(range(1, x.ndim))
        along = jnp.sum(conditional * unguided, axis=axes, keepdims=True)
        size = jnp.sum(unguided**2, axis=axes, keepdims=True)
        return affine(along / jnp.maximum(size, jnp.finfo(size.dtype).tiny) * unguided, conditional, w, t)

    guided = combined(field, y, null, w, combine)
    if still_until == 0:
        return guided

    def still_at_first(x: Array, t: Array) -> Array:
        moving = expand((t >= still_until).astype(x.dtype), x) > 0
        return jnp.where(moving, guided(x, t), jnp.zeros_like(x))

    return still_at_first
