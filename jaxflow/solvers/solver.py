"""What a solver is, and its diffusion coefficient."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxflow import ranges
from jaxflow.predictions import check_determined
from jaxflow.typing import GaussianPath

Memory = Any
"""What a multistep method keeps from earlier steps: a pytree of arrays, () for a one-step method."""

Step = Callable[[Callable[[Array, Array], Array], Array, Array, Array, Memory, Any], tuple[Array, Memory]]
"""(field, x, t, t_next, memory, key) -> (x at t_next, memory), with scalar times and one key per example (b,)
for this step, which a deterministic method ignores."""

Sigma = float | int | Float[Array, ""] | Callable[[Array], Array]
"""A diffusion coefficient: a number >= 0, or a function of the scalar t."""


class Solver(NamedTuple):
    """An integration method.

    Attributes:
        name: name of the function of this module that makes it.
        step: one step.
        order: order of convergence; for a stochastic method the weak order, that of means.
        evaluations: calls of the field per step.
        start: x -> the memory before the first step.
        looks_ahead: whether a step that ends at t = 1 evaluates the field there.
        stochastic: whether it draws noise, and needs a key.
        forward_only: whether it integrates from noise to data only.
        check: raises a ValueError for known times (n + 1,) along which it cannot integrate.
    """

    name: str
    step: Step
    order: int
    evaluations: int
    start: Callable[[Array], Memory] = lambda x: ()
    looks_ahead: bool = False
    stochastic: bool = False
    forward_only: bool = False
    check: Callable[[Array], None] = lambda times: None


def at(sigma: Sigma, t: Array, x: Array) -> Array:
    """The diffusion coefficient at t, in the dtype of x."""
    return jnp.asarray(sigma(t) if callable(sigma) else sigma, x.dtype)


def check_sigma(sigma: Sigma, times: Array | None = None) -> None:
    """Reject a diffusion coefficient that is negative or not finite, as a number or where a step starts.

    Raises:
        ValueError: it is so, for a function at one of the times (n + 1,); traced values pass unchecked.
    """
    if not callable(sigma):
        return ranges.not_negative(sigma=sigma)
    if times is None or isinstance(times, jax.core.Tracer):
        return None
    with jax.ensure_compile_time_eval():
        values = jax.vmap(sigma)(times[:-1])
    if isinstance(values, jax.core.Tracer):
        return None
    requirement = "must be non-negative and finite; if it is infinite at t = 0, start times later"
    for t, value in zip(np.asarray(times)[:-1], np.asarray(values), strict=True):
        ranges.check(lambda v: (v >= 0) & np.isfinite(v), requirement, **{f"sigma({t:g})": value})
    return None


def determined(path: GaussianPath) -> Callable[[Array], None]:
    """The check of a solver that uses the predicted data at the start of each step."""
    return lambda times: check_determined(path, times, "data")
