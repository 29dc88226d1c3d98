"""The ODE with steps chosen to a tolerance, and its solution at any time, by diffrax.

A fixed grid is faster where the cost is a network and the eye judges; this is the reference, and the
way to a likelihood or a trajectory of stated accuracy.

Source: Kidger, "On Neural Differential Equations", 2202.02435.
"""

from collections.abc import Callable
from typing import Any

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow import per_example, ranges
from jaxflow.times import Number, precision
from jaxflow.typing import VectorField


def sample_ode(
    field: VectorField,
    noise: Float[Array, "b *event"],
    *,
    start: Number = 0.0,
    end: Number = 1.0,
    tolerance: Number = 1e-5,
    most_steps: int = 4096,
) -> Float[Array, "b *event"]:
    """Carry `noise` along the field from `start` to `end`, or back, by Dormand and Prince's pair of order 5.

    Args:
        field: (x, t) -> dx/dt.
        noise: where to start, (b, *event).
        start: time of `noise`.
        end: time of the answer.
        tolerance: error of one step, relative and absolute; one step size serves the whole batch.
        most_steps: steps after which it gives up.

    Raises:
        ValueError: tolerance is not positive, start or end is outside [0, 1], most_steps is below 1; the
            field has memory, or answers with another shape than that of x.
        RuntimeError: more than `most_steps` steps would be needed.

    >>> round(sample_ode(lambda x, t: -x, jnp.ones((1, 1))).item(), 4)
    0.3679
    """
    values = _solve(field, noise, start, end, tolerance, most_steps, diffrax.SaveAt(t1=True)).ys
    assert values is not None
    return values[0].astype(noise.dtype)


def solution(
    field: VectorField,
    noise: Float[Array, "b *event"],
    *,
    start: Number = 0.0,
    end: Number = 1.0,
    tolerance: Number = 1e-5,
    most_steps: int = 4096,
) -> Callable[[Float[Array, ""]], Float[Array, "b *event"]]:
    """The trajectory as a function of t between `start` and `end` (dense output); arguments as `sample_ode`.

    >>> trajectory = solution(lambda x, t: -x, jnp.ones((1, 1)))
    >>> round(trajectory(jnp.array(0.5)).item(), 4)
    0.6065
    """
    solved = _solve(field, noise, start, end, tolerance, most_steps, diffrax.SaveAt(dense=True))
    return lambda t: solved.evaluate(t).astype(noise.dtype)


def _solve(
    field: Any,
    x: Array,
    start: Number,
    end: Number,
    tolerance: Number,
    most_steps: int,
    save: diffrax.SaveAt,
) -> diffrax.Solution:
    per_example.without_memory(field, "adaptive steps are tried and taken back; use jaxflow.sampling")
    ranges.positive(tolerance=tolerance)
    ranges.share(start=start, end=end)
    ranges.at_least(1, most_steps=most_steps)
    narrow, dtype = x.dtype, precision(x.dtype)

    def slope(t, x, _):
        # As in `sampling`: the field sees its own dtype, the state is float32 or wider.
        velocity = field(x.astype(narrow), per_example.times(jnp.asarray(t, dtype), x))
        return per_example.answer(velocity, x).astype(dtype)

    # diffrax promotes its own scalars to the dtype of x.
    with jax.numpy_dtype_promotion("standard"):
        return diffrax.diffeqsolve(
            diffrax.ODETerm(slope),
            diffrax.Dopri5(),
            t0=jnp.asarray(start, dtype),
            t1=jnp.asarray(end, dtype),
            dt0=None,
            y0=x.astype(dtype),
            saveat=save,
            stepsize_controller=diffrax.PIDController(rtol=tolerance, atol=tolerance),
            max_steps=most_steps,
        )
