r"""Adaptive projected guidance: the difference without what only brightens, limited, with momentum.

With D the predicted data, the difference d = D(x | y) - D(x) is carried on as a running sum, cut to a
length, and split along and across D(x | y); the part along it oversaturates and is weakened:

    d_n = D(x | y) - D(x) + momentum d_{n-1},    d = d_n min(1, limit / |d_n|)
    D~ = D(x | y) + (w - 1) (d_across + parallel d_along)

It is computed in velocities. Differences of data are those of velocities times a factor that vanishes at
t = 1, where velocities stay finite and what was remembered is let go; and that is infinite at t = 0 where
the slopes of the path vanish, and with them all velocities: there is no difference yet to be guided along.

Source: Sadat et al. 2410.02416, algorithm 1.
"""

import jax.numpy as jnp
from jaxtyping import Array

from jaxflow import ranges
from jaxflow.guidance.affine import alone, both, cheapest
from jaxflow.guidance.scales import Number, is_number, scale_at
from jaxflow.per_example import expand
from jaxflow.predictions import gain, parts
from jaxflow.typing import Condition, GaussianPath, GuidedField, Rule, Scale, StatefulField, VectorField


def projected(
    path: GaussianPath,
    *,
    parallel: Number = 0.0,
    limit: Number = float("inf"),
    momentum: Number = 0.0,
) -> Rule:
    """Adaptive projected guidance; one call with 2b examples, a field with memory unless momentum is 0.

    At w = 1 it is the conditional field; parallel = 1 with neither limit nor momentum is
    classifier-free guidance. The momentum advances with each call of the field, which is each step with the
    one-call solvers of the paper (`solvers.euler`, `adams_bashforth2`, `dpm_solver_2m`). Where w is 1, as
    a number or a function of t (`interval`), the conditional model alone is called and what was remembered
    is let go.

    Args:
        path: the Gaussian path of the field.
        parallel: weight of the part along the prediction (eta in the paper), 0 to 1.
        limit: greatest norm of the difference of data (r in the paper), in units of data.
        momentum: of the running difference (beta in the paper, where it is negative, -0.5 or so).

    In diffusers it is `use_original_formulation` with `guidance_scale` = w - 1, of a network that predicts
    the data; its default begins at D(x) instead, and it projects other predictions as they are.

    Raises:
        ValueError: parallel is not finite, limit is not positive, or momentum is not within (-1, 1); by
            the rule, w is not finite, or, while tracing, the field's answer has another shape than x.

    >>> from jaxflow import paths
    >>> there = lambda x, t, y: y  # at x = 0 and t = 0 the velocity is the predicted data
    >>> guided = projected(paths.Linear())(there, jnp.array([[2.0, 0.0]]), jnp.array([1.0, 1.0]), 3.0)
    >>> guided(jnp.zeros((1, 2)), jnp.zeros(1)).tolist()
    [[2.0, -2.0]]
    """
    ranges.finite(parallel=parallel)
    ranges.check(lambda norm: norm > 0, "a positive norm is needed", limit=limit)
    ranges.check(
        lambda factor: abs(factor) < 1,
        "a number in (-1, 1) is needed, or the sum would grow for ever",
        momentum=momentum,
    )

    def rule(field: GuidedField, y: Condition, null: Condition, w: Scale) -> VectorField | StatefulField:
        conditional_model, velocities = alone(field, y), both(field, y, null)
        if is_number(w, 1):
            return conditional_model

        def guided(x: Array, t: Array, memory: Array) -> tuple[Array, Array]:
            unguided, conditional = velocities(x, t)
            to_data = _to_data(path, x, t)
            carried = jnp.where(to_data == 0, 0, expand(momentum, x) * memory / to_data)
            difference = conditional - unguided + carried
            limited = difference * _cut(jnp.abs(to_data) * jnp.sqrt(_dot(difference, difference)), limit)
            data = _data(path, x, t, conditional)
            along = _dot(limited, data) / jnp.maximum(_dot(data, data), jnp.finfo(x.dtype).tiny) * data
            strength = expand(scale_at(w, t) - 1, x)
            kept = jnp.where(strength == 0, 0, to_data * difference)
            return conditional + strength * (limited - (1 - expand(parallel, x)) * along), kept

        def not_guided(x: Array, t: Array, memory: Array) -> tuple[Array, Array]:
            return conditional_model(x, t), jnp.zeros_like(memory)

        call = cheapest(w, guided, at_1=not_guided)
        if is_number(momentum, 0):
            return lambda x, t: call(x, t, jnp.zeros_like(x))[0]
        return StatefulField("projected guidance with momentum", jnp.zeros_like, call)

    return rule


def _to_data(path: GaussianPath, x: Array, t: Array) -> Array:
    """The factor from differences of velocities to those of data."""
    factor = gain(path, t, source="velocity", target="data")
    return expand(jnp.where(jnp.isfinite(factor), factor, 0), x)


def _data(path: GaussianPath, x: Array, t: Array, velocity: Array) -> Array:
    data = parts(path, x, t, velocity).data.astype(x.dtype)
    return jnp.where(jnp.isfinite(data), data, 0)


def _cut(length: Array, limit: Number) -> Array:
    return jnp.minimum(1, expand(limit, length) / jnp.maximum(length, jnp.finfo(length.dtype).tiny))


def _dot(one: Array, other: Array) -> Array:
    return jnp.sum(one * other, axis=tuple(range(1, one.ndim)), keepdims=True)
