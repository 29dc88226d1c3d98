r"""Sampling: integrate a field from noise (t = 0) to data (t = 1).

    ODE    dx = u(x, t) dt
    SDE    dX = [u(X, t) + sigma(t)^2 / 2 grad log p_t(X)] dt + sigma(t) dW
    DDPM   X_next = alpha_next E[data | X] + sqrt(beta_next^2 - s^2) E[noise | X] + s noise

The first two have the marginals p_t, for any sigma >= 0; the score comes from the same field, since
the two are an affine function of each other on a Gaussian path. A guided field therefore brings its
guided score with it, with the same w in both. The third draws the exact reversal of the forward
process given the predicted data; as the steps get finer it becomes the SDE with sigma^2 = 2b
(eta = 1) or the ODE (eta = 0, DDIM).

`times` is an increasing grid, or a number of equal steps. The noise of example i in step n comes
from `fold_in(fold_in(key, i), n)`: a sample is the same alone and in any batch.

Source: "Building an Image Generator", sections on sampling with guidance and on SDEs; Song et al.
2010.02502, equation 16. An Euler-Maruyama step that adds noise without the score term, or scales
its noise twice, does not keep the marginals.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxflow import per_example, solvers
from jaxflow.predictions import check_determined, convert, score_weight
from jaxflow.solvers import Sigma, Solver
from jaxflow.times import Grid, grid, precision
from jaxflow.typing import GaussianPath, Keys, StatefulField, VectorField

Field = VectorField | StatefulField
Drift = Callable[[Array, Array, Array], Array]
"""(u, x, t (b,)) -> the drift of an SDE, made of the velocity u."""


def sample_ode(
    field: Field,
    noise: Float[Array, "b *event"],
    times: Grid,
    *,
    solver: Solver | None = None,
    trajectory: bool = False,
) -> Float[Array, "..."]:
    """Carry `noise` along the field through `times`.

    Args:
        field: (x, t) -> dx/dt; a stateful field is called in the order of the solver's stages.
        noise: where to start, (b, *event), at times[0].
        times: grid, (n + 1,), or a number of equal steps; decreasing to go from data to noise (`invert_ode`).
        solver: a method of `jaxflow.solvers` that draws no noise; midpoint if left out.
        trajectory: return all points, (n + 1, b, *event), and not just the last.

    Raises:
        TypeError: solver is none.
        ValueError: it draws noise; the times are outside [0, 1], or it cannot walk along them; the field
            answers with another shape than that of x.

    >>> decay = lambda x, t: -x
    >>> from jaxflow import solvers
    >>> round(sample_ode(decay, jnp.ones((1, 1)), 10, solver=solvers.rk4()).item(), 4)
    0.3679
    """
    method = solvers.check(solvers.midpoint() if solver is None else solver)
    if method.random:
        raise ValueError(f"solver = {method.name}: it draws noise, for which `sample_sde` has a key")
    steps = grid(times, increasing=method.forward_only)
    return _walk(method, field, noise, steps, trajectory)


def invert_ode(
    field: Field,
    data: Float[Array, "b *event"],
    times: Grid,
    *,
    solver: Solver | None = None,
    trajectory: bool = False,
) -> Float[Array, "..."]:
    """The noise that the ODE carries to `data`: the same walk through `times` from its end to its start.

    It looks at the field at the last of the times first. Where the velocity is infinite at t = 1, as on
    `SquareRoot` and the variance-preserving paths, let the grid end short of it.

    Raises:
        TypeError: solver is none.
        ValueError: it walks towards the data only.

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

    That step should be short (`times.cosine`): the variance that its noise would have brought is missing.

    Args:
        key: one key, or one key per example (b,).
        field: velocity (x, t) -> (b, *event), guided or not.
        path: the Gaussian path of the field, from which its score follows.
        noise: where to start, (b, *event), at times[0].
        times: increasing grid, (n + 1,), or a number of equal steps.
        sigma: diffusion coefficient, a number >= 0 or a function of the scalar t; 0 is the ODE.
        solver: function from sigma to a random method, `solvers.euler_maruyama` or `solvers.stochastic_heun`.
        score: the score (x, t) -> (b, *event) of a model of its own, if not that of the field.
        trajectory: return all points, (n + 1, b, *event), and not just the last.

    Raises:
        TypeError: solver is no function from sigma to a random method.
        ValueError: sigma is negative or not finite at one of the times, they do not increase within [0, 1],
            or the velocity does not determine the score there.
    """
    steps = grid(times, increasing=True)
    method = solvers.of_sigma(solver, sigma)
    solvers.check_sigma(sigma, steps)
    if score is None:
        check_determined(path, steps, "noise")

    def step(drift, x, t, t_next, memory, key):
        quiet = lambda s: jnp.where(t_next == 1, 0, solvers.at(sigma, s, x))  # noqa: E731
        return solver(quiet).step(drift, x, t, t_next, memory, key)

    def drift(u, x, t):
        if score is None:
            own = convert(path, x, t, u, source="velocity", target="score")
        else:
            own = per_example.answer(score(x.astype(noise.dtype), t), x).astype(x.dtype)
        return u + solvers.at(sigma, t[0], x) ** 2 / 2 * own

    keys = per_example.keys(key, noise.shape[0])
    return _walk(method._replace(step=step), field, noise, steps, trajectory, keys, drift)


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

    Brownian motion has no drift, an Ornstein-Uhlenbeck process the drift -theta x, Langevin dynamics
    sigma^2 / 2 times the score of the law that it keeps.
    """
    steps = grid(times)
    method = solvers.of_sigma(solver, sigma)
    solvers.check_sigma(sigma, steps)
    return _walk(method, drift, start, steps, trajectory, per_example.keys(key, start.shape[0]))


