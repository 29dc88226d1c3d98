r"""Sampling: integrate a field from noise (t = 0) to data (t = 1).

    ODE    dx = u(x, t) dt
    SDE    dX = [u(X, t) + sigma(t)^2 / 2 grad log p_t(X)] dt + sigma(t) dW
    DDPM   X_next = alpha_next E[data | X] + sqrt(beta_next^2 - s^2) E[noise | X] + s noise

The first two have the marginals p_t, for any sigma >= 0. The score is computed from the same field, since
on a Gaussian path each is an affine function of the other; a guided field therefore gives the guided score
of the same w. The third samples the exact reversal of the forward process given the predicted data; in the
limit of fine steps it is the SDE with sigma^2 = 2b (eta = 1) or the ODE (eta = 0, DDIM).

`times` is an increasing grid, or a number of equal steps. The noise of example i in step n comes
from `fold_in(fold_in(key, i), n)`, so that a sample does not depend on its batch.

Source: "Building an Image Generator", sections on sampling with guidance and on SDEs; Song et al.
2010.02502, equation 16. An Euler-Maruyama step that adds noise without the score term, or scales
its noise twice, does not preserve the marginals.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxflow import per_example, ranges, solvers
from jaxflow.predictions import check_determined, convert, score_weight
from jaxflow.solvers import Sigma, Solver
from jaxflow.times import Grid, Number, grid, precision
from jaxflow.typing import GaussianPath, Keys, StatefulField, VectorField

Field = VectorField | StatefulField
Drift = Callable[[Array, Array, Array], Array]
"""(u, x, t (b,)) -> the drift of an SDE, given the velocity u."""


def sample_ode(
    field: Field,
    noise: Float[Array, "b *event"],
    times: Grid,
    *,
    solver: Solver | None = None,
    trajectory: bool = False,
) -> Float[Array, "..."]:
    """Integrate the field from `noise`, along the grid `times`.

    Args:
        field: (x, t) -> dx/dt; a stateful field is called in the order of the solver's stages.
        noise: starting point, (b, *event), at times[0].
        times: grid, (n + 1,), or a number of equal steps; decreasing to go from data to noise (`invert_ode`).
        solver: deterministic method from `jaxflow.solvers`; midpoint by default.
        trajectory: return all points, (n + 1, b, *event), not just the last.

    Raises:
        TypeError: solver is not a Solver.
        ValueError: solver draws noise; the times are outside [0, 1], or the solver cannot integrate along
            them; the field does not return the shape of x.

    >>> decay = lambda x, t: -x
    >>> from jaxflow import solvers
    >>> round(sample_ode(decay, jnp.ones((1, 1)), 10, solver=solvers.rk4()).item(), 4)
    0.3679
    """
    method = solvers.check(solvers.midpoint() if solver is None else solver)
    if method.stochastic:
        raise ValueError(f"solver = {method.name}: must be deterministic; it draws noise, use `sample_sde`")
    steps = grid(times, increasing=method.forward_only)
    return _integrate(method, field, noise, steps, trajectory)


def invert_ode(
    field: Field,
    data: Float[Array, "b *event"],
    times: Grid,
    *,
    solver: Solver | None = None,
    trajectory: bool = False,
) -> Float[Array, "..."]:
    """The noise from which the ODE leads to `data`: `sample_ode` along the reversed grid.

    The first evaluation of the field is at the last of the times. Where the velocity is infinite at t = 1, as
    on `SquareRoot` and the variance-preserving paths, end the grid a little earlier.

    Raises:
        TypeError: solver is not a Solver.
        ValueError: solver integrates from noise to data only.

    >>> from jaxflow import solvers
    >>> decay, rk4 = lambda x, t: -x, solvers.rk4()
    >>> x = sample_ode(decay, jnp.ones((1, 1)), 10, solver=rk4)
    >>> round(invert_ode(decay, x, 10, solver=rk4).item(), 4)
    1.0
    """
    if solver is not None:
        check_reversible(solver)
    return sample_ode(field, data, grid(times)[::-1], solver=solver, trajectory=trajectory)


def sample_sde(
    key: Keys,
    field: Field,
    path: GaussianPath,
    noise: Float[Array, "b *event"],
    times: Grid,
    *,
    sigma: Sigma,
    solver: Callable[[Sigma], Solver] = solvers.euler_maruyama,
    score: VectorField | None = None,
    trajectory: bool = False,
) -> Float[Array, "..."]:
    """Sample the SDE with the field's marginals; a step that ends at t = 1 adds no noise.

    Make that step short (`times.cosine`), since the variance of its noise is missing from the samples.

    Args:
        key: one key, or one key per example (b,).
        field: velocity (x, t) -> (b, *event), guided or not.
        path: the Gaussian path of the field, by which the score is computed from the velocity.
        noise: starting point, (b, *event), at times[0].
        times: increasing grid, (n + 1,), or a number of equal steps.
        sigma: diffusion coefficient, a number >= 0 or a function of the scalar t; 0 gives the ODE.
        solver: function of sigma, `solvers.euler_maruyama` or `solvers.stochastic_heun`.
        score: score (x, t) -> (b, *event) of a separate model; by default that of the field.
        trajectory: return all points, (n + 1, b, *event), not just the last.

    Raises:
        TypeError: solver is not a function from sigma to a stochastic method.
        ValueError: sigma is negative or not finite at one of the times, they do not increase within [0, 1],
            or the velocity does not determine the score there.
    """
    steps = grid(times, increasing=True)
    method = solvers.with_sigma(solver, sigma)
    solvers.check_sigma(sigma, steps)
    if score is None:
        check_determined(path, steps, "noise")

    def step(drift, x, t, t_next, memory, key):
        noiseless_end = lambda s: jnp.where(t_next == 1, 0, solvers.at(sigma, s, x))  # noqa: E731
        return solver(noiseless_end).step(drift, x, t, t_next, memory, key)

    def drift(u, x, t):
        if score is None:
            own = convert(path, x, t, u, source="velocity", target="score")
        else:
            own = per_example.check_shape(score(x.astype(noise.dtype), t), x).astype(x.dtype)
        return u + solvers.at(sigma, t[0], x) ** 2 / 2 * own

    keys = per_example.keys(key, noise.shape[0])
    return _integrate(method._replace(step=step), field, noise, steps, trajectory, keys, drift)


def simulate_sde(
    key: Keys,
    drift: VectorField,
    start: Float[Array, "b *event"],
    times: Grid,
    *,
    sigma: Sigma,
    solver: Callable[[Sigma], Solver] = solvers.euler_maruyama,
    trajectory: bool = False,
) -> Float[Array, "..."]:
    """Any dX = drift(X, t) dt + sigma(t) dW, with noise in every step.

    The drift of Brownian motion is 0, that of an Ornstein-Uhlenbeck process -theta x, and that of Langevin
    dynamics sigma^2 / 2 times the score of its stationary distribution.
    """
    steps = grid(times)
    method = solvers.with_sigma(solver, sigma)
    solvers.check_sigma(sigma, steps)
    return _integrate(method, drift, start, steps, trajectory, per_example.keys(key, start.shape[0]))


def sample_ddpm(
    key: Keys,
    field: Field,
    path: GaussianPath,
    noise: Float[Array, "b *event"],
    times: Grid,
    *,
    eta: float | int | Float[Array, ""] = 1.0,
    solver: Callable[..., Solver] = solvers.ancestral,
    trajectory: bool = False,
) -> Float[Array, "..."]:
    """Ancestral sampling: each step samples x at t_next given the predicted data (`solvers.ancestral`).

    eta = 1 is DDPM, whose limit of fine steps is the SDE with sigma^2 = 2b (`reversal_sigma`); eta = 0 is
    DDIM, whose limit is the ODE. `solvers.dpm_solver_2m` takes steps of second order in the predicted data.

    EulerDiscrete of diffusers is eta = 0 and its EulerAncestral eta = 1, in terms of x / alpha.

    Raises:
        TypeError: solver does not make a Solver from path and eta.
        ValueError: eta is outside [0, 1], the times do not increase within [0, 1], or the velocity does not
            determine the data at one of them.
    """
    method = solvers.check(solver(path, eta))
    steps = grid(times, increasing=True)
    return _integrate(method, field, noise, steps, trajectory, per_example.keys(key, noise.shape[0]))


def sample_churned(
    key: Keys,
    field: Field,
    path: GaussianPath,
    noise: Float[Array, "b *event"],
    times: Grid,
    *,
    churn: Number,
    solver: Solver | None = None,
    sigma_min: Number = 0.0,
    sigma_max: Number = float("inf"),
    inflation: Number = 1.0,
    trajectory: bool = False,
) -> Float[Array, "..."]:
    """EDM's stochastic sampler: `solvers.churned` with the rise min(churn / n, sqrt(2) - 1) in n steps.

    churn is S_churn, which the paper tunes with the other numbers: 40, 0.05, 50 and 1.003 for ImageNet 64.

    Raises:
        ValueError: churn is negative or not finite, the times do not increase within [0, 1], or as
            `solvers.churned`.

    Source: Karras et al. 2206.00364, algorithm 2 and table 5.
    """
    ranges.not_negative(churn=churn)
    steps = grid(times, increasing=True)
    rise = jnp.minimum(jnp.asarray(churn, steps.dtype) / (len(steps) - 1), 2**0.5 - 1)
    numbers = {"sigma_min": sigma_min, "sigma_max": sigma_max, "inflation": inflation}
    method = solvers.churned(path, rise, solver, **numbers)
    return _integrate(method, field, noise, steps, trajectory, per_example.keys(key, noise.shape[0]))


def reversal_sigma(path: GaussianPath) -> Callable[[Array], Array]:
    """The sigma(t) = sqrt(2 b) with which the SDE reverses the forward process, as DDPM does.

    b = (alpha' beta^2 - beta' beta alpha) / alpha is infinite at t = 0: start the grid of `sample_sde`
    later, or use `sample_ddpm`, which does not need b.

    >>> from jaxflow import paths
    >>> round(float(reversal_sigma(paths.Linear())(jnp.array(0.2))), 4)
    2.8284
    """
    return lambda t: jnp.sqrt(2 * score_weight(path, t))


def check_reversible(solver: Any) -> None:
    """Reject a solver that cannot integrate from data to noise.

    Raises:
        TypeError: solver is not a Solver.
        ValueError: solver integrates from noise to data only.
    """
    method = solvers.check(solver)
    if method.stochastic or method.forward_only:
        raise ValueError(
            f"solver = {method.name}: must integrate from data to noise too, as euler, midpoint, heun, rk4 do"
        )


def _integrate(
    method: Solver,
    field: Field,
    start: Array,
    times: Array,
    trajectory: bool,
    keys: Key[Array, " b"] | None = None,
    drift: Drift = lambda u, x, t: u,
) -> Array:
    """The loop over the steps."""
    method.check(times)
    stateful = field if isinstance(field, StatefulField) else _stateless(field)
    dtype = start.dtype

    def advance(carry, interval):
        x, memory, field_memory = carry
        n, t, t_next = interval
        calls = _StepField(stateful, field_memory, dtype, drift)
        key = None if keys is None else per_example.fold_in(keys, n)
        x, memory = method.step(calls, x, t, t_next, memory, key)
        return (x, memory, calls.memory), x.astype(dtype) if trajectory else None

    # In float32 or wider: in bfloat16 a short step would be lost to rounding.
    x = start.astype(precision(dtype))
    intervals = jnp.arange(times.shape[0] - 1), times[:-1], times[1:]
    (end, *_), points = jax.lax.scan(advance, (x, method.start(x), stateful.start(start)), intervals)
    return end.astype(dtype) if points is None else jnp.concatenate([start[None], points])


class _StepField:
    """The field within one step: threads the memory of a stateful field through its calls during tracing."""

    def __init__(self, field: StatefulField, memory: Any, dtype: Any, drift: Drift):
        self._field = field
        self._dtype = dtype
        self._drift = drift
        self.memory = memory

    def __call__(self, x: Array, t: Array) -> Array:
        t = per_example.times(t, x)
        velocity, self.memory = self._field.call(x.astype(self._dtype), t, self.memory)
        return self._drift(per_example.check_shape(velocity, x).astype(x.dtype), x, t)


def _stateless(field: VectorField) -> StatefulField:
    return StatefulField("", lambda x: (), lambda x, t, memory: (field(x, t), memory))
