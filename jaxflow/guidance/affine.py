"""The affine rule (1 - w) a + w b, and which fields are called for it."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow.guidance import scales
from jaxflow.per_example import expand, null_like
from jaxflow.typing import Condition, GuidedField, Scale, VectorField

Pair = Callable[[Array, Array], tuple[Array, Array]]
"""(x, t) -> the velocities given null and given y."""


def affine(
    unguided: Float[Array, "b *event"], guided: Float[Array, "b *event"], w: Scale, t: Float[Array, " b"]
) -> Float[Array, "b *event"]:
    """(1 - w) unguided + w guided, the rule that all conversions between predictions commute with.

    Where a side has no weight its infinities and nans do not count: 0 times them would be nan.
    """
    scale = expand(scales.at(w, t), guided)
    unguided = jnp.where((scale == 1) & ~jnp.isfinite(unguided), 0, unguided)
    guided = jnp.where((scale == 0) & ~jnp.isfinite(guided), 0, guided)
    return (1 - scale) * unguided + scale * guided


def null_at(t: Array, y: Condition, null: Condition | Callable[[Array], Condition]) -> Condition:
    """The null condition of each example of y at the times t: of one example, of each, or a function of t."""
    return null_like(y, null(t) if callable(null) else null)


def pair(field: GuidedField, y: Condition, null: Condition) -> Pair:
    """Both velocities by one call with 2b examples."""

    def velocities(x: Array, t: Array) -> tuple[Array, Array]:
        both = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), null_at(t, y, null), y)
        unguided, conditional = jnp.split(field(jnp.concatenate([x, x]), jnp.concatenate([t, t]), both), 2)
        return unguided, conditional

    return velocities


def shortest(
    w: Scale, mixed: VectorField, *, at_1: VectorField | None = None, at_0: VectorField | None = None
) -> VectorField:
    """The field `mixed`, or a cheaper one that equals it: `at_1` where w is 1, `at_0` where w is 0.

    Known before tracing, if w is a number; while the program runs, if w is a function of t, which a
    sampler asks for at one time for all examples. An array w is not looked at. (`jax.vmap` over a number in
    the function computes both, and selects.)
    """
    scales.check(w)
    if at_1 is not None and scales.is_number(w, 1):
        return at_1
    if at_0 is not None and scales.is_number(w, 0):
        return at_0
    if not callable(w):
        return mixed

    def by_time(x: Array, t: Array) -> Array:
        scale = w(t)
        chosen = mixed
        for value, cheaper in ((0, at_0), (1, at_1)):
            if cheaper is not None:
                chosen = _either(jnp.all(scale == value), cheaper, chosen)
        return chosen(x, t)

    return by_time


def _either(condition: Array, one: VectorField, other: VectorField) -> VectorField:
    return lambda x, t: jax.lax.cond(condition, one, other, x, t)
