"""The affine rule (1 - w) a + w b, and how the fields in it are called."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow.guidance import scales
from jaxflow.per_example import expand
from jaxflow.typing import Condition, GuidedField, Scale, VectorField

Combine = Callable[[Array, Array, Array, Array], Array]
"""(unguided, conditional, x, t) -> the guided velocity."""


def affine(
    unguided: Float[Array, "b *event"], guided: Float[Array, "b *event"], w: Scale, t: Float[Array, " b"]
) -> Float[Array, "b *event"]:
    """(1 - w) unguided + w guided, the rule that all conversions between predictions commute with.

    A side with no weight is not looked at: 0 times an infinite value would be nan.
    """
    scale = expand(scales.at(w, t), guided)
    mixed = unguided + scale * (guided - unguided)
    return jnp.where(scale == 0, unguided, jnp.where(scale == 1, guided, mixed))


def null_like(y: Condition, null: Condition) -> Condition:
    """`null` for each example of y; a null with a leading axis of examples is kept as it is."""
    return jax.tree.map(
        lambda leaf, none: jnp.broadcast_to(jnp.asarray(none, leaf.dtype), leaf.shape), y, null
    )


def pair(field: GuidedField, y: Condition, null: Condition) -> Callable[[Array, Array], tuple[Array, Array]]:
    """(x, t) -> the velocities given null and given y, by one call with 2b examples."""
    both = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), null_like(y, null), y)

    def velocities(x: Array, t: Array) -> tuple[Array, Array]:
        unguided, conditional = jnp.split(field(jnp.concatenate([x, x]), jnp.concatenate([t, t]), both), 2)
        return unguided, conditional

    return velocities


def combined(
    field: GuidedField,
    y: Condition,
    null: Condition,
    w: Scale,
    combine: Combine,
    *,
    unguided_at_0: bool = False,
) -> VectorField:
    """The field of a rule that is the conditional model at w = 1 (and the unguided one at w = 0, if so).

    Where w is a number known to be 1, or a function of t that is 1 for all examples, the field is
    called with b examples and not with 2b; so at 0.
    """
    scales.check(w)
    velocities = pair(field, y, null)

    def conditional(x: Array, t: Array) -> Array:
        return field(x, t, y)

    def unguided(x: Array, t: Array) -> Array:
        return field(x, t, null_like(y, null))

    def mixed(x: Array, t: Array) -> Array:
        return combine(*velocities(x, t), x, t)

    if scales.is_number(w, 1):
        return conditional
    if unguided_at_0 and scales.is_number(w, 0):
        return unguided
    if not callable(w):
        return mixed

    def by_time(x: Array, t: Array) -> Array:
        scale = w(t)
        otherwise = mixed
        if unguided_at_0:
            otherwise = lambda x, t: jax.lax.cond(jnp.all(scale == 0), unguided, mixed, x, t)  # noqa: E731
        return jax.lax.cond(jnp.all(scale == 1), conditional, otherwise, x, t)

    return by_time