def sample_ddpm(
    key: Keys,
    field: Field,
    path: GaussianPath,
    noise: Float[Array, "b *event"],
    times: Grid,
    *,
    eta: float | int | Float[Array, ""] = 1.0,
    trajectory: bool = False,
) -> Float[Array, "..."]:
    """Ancestral sampling: from t to t_next draw x given the predicted data (`solvers.ancestral`).

    eta = 1 is DDPM, whose limit of fine steps is the SDE with sigma^2 = 2b (`reversal_sigma`); eta = 0 is
    DDIM, whose limit is the ODE.

    EulerDiscrete of diffusers is eta = 0 and its EulerAncestral eta = 1, of samples x / alpha.

    Raises:
        ValueError: eta is outside [0, 1], the times do not increase within [0, 1], or the velocity does not
            determine the data at one of them.
    """
    method = solvers.ancestral(path, eta)
    steps = grid(times, increasing=True)
    return _walk(method, field, noise, steps, trajectory, per_example.keys(key, noise.shape[0]))


def reversal_sigma(path: GaussianPath) -> Callable[[Array], Array]:
    """The sigma(t) = sqrt(2 b) with which the SDE reverses the forward process, as DDPM does.

    b = (alpha' beta^2 - beta' beta alpha) / alpha is infinite at t = 0: begin the grid of `sample_sde`
    later, or use `sample_ddpm`, which does not need it.

    >>> from jaxflow import paths
    >>> round(float(reversal_sigma(paths.Linear())(jnp.array(0.2))), 4)
    2.8284
    """
    return lambda t: jnp.sqrt(2 * score_weight(path, t))


def check_reversible(solver: Any) -> None:
    """Refuse what does not walk from data to noise.

    Raises:
        TypeError: solver is none.
        ValueError: it walks towards the data only.
    """
    method = solvers.check(solver)
    if method.random or method.forward_only:
        raise ValueError(
            f"solver = {method.name}: it walks towards the data only; back walk euler, midpoint, heun, rk4"
        )


def _walk(
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
        x, memory, remembered = carry
        n, t, t_next = interval
        calls = _Calls(stateful, remembered, dtype, drift)
        key = None if keys is None else per_example.fold_in(keys, n)
        x, memory = method.step(calls, x, t, t_next, memory, key)
        return (x, memory, calls.memory), x.astype(dtype) if trajectory else None

    # In float32 or wider: in bfloat16 a short step would vanish beside x.
    x = start.astype(precision(dtype))
    intervals = jnp.arange(times.shape[0] - 1), times[:-1], times[1:]
    (end, *_), points = jax.lax.scan(advance, (x, method.start(x), stateful.start(start)), intervals)
    return end.astype(dtype) if points is None else jnp.concatenate([start[None], points])


class _Calls:
    """The field of one step, which hands its memory from each call to the next while the step is traced."""

    def __init__(self, field: StatefulField, memory: Any, dtype: Any, drift: Drift):
        self._field = field
        self._dtype = dtype
        self._drift = drift
        self.memory = memory

    def __call__(self, x: Array, t: Array) -> Array:
        t = per_example.times(t, x)
        velocity, self.memory = self._field.call(x.astype(self._dtype), t, self.memory)
        return self._drift(per_example.answer(velocity, x).astype(x.dtype), x, t)


def _stateless(field: VectorField) -> StatefulField:
    return StatefulField("", lambda x: (), lambda x, t, memory: (field(x, t), memory))
