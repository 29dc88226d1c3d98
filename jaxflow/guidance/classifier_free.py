"""Classifier-free guidance, with one condition or several."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array

from jaxflow.guidance.affine import affine, alone, both, cheapest, null_at, of_each
from jaxflow.guidance.scales import check, is_number, scale_at
from jaxflow.per_example import expand
from jaxflow.typing import Condition, GuidedField, Scale, VectorField


def classifier_free(field: GuidedField, y: Condition, null: Condition, w: Scale) -> VectorField:
    """Classifier-free guidance: u~(x, t) = (1 - w) u(x, t | null) + w u(x, t | y).

    One call of `field` with 2b examples, or with b where w is 0 or 1, as a Python number or a function of t.

    A negative condition is passed as null: u~ then points away from it, towards y.

    Args:
        field: guided field (x, t, y) -> (b, *event).
        y: condition, a pytree with a leading axis of b examples.
        null: null condition, in the same structure, for one example or for b; or a function from t (b,) to
            either.
        w: a number, one number per example (b,), or a function of t (b,); `guidance_scale` of diffusers, or
            with its `use_original_formulation` that plus 1.

    Raises:
        ValueError: w is not finite; or, while tracing, the field does not return the shape of x.

    >>> toward = lambda x, t, y: expand(y, x) - x
    >>> guided = classifier_free(toward, jnp.array([1.0]), jnp.array(0.0), 3.0)
    >>> guided(jnp.zeros((1, 1)), jnp.zeros(1)).item()
    3.0
    """
    velocities = both(field, y, null)

    def mixed(x: Array, t: Array) -> Array:
        return affine(*velocities(x, t), w, t)

    def unguided(x: Array, t: Array) -> Array:
        return alone(field, null_at(t, y, null))(x, t)

    return cheapest(w, mixed, at_1=alone(field, y), at_0=unguided)


def several(
    field: GuidedField, conditions: Sequence[Condition], null: Condition, scales: Sequence[Scale]
) -> VectorField:
    """Several conditions at once: u~ = u(x) + sum_i w_i (u(x | y_i) - u(x)).

    One call with (n + 1) b examples, less b for each coefficient that is the number 0, that of u(x) included.
    The densities of conditions that are independent given x multiply; a negative w_i pushes away from y_i.

    Args:
        field: guided field (x, t, y) -> (b, *event).
        conditions: the y_i, each a pytree with a leading axis of b examples.
        null: null condition, as in `classifier_free`.
        scales: the w_i, one per condition.

    Raises:
        ValueError: a scale is not finite, or the numbers of scales and conditions differ; or, while tracing,
            the field does not return the shape of x.

    Source: Liu et al. 2206.01714, equation 11.

    >>> toward = lambda x, t, y: expand(y, x) - x
    >>> y = [jnp.array([1.0]), jnp.array([4.0])]
    >>> several(toward, y, jnp.array(0.0), [2.0, -1.0])(jnp.zeros((1, 1)), jnp.zeros(1)).item()
    -2.0
    """
    if len(conditions) != len(scales) or not conditions:
        raise ValueError(
            f"{len(conditions)} conditions and {len(scales)} scales: expected one scale per condition"
        )
    for w in scales:
        check(w)

    def guided(x: Array, t: Array) -> Array:
        terms = [
            (null_at(t, conditions[0], null), _coefficient(scales)),
            *zip(conditions, scales, strict=True),
        ]
        used = [(y, w) for y, w in terms if not is_number(w, 0)] or terms[:1]
        velocities = of_each(field, x, t, [y for y, _ in used])
        return sum(
            (expand(scale_at(w, t), x) * u for u, (_, w) in zip(velocities, used, strict=True)),
            start=jnp.zeros_like(x),
        )

    return guided


def _coefficient(scales: Sequence[Scale]) -> Scale:
    """The coefficient of u(x), 1 - sum_i w_i: a number if all w_i are."""
    if all(isinstance(w, (int, float)) for w in scales):
        return 1 - sum(scales)  # type: ignore[arg-type]
    return lambda t: jnp.asarray(1 - sum(scale_at(w, t) for w in scales))
