r"""What a network may predict, and one conversion between all of it.

A Gaussian path mixes data and noise linearly, so that x and the velocity u are

    [x]   [alpha   beta ] [data ]
    [u] = [alpha'  beta'] [noise],        score = -noise / beta,        v = alpha noise - beta data.

Each prediction, together with x, determines data and noise; each target is read off them. The
map is affine in the prediction with weights that add up to one where w and 1 - w do: guidance
commutes with it.

Finite wherever the prediction determines the target. What is not finite: data and velocity from the
noise or the score at t = 0, where x is the noise already; noise and velocity from the data at t = 1;
the score at t = 1, where data on a manifold have none. The velocity determines data and noise at
both ends, and the score at t = 0; v does so on every path, and at all times. Where both slopes of
a path vanish the velocity determines nothing, but at t = 0 the noise, which is x / beta there; the data
are nan, and samplers that need them refuse such times (`check_determined`).

Source: "Building an Image Generator", section on scores and velocities; v is the prediction of Salimans and
Ho 2202.00512, whose alpha^2 + beta^2 is 1.
"""

from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxflow.paths import Coefficients, coefficients
from jaxflow.per_example import Times, expand, times
from jaxflow.times import precision
from jaxflow.typing import GaussianPath, GeneralPath

Prediction = Literal["velocity", "score", "noise", "data", "v"]


class Parts(NamedTuple):
    """What x is mixed of, alpha data + beta noise, as far as a prediction knows."""

    data: Array
    noise: Array


def parts(
    path: GaussianPath | GeneralPath,
    x: Float[Array, "b *event"],
    t: Times,
    value: Float[Array, "b *event"],
    *,
    source: Prediction = "velocity",
) -> Parts:
    """Data and noise that the prediction `value` of kind `source` stands for, in float32 or wider.

    `t` is one time for each example, or one for all; so in `convert`.

    >>> from jaxflow import paths
    >>> x, t, velocity = jnp.array([[1.0]]), jnp.array([0.25]), jnp.array([[2.0]])
    >>> [part.item() for part in parts(paths.Linear(), x, t, velocity)]
    [2.5, 0.5]
    """
    alpha, beta, d_alpha, d_beta = _coefficients(path, x, times(t, x))
    x, value = _widen(x), _widen(value)
    match source:
        case "velocity":
            determinant = alpha * d_beta - d_alpha * beta
            data = (d_beta * x - beta * value) / determinant
            # At alpha = 0 x is the noise alone, whatever the velocity and the slopes.
            multiple = jnp.where(alpha == 0, x, alpha * value - d_alpha * x)
            return Parts(data, multiple / jnp.where(alpha == 0, beta, determinant))
        case "v":
            square = alpha**2 + beta**2
            return Parts((alpha * x - beta * value) / square, (beta * x + alpha * value) / square)
        case "data":
            return Parts(value, (x - alpha * value) / beta)
    noise = -beta * value if source == "score" else value
    return Parts((x - beta * noise) / alpha, noise)


def convert(
    path: GaussianPath | GeneralPath,
    x: Float[Array, "b *event"],
    t: Times,
    value: Float[Array, "b *event"],
    *,
    source: Prediction,
    target: Prediction,
) -> Float[Array, "b *event"]:
    """Turn the prediction `value` of kind `source` at (x, t) into the kind `target`.

    Computed in float32 or wider, whatever the dtype of `value`, and returned in that dtype.

    >>> from jaxflow import paths
    >>> x, velocity = jnp.array([[1.0]]), jnp.array([[2.0]])
    >>> convert(paths.Linear(), x, 0.25, velocity, source="velocity", target="data").item()
    2.5

    Raises:
        ValueError: `source` or `target` is none of velocity, score, noise, data, v.
        TypeError: the path is not Gaussian.
    """
    for name, kind in (("source", source), ("target", target)):
        if kind not in get_args(Prediction):
            raise ValueError(f"{name} = {kind!r}: allowed are {', '.join(get_args(Prediction))}")
    if source == target:
        return value
    t = times(t, x)
    of = parts(path, x, t, value, source=source)
    match target:
        case "velocity":
            result = velocity(path, of, t)
        case "score":
            result = -of.noise / _coefficients(path, x, t).beta
        case "noise":
            result = of.noise
        case "data":
            result = of.data
        case "v":
            c = _coefficients(path, x, t)
            result = c.alpha * of.noise - c.beta * of.data
    return result.astype(value.dtype)


def velocity(path: GaussianPath | GeneralPath, of: Parts, t: Float[Array, " b"]) -> Float[Array, "b *event"]:
    """The velocity alpha' data + beta' noise along which the parts move."""
    c = _coefficients(path, of.data, t)
    return c.d_alpha * of.data + c.d_beta * of.noise


def gain(
    path: GaussianPath | GeneralPath,
    t: Float[Array, "..."] | float | int,
    *,
    source: Prediction,
    target: Prediction,
) -> Float[Array, "..."]:
    """Error of the prediction `target` for an error of one in `source` at the same x, of t's shape.

    The square of it is the weight between two losses: |u_th - u|^2 = gain(score, velocity)^2 |s_th - s|^2.

    >>> from jaxflow import paths
    >>> gain(paths.Linear(), 0.25, source="noise", target="velocity").item()
    -4.0
    """
    t = t if isinstance(t, jax.Array) else jnp.asarray(t, float)
    flat = t.reshape(-1)
    error = convert(path, jnp.zeros_like(flat), flat, jnp.ones_like(flat), source=source, target=target)
    return error.reshape(t.shape)


def score_weight(path: GaussianPath | GeneralPath, t: Float[Array, "..."]) -> Float[Array, "..."]:
    """The b of u = a x + b score: (alpha' beta^2 - beta' beta alpha) / alpha, infinite at t = 0, t's shape.

    >>> from jaxflow import paths
    >>> score_weight(paths.Linear(), jnp.array([0.25, 1.0])).tolist()
    [3.0, 0.0]
    """
    c = _finite_slope(path, t)
    return (c.d_alpha * c.beta**2 - c.d_beta * c.beta * c.alpha) / c.alpha


def check_determined(path: GaussianPath, times: Float[Array, " n"], part: Literal["data", "noise"]) -> None:
    """Refuse a grid with steps that begin where a velocity on the path does not determine the data, or noise.

    That is where both slopes vanish. At t = 0 the noise is x all the same; begin later where data are needed.

    Raises:
        ValueError: there are such times, among those that are known.
    """
    with jax.ensure_compile_time_eval():
        t = times[:-1]
        c = _finite_slope(path, t)
        undetermined = c.alpha * c.d_beta == c.d_alpha * c.beta
        if part == "noise":
            undetermined &= c.alpha != 0
    if isinstance(undetermined, jax.core.Tracer) or not np.any(np.asarray(undetermined)):
        return
    first = np.asarray(t)[np.asarray(undetermined)][0]
    raise ValueError(
        f"t = {first:g} on path = {path}: alpha' = beta' = 0 there, so that the velocity does not determine"
        f" the {part}; let times begin later, at {first + 1e-3:g}"
    )


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
