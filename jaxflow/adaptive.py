"""Adaptive integration of the ODE to a tolerance, with dense output, by diffrax.

For images a fixed grid is faster and accurate enough; this is the reference, and gives trajectories of stated
accuracy.

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
    max_steps: int = 4096,
) -> Float[Array, "b *event"]:
    """Integrate the field from `noise`, from `start` to `end` or back, by the Dormand-Prince pair of order 5.

    Args:
        field: (x, t) -> dx/dt.
        noise: starting point, (b, *event).
        start: time of `noise`.
        end: time of the result.
        tolerance: relative and absolute error per step; the whole batch shares one step size.
        max_steps: largest number of steps.

    Raises:
        ValueError: tolerance is not positive, start or end is outside [0, 1], or max_steps is below 1; the
            field is stateful, or does not return the shape of x.
        RuntimeError: `max_steps` steps do not suffice.

    >>> round(sample_ode(lambda x, t: -x, jnp.ones((1, 1))).item(), 4)
    0.3679
    """
    values = _solve(field, noise, start, end, tolerance, max_steps, diffrax.SaveAt(t1=True)).ys
    assert values is not None
    return values[0].astype(noise.dtype)


def solution(
    field: VectorField,
    noise: Float[Array, "b *event"],
    *,
    start: Number = 0.0,
    end: Number = 1.0,
    tolerance: Number = 1e-5,
    max_steps: int = 4096,
) -> Callable[[Float[Array, ""]], Float[Array, "b *event"]]:
    """The trajectory as a function of t between `start` and `end` (dense output); arguments: `sample_ode`.

    >>> trajectory = solution(lambda x, t: -x, jnp.ones((1, 1)))
    >>> round(trajectory(jnp.array(0.5)).item(), 4)
    0.6065
    """
    solved = _solve(field, noise, start, end, tolerance, max_steps, diffrax.SaveAt(dense=True))
    return lambda t: solved.evaluate(t).astype(noise.dtype)


def _solve(
    field: Any,
    x: Array,
    start: Number,
    end: Number,
    tolerance: Number,
    max_steps: int,
    save: diffrax.SaveAt,
) -> diffrax.Solution:
    per_example.without_memory(field, "adaptive steps may be rejected; use jaxflow.sampling")
    ranges.positive(tolerance=tolerance)
    ranges.fraction(start=start, end=end)
    ranges.at_least(1, max_steps=max_steps)
    narrow, dtype = x.dtype, precision(x.dtype)

    def slope(t, x, _):
        # As in `sampling`: the field sees its own dtype, the state is float32 or wider.
        velocity = field(x.astype(narrow), per_example.times(jnp.asarray(t, dtype), x))
        return per_example.check_shape(velocity, x).astype(dtype)

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
            max_steps=max_steps,
        )
