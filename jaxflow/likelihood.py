r"""Likelihood under the ODE: the change of variables, integrated backwards from the data.

    log p_1(x_1) = log N(x_0; 0, I) - int_0^1 div u(x_t, t) dt,    dx/dt = u(x, t)

The divergence is exact, by one Jacobian-vector product for each of the d dimensions of an event, or
an unbiased estimate, Hutchinson's E[e . J e] with random signs e, by one product per probe.

Source: Chen et al. 1806.07366; Grathwohl et al. 1810.01367; Song et al. 2011.13456, section 4.3.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow import per_example, ranges
from jaxflow.sampling import check_reversible, invert_ode
from jaxflow.solvers import Solver, rk4
from jaxflow.times import Grid, grid, precision
from jaxflow.typing import Keys, VectorField

_REMEDY = "use one determined by x and t alone, such as guidance.classifier_free"

MOST_PROBES = 2**16


def divergence(field: VectorField, x: Float[Array, "b *event"], t: Float[Array, " b"]) -> Float[Array, " b"]:
    """The exact divergence of the field in x, (b,), by d Jacobian-vector products.

    >>> divergence(lambda x, t: 2 * x, jnp.ones((1, 3)), jnp.zeros(1)).tolist()
    [6.0]

    Raises:
        ValueError: the field is stateful, or does not return the shape of x, here and throughout this module.
    """
    per_example.without_memory(field, _REMEDY)
    d = math.prod(x.shape[1:])
    directions = jnp.eye(d, dtype=x.dtype).reshape(d, 1, *x.shape[1:])

    def along(direction: Array) -> Array:
        return _quadratic_form(field, x, t, jnp.broadcast_to(direction, x.shape))

    return jnp.sum(jax.lax.map(along, directions), axis=0)


def estimated_divergence(
    field: VectorField, x: Float[Array, "b *event"], t: Float[Array, " b"], probes: Float[Array, "p b *event"]
) -> Float[Array, " b"]:
    """Hutchinson's estimate, the mean of e . J e over the probes e (p, b, *event), (b,)."""
    per_example.without_memory(field, _REMEDY)
    return jnp.mean(jax.lax.map(lambda probe: _quadratic_form(field, x, t, probe), probes), axis=0)


def log_prob(
    field: VectorField,
    data: Float[Array, "b *event"],
    times: Grid,
    *,
    solver: Solver | None = None,
    key: Keys | None = None,
    probes: int = 1,
) -> Float[Array, " b"]:
    """Log-likelihood of `data` under the flow, (b,), in nats.

    Summed over the event; flow_matching estimates it with one probe unless `exact_divergence` is set.

    Args:
        field: velocity (x, t) -> dx/dt, unguided or conditional; the noise at t = 0 is standard normal.
        data: (b, *event).
        times: grid from 0 to 1, integrated backwards, so that the field must be finite at t = 1; or a number
            of equal steps.
        solver: method from `jaxflow.solvers` that integrates both ways; rk4 by default.
        key: if None, the divergence is exact. Otherwise it is estimated with random signs drawn from the key,
            one for all or one per example, and fixed along the trajectory.
        probes: sign vectors per example in the estimate.

    Raises:
        TypeError: solver is not a Solver.
        ValueError: probes is below 1, the grid does not run from 0 to 1, or the solver integrates from noise
            to data only.

    >>> shrink = lambda x, t: -x  # data N(0, exp(-2))
    >>> round(log_prob(shrink, jnp.zeros((1, 1)), 10).item(), 4)
    0.0811
    """
    per_example.without_memory(field, _REMEDY)
    ranges.at_least(1, MOST_PROBES, probes=probes)
    method, steps = rk4() if solver is None else solver, grid(times)
    check_reversible(method)
    ranges.check(lambda t: (t[0] == 0) & (t[-1] == 1), "must run from 0 to 1", times=steps)
    b, *event = data.shape
    flat = data.reshape(b, -1).astype(precision(data.dtype))
    signs = None if key is None else _signs(key, probes, data)

    def with_log_density(state: Array, t: Array) -> Array:
        x = state[:, :-1].reshape(b, *event).astype(data.dtype)
        change = divergence(field, x, t) if signs is None else estimated_divergence(field, x, t, signs)
        velocity = per_example.check_shape(field(x, t), x)
        return jnp.concatenate([velocity.reshape(b, -1), change[:, None]], axis=1).astype(state.dtype)

    state = jnp.concatenate([flat, jnp.zeros_like(flat[:, :1])], axis=1)
    state = invert_ode(with_log_density, state, steps, solver=method)
    noise, expansion = state[:, :-1], -state[:, -1]
    return -0.5 * jnp.sum(noise**2 + math.log(2 * math.pi), axis=1) - expansion


def bits_per_dimension(
    log_prob: Float[Array, " b"], dimensions: int, *, levels: int | None = None
) -> Float[Array, " b"]:
    """-log2 p per dimension, (b,).

    With `levels`, the value for discrete data of that many levels (256 for images): the density of
    (2 level + 2 u) / levels - 1, with u uniform in [0, 1), times the width 2 / levels of a level.

    >>> bits_per_dimension(jnp.array([0.0]), 10, levels=256).tolist()
    [7.0]
    """
    bits = -log_prob / (dimensions * math.log(2))
    return bits if levels is None else bits + math.log2(levels / 2)


def _quadratic_form(field: VectorField, x: Array, t: Array, e: Array) -> Array:
    _, product = jax.jvp(lambda x: per_example.check_shape(field(x, t), x), (x,), (e,))
    return jnp.sum(e * product, axis=tuple(range(1, x.ndim)))


def _signs(key: Keys, probes: int, data: Array) -> Array:
    draw = lambda key: jax.random.rademacher(key, (probes, *data.shape[1:]), data.dtype)  # noqa: E731
    return jnp.moveaxis(jax.vmap(draw)(per_example.keys(key, data.shape[0])), 1, 0)
