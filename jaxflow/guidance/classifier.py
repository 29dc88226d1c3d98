"""Classifier guidance of a velocity field."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxflow.guidance import scales
from jaxflow.guidance.affine import shortest
from jaxflow.per_example import expand
from jaxflow.predictions import score_weight
from jaxflow.typing import Condition, GaussianPath, Scale, VectorField


def classifier(
    field: VectorField,
    path: GaussianPath,
    log_prob: Callable[[Array, Array, Condition], Array],
    y: Condition,
    w: Scale,
) -> VectorField:
    """Classifier guidance: u~(x, t) = u(x, t) + w b(t) grad_x log p_t(y | x).

    At t = 0, where b is infinite and the gradient zero, the product is the limit
    w beta^2 d/dt grad_x log p_t(y | x) = w alpha' (E[data | y] - E[data]).

    Args:
        field: unguided field (x, t) -> (b, *event).
        path: the Gaussian path of the field.
        log_prob: the classifier of noisy data, (x, t, y) -> log p_t(y | x), (b,), in nats. One of clean data,
            that is, one which ignores t, has a gradient at the noise, which b throws out of all bounds.
        y: condition, a pytree with a leading axis of b examples.
        w: a number, one number per example (b,), or a function of t (b,).

    Raises:
        ValueError: w is not finite.
    """

    def gradient(x: Array, t: Array) -> Array:
        return jax.grad(lambda x: jnp.sum(log_prob(x, t, y)))(x)

    def inside(x: Array, t: Array) -> Array:
        return expand(score_weight(path, t), x) * gradient(x, t)

    def from_start(x: Array, t: Array) -> Array:
        _, slope = jax.jvp(lambda t: gradient(x, t), (t,), (jnp.ones_like(t),))
        limit = expand(path.beta(t) ** 2, x) * slope
        at_start = expand(path.alpha(t), x) == 0
        return jnp.where(at_start, limit, inside(x, t))

    def guided(x: Array, t: Array) -> Array:
        # The limit needs a second derivative: it is computed in the step that begins at t = 0 only.
        term = jax.lax.cond(jnp.any(path.alpha(t) == 0), from_start, inside, x, t)
        return field(x, t) + expand(scales.at(w, t), x) * term

    return shortest(w, guided, at_0=field)
