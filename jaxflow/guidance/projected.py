r"""Adaptive projected guidance: the difference with norm limit and momentum, its parallel part reduced.

With D the predicted data, the difference D(x | y) - D(x) is accumulated with momentum, limited in norm, and
split into components parallel and orthogonal to D(x | y). The parallel one oversaturates and is reduced:

    d_n = D(x | y) - D(x) + momentum d_{n-1},    d = d_n min(1, limit / |d_n|)
    D~ = D(x | y) + (w - 1) (d_orthogonal + parallel d_parallel)

The computation is in velocities, whose differences times a factor are those of the data. At t = 1 the factor
vanishes; velocities stay finite there, and the momentum is dropped. At t = 0 the factor is infinite on paths
whose slopes vanish there; then all velocities vanish too, and there is no difference to guide along.

Source: Sadat et al. 2410.02416, algorithm 1.
"""

from typing import Any

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
    """Adaptive projected guidance; one call with 2b examples, a stateful field unless momentum is 0.

    At w = 1 it is the conditional field; parallel = 1 without limit or momentum is classifier-free guidance.
    The momentum advances with each call of the field, which is once per step for one-call solvers
    (`solvers.euler`, `adams_bashforth2`, `dpm_solver_2m`, `unipc`), as in the paper. Where w is 1, as a
    number or a function of t (`interval`), only the conditional model is called, and the momentum is dropped.

    Args:
        path: the Gaussian path of the field.
        parallel: weight of the component parallel to the prediction (eta in the paper), 0 to 1.
        limit: largest norm of the difference of data (r in the paper), in units of the data.
        momentum: of the running difference (beta in the paper, where it is negative, about -0.5).

    The equivalent in diffusers is `use_original_formulation` with `guidance_scale` = w - 1 and a network that
    predicts the data; its default adds the difference to D(x). Other predictions it projects as they are.

    Raises:
        ValueError: parallel is not finite, limit is not positive, or momentum is outside (-1, 1); from the
            rule: w is not finite, or, while tracing, the field does not return the shape of x.

    >>> from jaxflow import paths
    >>> there = lambda x, t, y: y  # at x = 0 and t = 0 the velocity is the predicted data
    >>> guided = projected(paths.Linear())(there, jnp.array([[2.0, 0.0]]), jnp.array([1.0, 1.0]), 3.0)
    >>> guided(jnp.zeros((1, 2)), jnp.zeros(1)).tolist()
    [[2.0, -2.0]]
    """
    ranges.finite(parallel=parallel)
    ranges.check(lambda norm: norm > 0, "must be positive", limit=limit)
    ranges.check(
        lambda factor: abs(factor) < 1,
        "must be in (-1, 1), for the running sum to stay bounded",
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
            norm = jnp.abs(to_data) * jnp.sqrt(jnp.maximum(_dot(difference, difference), _tiny(x)))
            limited = difference * _shrinkage(norm, limit)
            data = _data(path, x, t, conditional)
            component = _dot(limited, data) / _not_tiny(_dot(data, data)) * data
            strength = expand(scale_at(w, t) - 1, x)
            kept = jnp.where(strength == 0, 0, to_data * difference)
            return conditional + strength * (limited - (1 - expand(parallel, x)) * component), kept

        def not_guided(x: Array, t: Array, memory: Array) -> tuple[Array, Array]:
            return conditional_model(x, t), jnp.zeros_like(memory)

        call = cheapest(w, guided, at_1=not_guided)
        if is_number(momentum, 0):
            return lambda x, t: call(x, t, jnp.zeros_like(x))[0]
        return StatefulField("projected guidance with momentum", jnp.zeros_like, call)

    return rule


def _to_data(path: GaussianPath, x: Array, t: Array) -> Array:
    """The factor that turns differences of velocities into differences of data."""
    factor = gain(path, t, source="velocity", target="data")
    return expand(jnp.where(jnp.isfinite(factor), factor, 0), x)


def _data(path: GaussianPath, x: Array, t: Array, velocity: Array) -> Array:
    data = parts(path, x, t, velocity).data.astype(x.dtype)
    return jnp.where(jnp.isfinite(data), data, 0)


def _shrinkage(norm: Array, limit: Number) -> Array:
    # The selects keep derivatives finite where limit is infinite, as in a divergence.
    longer = norm > expand(limit, norm)
    return jnp.where(longer, jnp.where(longer, expand(limit, norm), 1) / jnp.where(longer, norm, 1), 1)


def _not_tiny(square: Array) -> Array:
    # 1 rather than the least number, whose inverse makes derivatives infinite where the data are 0.
    return jnp.where(square > _tiny(square), square, 1)


def _tiny(x: Array) -> Any:
    return jnp.finfo(x.dtype).tiny


def _dot(one: Array, other: Array) -> Array:
    return jnp.sum(one * other, axis=tuple(range(1, one.ndim)), keepdims=True)
