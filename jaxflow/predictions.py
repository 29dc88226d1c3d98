r"""The quantities that a network may predict, and one conversion between them all.

On a Gaussian path x and the velocity u are linear in data and noise:

    [x]   [alpha   beta ] [data ]
    [u] = [alpha'  beta'] [noise],        score = -noise / beta,        v = alpha noise - beta data.

Any prediction determines data and noise, given x, and any target follows from these. The conversion
is affine in the prediction, so that it commutes with guidance, whose weights 1 - w and w add up to one.

The result is finite wherever the prediction determines the target. It is not for data and velocity from the
noise or the score at t = 0, where x is the noise alone; for noise and velocity from the data at t = 1; and
for the score at t = 1, which does not exist for data on a manifold. The velocity determines data and noise at
both ends, and the score at t = 0; v does so on every path, and at all times. Where both slopes of
a path vanish, the velocity determines nothing except, at t = 0, the noise, which is x / beta there; the
data are nan, and samplers that need them reject such times (`check_determined`).

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
    """The data and noise of x = alpha data + beta noise, as implied by a prediction."""

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
    """The data and noise implied by the prediction `value` of kind `source`, in float32 or wider.

    Here and in `convert`, `t` is one time per example, or one for all.

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
            # At alpha = 0, x is the noise alone, whatever the velocity and the slopes.
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
    """Convert the prediction `value` at (x, t) from the kind `source` to the kind `target`.

    Computed in float32 or wider and returned in the dtype of `value`.

    >>> from jaxflow import paths
    >>> x, velocity = jnp.array([[1.0]]), jnp.array([[2.0]])
    >>> convert(paths.Linear(), x, 0.25, velocity, source="velocity", target="data").item()
    2.5

    Raises:
        ValueError: `source` or `target` is not one of velocity, score, noise, data, v.
        TypeError: the path is not Gaussian.
    """
    for name, kind in (("source", source), ("target", target)):
        if kind not in get_args(Prediction):
            raise ValueError(f"{name} = {kind!r}: must be one of {', '.join(get_args(Prediction))}")
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
    """The velocity alpha' data + beta' noise of the parts."""
    c = _coefficients(path, of.data, t)
    return c.d_alpha * of.data + c.d_beta * of.noise


def gain(
    path: GaussianPath | GeneralPath,
    t: Float[Array, "..."] | float | int,
    *,
    source: Prediction,
    target: Prediction,
) -> Float[Array, "..."]:
    """The error in `target` caused by a unit error in `source` at the same x, of t's shape.

    Its square relates their losses: |u_th - u|^2 = gain(score, velocity)^2 |s_th - s|^2.

    >>> from jaxflow import paths
    >>> gain(paths.Linear(), 0.25, source="noise", target="velocity").item()
    -4.0
    """
    t = t if isinstance(t, jax.Array) else jnp.asarray(t, float)
    flat = t.reshape(-1)
    error = convert(path, jnp.zeros_like(flat), flat, jnp.ones_like(flat), source=source, target=target)
    return error.reshape(t.shape)


def score_weight(path: GaussianPath | GeneralPath, t: Float[Array, "..."]) -> Float[Array, "..."]:
    """The b of u = a x + b score: (alpha' beta^2 - beta' beta alpha) / alpha, infinite at t = 0; t's shape.

    >>> from jaxflow import paths
    >>> score_weight(paths.Linear(), jnp.array([0.25, 1.0])).tolist()
    [3.0, 0.0]
    """
    c = _finite_slope(path, t)
    return (c.d_alpha * c.beta**2 - c.d_beta * c.beta * c.alpha) / c.alpha


def check_determined(path: GaussianPath, times: Float[Array, " n"], part: Literal["data", "noise"]) -> None:
    """Reject a grid with steps that start where the path's velocity does not determine the data, or noise.

    It does not where both slopes vanish, except that the noise at t = 0 is x / beta all the same.

    Raises:
        ValueError: the grid has such times; traced times pass unchecked.
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
        f" the {part}; start times later, at {first + 1e-3:g}"
    )


def _finite_slope(path: GaussianPath | GeneralPath, t: Array) -> Coefficients:
    """The coefficients, one float before t = 1 where beta' is infinite: inf * 0 and inf / inf have limits."""
    here, before = (coefficients(path, time) for time in (t, jnp.minimum(t, 1 - jnp.finfo(t.dtype).epsneg)))
    finite = jnp.isfinite(here.d_beta)
    return Coefficients(*(jnp.where(finite, *values) for values in zip(here, before, strict=True)))


def _coefficients(path: GaussianPath | GeneralPath, x: Array, t: Array) -> Coefficients:
    """The coefficients, in the rank of x."""
    return Coefficients(*(expand(value, _widen(x)) for value in _finite_slope(path, t)))


def _widen(x: Array) -> Array:
    return x.astype(precision(x.dtype))
