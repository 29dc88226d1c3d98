"""Rescaled guidance: the guided velocity given back the size of the conditional one."""

import jax.numpy as jnp
from jaxtyping import Array

from jaxflow.guidance.affine import affine, pair, shortest
from jaxflow.typing import Condition, GuidedField, Scale, VectorField


def rescaled(
    field: GuidedField, y: Condition, null: Condition, w: Scale, *, share: float | int = 0.7
) -> VectorField:
    """u~ (share std(u(x | y)) / std(u_w) + 1 - share), u_w the classifier-free velocity.

    The standard deviations are over the event of each example; share = 0 changes nothing, 1 restores
    the size in full. It keeps pictures from getting overexposed at large w.

    Raises:
        ValueError: w is not finite, or share is outside [0, 1].

    Source: Lin et al. 2305.08891, section 3.4, with velocities as the network's output.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share = {share}: a number in [0, 1] is needed")

    velocities = pair(field, y, null)

    def mixed(x: Array, t: Array) -> Array:
        unguided, conditional = velocities(x, t)
        guided = affine(unguided, conditional, w, t)
        axes = tuple(range(1, x.ndim))
        size = jnp.std(guided, axis=axes, keepdims=True)
        wanted = jnp.std(conditional, axis=axes, keepdims=True)
        return guided * (share * wanted / jnp.maximum(size, jnp.finfo(size.dtype).tiny) + (1 - share))

    return shortest(w, mixed, at_1=lambda x, t: field(x, t, y))
