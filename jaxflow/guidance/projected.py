r"""Adaptive projected guidance: the difference without what only brightens, limited, with momentum.

With D the predicted data, the difference d = D(x | y) - D(x) is carried on as a running sum, cut to a
length, and split along and across D(x | y); the part along it oversaturates and is weakened:

    d_n = D(x | y) - D(x) + momentum d_{n-1},    d = d_n min(1, limit / |d_n|)
    D~ = D(x | y) + (w - 1) (d_across + parallel d_along)

Source: Sadat et al. 2410.02416, algorithm 1.
"""

import jax.numpy as jnp
from jaxtyping import Array

from jaxflow.guidance import scales
from jaxflow.guidance.affine import pair
from jaxflow.per_example import expand
from jaxflow.predictions import gain, parts
from jaxflow.typing import Condition, GaussianPath, GuidedField, Scale, StatefulField


def projected(
    field: GuidedField,
    path: GaussianPath,
    y: Condition,
    null: Condition,
    w: Scale,
    *,
    parallel: float | int = 0.0,
    limit: float | int = float("inf"),
    momentum: float | int = 0.0,
) -> StatefulField:
    """Adaptive projected guidance as a field with memory; one call with 2b examples.

    At w = 1 it is the conditional field; parallel = 1 with neither limit nor momentum is
    classifier-free guidance. The momentum advances with each call of the field, which is each step with the
    one-call solvers of the paper (`solvers.euler`, `adams_bashforth2`, `dpm_solver_2m`).

    Args:
        field: guided field (x, t, y) -> (b, *event).
        path: the Gaussian path of the field.
        y: condition, a pytree with a leading axis of b examples.
        null: the condition that says nothing, for one example.
        w: a number, one number per example (b,), or a function of t (b,).
        parallel: weight of the part along the prediction (eta in the paper), 0 to 1.
        limit: greatest norm of the difference of data (r in the paper), in units of data.
        momentum: of the running difference (beta in the paper, where it is negative, -0.5 or so).

    Raises:
        ValueError: w is not finite, limit is not positive, or momentum is not within (-1, 1).
    """
    scales.check(w)
    if not limit > 0:
        raise ValueError(f"limit = {limit}: the greatest norm must be positive")
    if not -1 < momentum < 1:
        raise ValueError(
            f"momentum = {momentum}: a number in (-1, 1) is needed, or the sum would grow for ever"
        )
    if scales.is_number(w, 1):
        return StatefulField(jnp.zeros_like, lambda x, t, memory: (field(x, t, y), memory))
    velocities = pair(field, y, null)

    def call(x: Array, t: Array, memory: Array) -> tuple[Array, Array]:
        unguided, conditional = velocities(x, t)
        axes, tiny = tuple(range(1, x.ndim)), jnp.finfo(x.dtype).tiny
        # Differences of data are those of velocities times a factor that vanishes at t = 1; in velocities
        # all stays finite, and what was remembered is let go there.
        to_data = expand(gain(path, t, source="velocity", target="data"), x)
        carried = jnp.where(to_data == 0, 0, momentum * memory / to_data)
        difference = conditional - unguided + carried
        length = jnp.abs(to_data) * jnp.sqrt(jnp.sum(difference**2, axis=axes, keepdims=True))
        limited = difference * jnp.minimum(1, limit / jnp.maximum(length, tiny))
        data = parts(path, x, t, conditional).data.astype(x.dtype)
        along = jnp.sum(limited * data, axis=axes, keepdims=True)
        size = jnp.maximum(jnp.sum(data**2, axis=axes, keepdims=True), tiny)
        extra = limited - (1 - parallel) * along / size * data
        guided = conditional + expand(scales.at(w, t) - 1, x) * extra
        return guided, to_data * difference

    return StatefulField(jnp.zeros_like, call)
