"""Building blocks of rules: both velocities in one call, the affine rule (1 - w) a + w b, its shortcuts."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow.guidance.scales import check, is_number, scale_at
from jaxflow.per_example import check_shape, expand, null_like
from jaxflow.typing import Condition, GuidedField, Scale, VectorField


def affine(
    unguided: Float[Array, "b *event"], guided: Float[Array, "b *event"], w: Scale, t: Float[Array, " b"]
) -> Float[Array, "b *event"]:
    """(1 - w) unguided + w guided, which commutes with all conversions between predictions.

    Infinities and nans of a side with weight 0 are ignored: multiplied by 0 they would give nan.

    >>> affine(jnp.array([[1.0]]), jnp.array([[3.0]]), 2.0, jnp.zeros(1)).tolist()
    [[5.0]]
    """
    scale = expand(scale_at(w, t), guided)
    unguided = jnp.where((scale == 1) & ~jnp.isfinite(unguided), 0, unguided)
    guided = jnp.where((scale == 0) & ~jnp.isfinite(guided), 0, guided)
    return (1 - scale) * unguided + scale * guided


def null_at(t: Float[Array, " b"], y: Condition, null: Condition | Callable[[Array], Condition]) -> Condition:
    """The null condition at times t, broadcast to the examples of y, in its structure and shapes.

    `null` is given for one example, for b examples, or as a function from t (b,) to either.

    >>> null_at(jnp.zeros(2), jnp.array([3, 4]), jnp.array(10)).tolist()
    [10, 10]
    """
    return null_like(y, null(t) if callable(null) else null)


def both(field: GuidedField, y: Condition, null: Condition) -> Callable[[Array, Array], tuple[Array, Array]]:
    """The velocities given null and given y, (x, t) -> (u(x), u(x | y)), by one call with 2b examples.

    Raises:
        ValueError: while tracing, the field does not return the shape of x.

    >>> toward = lambda x, t, y: expand(y, x) - x
    >>> velocities = both(toward, jnp.array([1.0]), jnp.array(0.0))
    >>> [u.item() for u in velocities(jnp.array([[0.5]]), jnp.zeros(1))]
    [-0.5, 0.5]
    """

    def velocities(x: Array, t: Array) -> tuple[Array, Array]:
        return tuple(of_each(field, x, t, [null_at(t, y, null), y]))  # type: ignore[return-value]

    return velocities


def alone(field: GuidedField, y: Condition) -> VectorField:
    """The velocity given y alone, by one call with b examples."""
    return lambda x, t: check_shape(field(x, t, y), x)


def of_each(field: GuidedField, x: Array, t: Array, conditions: list[Condition]) -> list[Array]:
    """The velocities at x given each of n conditions, by one call with n b examples."""
    n = len(conditions)
    together = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *conditions)
    points = jnp.concatenate([x] * n)
    return jnp.split(check_shape(field(points, jnp.concatenate([t] * n), together), points), n)


def cheapest(
    w: Scale,
    guided: Callable[..., Any],
    *,
    at_1: Callable[..., Any] | None = None,
    at_0: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """The field `guided`, or a cheaper one that equals it: `at_1` where w is 1, `at_0` where w is 0.

    The choice is made before tracing if w is a number, and at run time if w is a function of t, provided that
    all examples agree, as they do in a sampler. An array w always takes `guided`. (Under `jax.vmap` over
    a number in the function both are computed, and one selected.) Calls (x, t, memory) of stateful fields are
    chosen in the same way.

    Raises:
        ValueError: w is not finite.

    >>> cheapest(1.0, lambda x, t: 1 / 0, at_1=lambda x, t: x)(2.0, 0.5)
    2.0
    """
    check(w)
    if at_1 is not None and is_number(w, 1):
        return at_1
    if at_0 is not None and is_number(w, 0):
        return at_0
    if not callable(w):
        return guided

    def by_time(x: Array, t: Array, *memory: Any) -> Any:
        scale = scale_at(w, t)
        chosen = guided
        for value, cheaper in ((0, at_0), (1, at_1)):
            if cheaper is not None:
                chosen = _either(jnp.all(scale == value), cheaper, chosen)
        return chosen(x, t, *memory)

    return by_time


def _either(first: Array, one: Callable[..., Any], other: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *inputs: jax.lax.cond(first, one, other, *inputs)
