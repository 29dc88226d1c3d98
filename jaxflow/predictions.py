r"""What a network may predict, and one conversion between all of it.

A Gaussian path mixes data and noise linearly, so that x and the velocity u are

    [x]   [alpha   beta ] [data ]
    [u] = [alpha'  beta'] [noise],        score = -noise / beta.

Each prediction, together with x, determines data and noise; each target is read off them. The
map is affine in the prediction with weights that add up to one where w and 1 - w do: guidance
commutes with it.

Finite wherever the prediction determines the target. What is not finite: data and velocity from the
noise or the score at t = 0, where x is the noise already; noise and velocity from the data at t = 1;
the score at t = 1, where data on a manifold have none. The velocity determines data and noise at
both ends, and the score at t = 0.
"""

from typing import Literal, NamedTuple, get_args

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow.paths import Coefficients, coefficients
from jaxflow.per_example import expand
from jaxflow.times import precision
from jaxflow.typing import GaussianPath, GeneralPath

Prediction = Literal["velocity", "score", "noise", "data"]


class Parts(NamedTuple):
    """What x is mixed of, alpha data + beta noise, as far as a prediction knows."""

    data: Array
    noise: Array


def parts(
    path: GaussianPath | GeneralPath,
    x: Float[Array, "b *event"],
    t: Float[Array, " b"],
    value: Float[Array, "b *event"],
    *,
    source: Prediction = "velocity",
) -> Parts:
    """Data and noise that the prediction `value` of kind `source` stands for, in float32 or wider.

    >>> from jaxflow import paths
    >>> x, t, velocity = jnp.array([[1.0]]), jnp.array([0.25]), jnp.array([[2.0]])
    >>> [part.item() for part in parts(paths.Linear(), x, t, velocity)]
    [2.5, 0.5]
    """
    alpha, beta, d_alpha, d_beta = _coefficients(path, x, t)
    x, value = _widen(x), _widen(value)
    if source == "velocity":
        determinant = alpha * d_beta - d_alpha * beta
        return Parts((d_beta * x - beta * value) / determinant, (alpha * value - d_alpha * x) / determinant)
    if source == "data":
        return Parts(value, (x - alpha * value) / beta)
    noise = -beta * value if source == "score" else value
    return Parts((x - beta * noise) / alpha, noise)


def convert(
    path: GaussianPath | GeneralPath,
    x: Float[Array, "b *event"],
    t: Float[Array, " b"],
    value: Float[Array, "b *event"],
    *,
    source: Prediction,
    target: Prediction,
) -> Float[Array, "b *event"]:
    """Turn the prediction `value` of kind `source` at (x, t) into the kind `target`.

    Computed in float32 or wider, whatever the dtype of `value`, and returned in that dtype.

    >>> from jaxflow import paths
    >>> x, t, velocity = jnp.array([[1.0]]), jnp.array([0.25]), jnp.array([[2.0]])
    >>> convert(paths.Linear(), x, t, velocity, source="velocity", target="data").item()
    2.5

    Raises:
        ValueError: `source` or `target` is none of velocity, score, noise, data.
        TypeError: the path is not Gaussian.
    """
    for name, kind in (("source", source), ("target", target)):
        if kind not in get_args(Prediction):
            raise ValueError(f"{name} = {kind!r}: allowed are {', '.join(get_args(Prediction))}")
    if source == target:
        return value
    data, noise = parts(path, x, t, value, source=source)
    match target:
        case "velocity":
            result = velocity(path, Parts(data, noise), t)
        case "score":
            result = -noise / _coefficients(path, x, t).beta
        case "noise":
            result = noise
        case "data":
            result = data
    return result.astype(value.dtype)


def velocity(path: GaussianPath | GeneralPath, of: Parts, t: Float[Array, " b"]) -> Float[Array, "b *event"]:
    """The velocity alpha' data + beta' noise along which the parts move."""
    c = _coefficients(path, of.data, t)
    return c.d_alpha * of.data + c.d_beta * of.noise


def gain(
    path: GaussianPath | GeneralPath, t: Float[Array, " b"], *, source: Prediction, target: Prediction
) -> Float[Array, " b"]:
    """Error of the prediction `target` for an error of one in the prediction `source` at the same x, (b,).

    The square of it is the weight between two losses: |u_th - u|^2 = gain(score, velocity)^2 |s_th - s|^2.

    >>> from jaxflow import paths
    >>> gain(paths.Linear(), jnp.array([0.25]), source="noise", target="velocity").item()
    -4.0
    """
    return convert(path, jnp.zeros_like(t), t, jnp.ones_like(t), source=source, target=target)


def score_weight(path: GaussianPath | GeneralPath, t: Float[Array, "..."]) -> Float[Array, "..."]:
    """The b of u = a x + b score: (alpha' beta^2 - beta' beta alpha) / alpha, infinite at t = 0, t's shape.

    >>> from jaxflow import paths
    >>> score_weight(paths.Linear(), jnp.array([0.25, 1.0])).tolist()
    [3.0, 0.0]
    """
    c = _finite_slope(path, t)
    return (c.d_alpha * c.beta**2 - c.d_beta * c.beta * c.alpha) / c.alpha


def _finite_slope(path: GaussianPath | GeneralPath, t: Array) -> Coefficients:
    """Where beta' is infinite, at t = 1, those a rounding before it: inf * 0 and inf / inf have limits."""
    here, before = (coefficients(path, time) for time in (t, jnp.minimum(t, 1 - jnp.finfo(t.dtype).epsneg)))
    finite = jnp.isfinite(here.d_beta)
    return Coefficients(*(jnp.where(finite, *values) for values in zip(here, before, strict=True)))


def _coefficients(path: GaussianPath | GeneralPath, x: Array, t: Array) -> Coefficients:
    """Of the rank of x."""
    return Coefficients(*(expand(value, _widen(x)) for value in _finite_slope(path, t)))


def _widen(x: Array) -> Array:
    return x.astype(precision(x.dtype))
