r"""What a network may predict, and one conversion between all of it.

A Gaussian path mixes data and noise linearly, so that x and the velocity u are

    [x]   [alpha   beta ] [data ]
    [u] = [alpha'  beta'] [noise],        score = -noise / beta.

Each prediction, together with x, determines data and noise; each target is read off them. The
map is affine in the prediction with weights that add up to one where w and 1 - w do: guidance
commutes with it.

Finite wherever the target is determined by the prediction. What is not, is not finite: data,
noise and velocity from the noise at t = 0 (where x is the noise already) and from the data at
t = 1; the score at t = 1, where data on a manifold have none; data and velocity from the
score at t = 0. The velocity determines everything else at both ends.
"""

from typing import Literal, get_args

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow.paths import coefficients
from jaxflow.per_example import expand
from jaxflow.times import precision
from jaxflow.typing import Path

Prediction = Literal["velocity", "score", "noise", "data"]


def convert(
    path: Path,
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
    """
    for name, kind in (("source", source), ("target", target)):
        if kind not in get_args(Prediction):
            raise ValueError(f"{name} = {kind!r}: allowed are {', '.join(get_args(Prediction))}")
    if source == target:
        return value
    dtype = precision(value.dtype)
    x, wide = x.astype(dtype), value.astype(dtype)
    alpha, beta, d_alpha, d_beta = (expand(c, x) for c in coefficients(path, t))
    # An infinite slope at the end of a path acts as a very large one: inf / inf is not a limit.
    d_beta = jnp.maximum(d_beta, -jnp.sqrt(jnp.finfo(dtype).max))

    match source:
        case "velocity":
            determinant = alpha * d_beta - d_alpha * beta
            data = (d_beta * x - beta * wide) / determinant
            noise = (alpha * wide - d_alpha * x) / determinant
        case "score" | "noise":
            noise = -beta * wide if source == "score" else wide
            data = (x - beta * noise) / alpha
        case "data":
            data = wide
            noise = (x - alpha * data) / beta

    match target:
        case "velocity":
            result = d_alpha * data + d_beta * noise
        case "score":
            result = -noise / beta
        case "noise":
            result = noise
        case "data":
            result = data
    return result.astype(value.dtype)
