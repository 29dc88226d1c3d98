"""The ODE with steps chosen to a tolerance, and its solution at any time, by diffrax.

A fixed grid is faster where the cost is a network and the eye judges; this is the reference, and the
way to a likelihood or a trajectory of stated accuracy.

Source: Kidger, "On Neural Differential Equations", 2202.02435.
"""

from collections.abc import Callable

import diffrax
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow.times import precision
from jaxflow.typing import VectorField


def sample_ode(
    field: VectorField,
    noise: Float[Array, "b *event"],
    *,
    start: float = 0.0,
    end: float = 1.0,
    tolerance: float = 1e-5,
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
        ValueError: tolerance is not positive.
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
    start: float = 0.0,
    end: float = 1.0,
    tolerance: float = 1e-5,
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
    field: VectorField,
    x: Array,
    start: float,
    end: float,
    tolerance: float,
    most_steps: int,
    save: diffrax.SaveAt,
) -> diffrax.Solution:
    if not tolerance > 0:
        raise ValueError(f"tolerance = {tolerance}: a positive number is needed")
    narrow, dtype = x.dtype, precision(x.dtype)

    def slope(t, x, _):
        # As in `sampling`: the field sees its own dtype, the state is float32 or wider.
        return field(x.astype(narrow), jnp.broadcast_to(jnp.asarray(t, dtype), x.shape[:1])).astype(dtype)

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
