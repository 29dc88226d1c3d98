"""Classifier guidance of a velocity field."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxflow.guidance.affine import alone, cheapest, null_at
from jaxflow.guidance.scales import scale_at
from jaxflow.per_example import check_shape, expand
from jaxflow.predictions import score_weight
from jaxflow.typing import Condition, GaussianPath, GuidedField, Rule, Scale, VectorField

LogProb = Callable[[Array, Array, Condition], Array]
"""A classifier of noisy data, (x, t, y) -> log p_t(y | x), (b,), in nats."""


def classifier(
    field: VectorField, path: GaussianPath, log_prob: LogProb, y: Condition, w: Scale
) -> VectorField:
    """Classifier guidance: u~(x, t) = u(x, t) + w b(t) grad_x log p_t(y | x).

    At t = 0, where b is infinite and the gradient zero, the guidance term is its limit,
    w beta^2 d/dt grad_x log p_t(y | x) = w alpha' (E[data | y] - E[data]).

    Args:
        field: unguided field (x, t) -> (b, *event).
        path: the Gaussian path of the field.
        log_prob: classifier of noisy data, (x, t, y) -> log p_t(y | x), (b,), in nats. A classifier of clean
            data, which ignores t, has a nonzero gradient at t = 0, where its product with b diverges.
        y: condition, a pytree with a leading axis of b examples.
        w: a number, one number per example (b,), or a function of t (b,).

    Raises:
        ValueError: w is not finite; or, while tracing, the field does not return the shape of x, or the
            classifier does not return (b,).

    >>> from jaxflow import paths
    >>> still = lambda x, t: jnp.zeros_like(x)
    >>> log_prob = lambda x, t, y: t * x[:, 0] * y
    >>> guided = classifier(still, paths.Linear(), log_prob, jnp.array([2.0]), 3.0)
    >>> guided(jnp.zeros((1, 1)), jnp.array([0.5])).item()  # w b grad = 3 * 1 * 1
    3.0
    """
    gradient = _gradient(log_prob, y)

    def inside(x: Array, t: Array) -> Array:
        return expand(score_weight(path, t), x) * gradient(x, t)

    def from_start(x: Array, t: Array) -> Array:
        _, slope = jax.jvp(lambda t: gradient(x, t), (t,), (jnp.ones_like(t),))
        limit = expand(path.beta(t) ** 2, x) * slope
        at_start = expand(path.alpha(t), x) == 0
        return jnp.where(at_start, limit, inside(x, t))

    def unguided(x: Array, t: Array) -> Array:
        return check_shape(field(x, t), x)

    def guided(x: Array, t: Array) -> Array:
        # The limit takes a second derivative: it is computed only in the step that starts at t = 0.
        term = jax.lax.cond(jnp.any(path.alpha(t) == 0), from_start, inside, x, t)
        return unguided(x, t) + expand(scale_at(w, t), x) * term

    return cheapest(w, guided, at_0=unguided)


def by_classifier(path: GaussianPath, log_prob: LogProb) -> Rule:
    """Classifier guidance as a rule: `classifier` applied to the field given null.

    Raises:
        ValueError: from the rule, as in `classifier`.

    >>> from jaxflow import paths
    >>> toward = lambda x, t, y: expand(y, x) - x
    >>> log_prob = lambda x, t, y: t * x[:, 0] * y
    >>> guided = by_classifier(paths.Linear(), log_prob)(toward, jnp.array([2.0]), jnp.array(0.0), 3.0)
    >>> guided(jnp.zeros((1, 1)), jnp.array([0.5])).item()
    3.0
    """

    def rule(field: GuidedField, y: Condition, null: Condition, w: Scale) -> VectorField:
        def unguided(x: Array, t: Array) -> Array:
            return alone(field, null_at(t, y, null))(x, t)

        return classifier(unguided, path, log_prob, y, w)

    return rule


def _gradient(log_prob: LogProb, y: Condition) -> VectorField:
    """grad_x log p_t(y | x)."""

    def total(x: Array, t: Array) -> Array:
        values = log_prob(x, t, y)
        if jnp.shape(values) != t.shape:
            raise ValueError(
                f"log_prob returned shape {jnp.shape(values)} for t of shape {t.shape}: they must be equal"
            )
        return jnp.sum(values)

    return jax.grad(total)
