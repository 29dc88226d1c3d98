r"""Sampling: integrate a field from noise (t = 0) to data (t = 1).

    ODE    dx = u(x, t) dt
    SDE    dX = [u(X, t) + sigma(t)^2 / 2 grad log p_t(X)] dt + sigma(t) dW
    DDPM   X_next = alpha_next E[data | X] + sqrt(beta_next^2 - s^2) E[noise | X] + s noise

The first two have the marginals p_t, for any sigma >= 0; the score comes from the same field, since
the two are an affine function of each other on a Gaussian path. A guided field therefore brings its
guided score with it, with the same w in both. The third draws the exact reversal of the forward
process given the predicted data; as the steps get finer it becomes the SDE with sigma^2 = 2b
(eta = 1) or the ODE (eta = 0, DDIM).

The number of steps is the length of `times` less one. The noise of example i in step n comes
from `fold_in(fold_in(key, i), n)`: a sample is the same alone and in any batch.

Source: "Building an Image Generator", sections on sampling with guidance and on SDEs; Song et al.
2010.02502, equation 16. An Euler-Maruyama step that adds noise without the score term, or scales
its noise twice, does not keep the marginals.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxflow import per_example
from jaxflow.predictions import convert, parts, score_weight
from jaxflow.solvers import Solver, euler_maruyama, midpoint
from jaxflow.times import precision
from jaxflow.typing import GaussianPath, Keys, StatefulField, VectorField

Sigma = float | int | Float[Array, ""] | Callable[[Array], Array]
"""A diffusion coefficient: a number >= 0, or a function of the scalar t."""


def sample_ode(
    field: VectorField | StatefulField,
    noise: Float[Array, "b *event"],
    times: Float[Array, " n"],
    *,
    solver: Solver | None = None,
    trajectory: bool = False,
) -> Float[Array, "..."]:
    """Carry `noise` along the field through `times`.

    Args:
        field: (x, t) -> dx/dt; a stateful field is called in the order of the solver's stages.
        noise: where to start, (b, *event), at times[0].
        times: grid, (n + 1,); decreasing to go from data to noise (`invert_ode`).
        solver: a method of `jaxflow.solvers`; midpoint if left out.
        trajectory: return all points, (n + 1, b, *event), and not just the last.

    >>> decay = lambda x, t: -x
    >>> from jaxflow import solvers, times
    >>> round(sample_ode(decay, jnp.ones((1, 1)), times.uniform(10), solver=solvers.rk4()).item(), 4)
    0.3679
    """
    _check_times(times)
    method = solver or midpoint()

    def step(n, t, t_next, x, field, memory):
        return method.step(field, x, t, t_next, memory)

    return _walk(step, field, noise, times, method.start, trajectory)


def invert_ode(
    field: VectorField,
    data: Float[Array, "b *event"],
    times: Float[Array, " n"],
    *,
    solver: Solver | None = None,
    trajectory: bool = False,
) -> Float[Array, "..."]:
    """The noise that the ODE carries to `data`: the same walk through `times` from its end to its start.

    It looks at the field at the last of the times first. Where the velocity is infinite at t = 1, as on
    `SquareRoot` and the variance-preserving paths, let the grid end short of it.

    >>> from jaxflow import solvers, times
    >>> decay, grid, rk4 = lambda x, t: -x, times.uniform(10), solvers.rk4()
    >>> x = sample_ode(decay, jnp.ones((1, 1)), grid, solver=rk4)
    >>> round(invert_ode(decay, x, grid, solver=rk4).item(), 4)
    1.0
    """
    return sample_ode(field, data, times[::-1], solver=solver, trajectory=trajectory)


def sample_sde(
    key: Keys,
    field: VectorField | StatefulField,
    path: GaussianPath,
    noise: Float[Array, "b *event"],
    times: Float[Array, " n"],
    *,
    sigma: Sigma,
    trajectory: bool = False,
) -> Float[Array, "..."]:
    """Sample the SDE with the field's marginals by Euler-Maruyama; a step that ends at t = 1 adds no noise.

    That step should be short (`times.cosine`): the variance that its noise would have brought is missing.

    Args:
        key: one key, or one key per example (b,).
        field: velocity (x, t) -> (b, *event), guided or not.
        path: the Gaussian path of the field, from which its score follows.
        noise: where to start, (b, *event), at times[0].
        times: increasing grid, (n + 1,).
        sigma: diffusion coefficient, a number >= 0 or a function of the scalar t; 0 is the ODE.
        trajectory: return all points, (n + 1, b, *event), and not just the last.

    Raises:
        ValueError: sigma is negative or not finite, or the times do not increase within [0, 1].
    """
    _check_times(times, increasing=True)

    def drift(u, x, t):
        score = convert(path, x, t, u, source="velocity", target="score")
        return u + _at(sigma, t[0], x) ** 2 / 2 * score

    return _diffuse(key, field, drift, noise, times, sigma, trajectory, quiet_end=True)


def simulate_sde(
    key: Keys,
    drift: VectorField,
    start: Float[Array, "b *event"],
    times: Float[Array, " n"],
    *,
    sigma: Sigma,
    trajectory: bool = False,
) -> Float[Array, "..."]:
    """Any dX = drift(X, t) dt + sigma(t) dW by Euler-Maruyama, with noise in every step.

    Brownian motion has no drift, an Ornstein-Uhlenbeck process the drift -theta x, Langevin dynamics
    sigma^2 / 2 times the score of the law that it keeps.
    """
    return _diffuse(key, drift, lambda u, x, t: u, start, times, sigma, trajectory, quiet_end=False)


def sample_ddpm(
    key: Keys,
    field: VectorField | StatefulField,
    path: GaussianPath,
    noise: Float[Array, "b *event"],
    times: Float[Array, " n"],
    *,
    eta: float | int | Float[Array, ""] = 1.0,
    trajectory: bool = False,
) -> Float[Array, "..."]:
    """Ancestral sampling: from t to t_next draw x given the predicted data; stable for any grid.

    s = eta beta_next sqrt(1 - (alpha beta_next / alpha_next beta)^2). eta = 1 is DDPM, whose
    limit of fine steps is the SDE with sigma^2 = 2b (`reversal_sigma`); eta = 0 is DDIM, whose limit is
    the ODE.

    Raises:
        ValueError: eta is outside [0, 1], or the times do not increase within [0, 1].

    Source: Ho et al. 2006.11239; Song et al. 2010.02502, equation 16.
    """
    _check_times(times, increasing=True)
    if not isinstance(eta, jax.core.Tracer) and not 0 <= float(eta) <= 1:
        raise ValueError(f"eta = {eta}: a number in [0, 1] is needed, from DDIM to DDPM")
    keys = per_example.keys(key, noise.shape[0])

    def step(n, t, t_next, x, field, memory):
        data, rest = parts(path, x, jnp.broadcast_to(t, x.shape[:1]), field(x, t))
        alpha, beta, alpha_next, beta_next = (
            path.alpha(t),
            path.beta(t),
            path.alpha(t_next),
            path.beta(t_next),
        )
        s = eta * beta_next * jnp.sqrt(jnp.maximum(1 - (alpha * beta_next / (alpha_next * beta)) ** 2, 0))
        normal = per_example.normal(per_example.fold_in(keys, n), x.shape[1:], data.dtype)
        kept = jnp.sqrt(jnp.maximum(beta_next**2 - s**2, 0))
        x_next = alpha_next * data + kept.astype(data.dtype) * rest + s.astype(data.dtype) * normal
        return x_next.astype(x.dtype), memory

    return _walk(step, field, noise, times, lambda x: (), trajectory)


def reversal_sigma(path: GaussianPath) -> Callable[[Array], Array]:
    """The sigma(t) = sqrt(2 b) with which the SDE reverses the forward process, as DDPM does.

    b = (alpha' beta^2 - beta' beta alpha) / alpha is infinite at t = 0: begin the grid of `sample_sde`
    later, or use `sample_ddpm`, which does not need it.

    >>> from jaxflow import paths
    >>> round(float(reversal_sigma(paths.Linear())(jnp.array(0.2))), 4)
    2.8284
    """
    return lambda t: jnp.sqrt(2 * score_weight(path, t))


def _diffuse(key, field, drift, start, times, sigma, trajectory, *, quiet_end: bool) -> Array:
    """Euler-Maruyama with the drift made of the field's velocity."""
    _check_sigma(sigma)
    keys = per_example.keys(key, start.shape[0])

    def step(n, t, t_next, x, field, memory):
        s = _at(sigma, t, x)
        normal = per_example.normal(per_example.fold_in(keys, n), x.shape[1:], x.dtype)
        scale = jnp.where(t_next == 1, jnp.zeros_like(s), s) if quiet_end else s
        slope = drift(field(x, t), x, jnp.broadcast_to(t, x.shape[:1]))
        return euler_maruyama(slope, scale, normal, x, t, t_next), memory

    return _walk(step, field, start, times, lambda x: (), trajectory)


def _walk(step, field, start: Array, times: Array, begin: Callable[[Array], Any], trajectory: bool) -> Array:
    """The loop over the steps: (n, t, t_next, x, field at a scalar time, memory) -> (x, memory)."""
    stateful = field if isinstance(field, StatefulField) else _stateless(field)
    dtype = start.dtype

    def advance(carry, interval):
        x, memory, remembered = carry
        calls = _Calls(stateful, remembered, dtype)
        x, memory = step(*interval, x, calls, memory)
        return (x, memory, calls.memory), x.astype(dtype) if trajectory else None

    # In float32 or wider: in bfloat16 a short step would vanish beside x.
    x = start.astype(precision(dtype))
    intervals = jnp.arange(times.shape[0] - 1), times[:-1], times[1:]
    (end, *_), points = jax.lax.scan(advance, (x, begin(x), stateful.start(start)), intervals)
    return end.astype(dtype) if points is None else jnp.concatenate([start[None], points])


class _Calls:
    """The field of one step, which hands its memory from each call to the next while the step is traced."""

    def __init__(self, field: StatefulField, memory: Any, dtype: Any):
        self._field = field
        self._dtype = dtype
        self.memory = memory

    def __call__(self, x: Array, t: Array) -> Array:
        # Fields take one time per example; a sampler has one time for all.
        t = jnp.broadcast_to(t, x.shape[:1])
        velocity, self.memory = self._field.call(x.astype(self._dtype), t, self.memory)
        return velocity.astype(x.dtype)


def _stateless(field: VectorField) -> StatefulField:
    return StatefulField(lambda x: (), lambda x, t, memory: (field(x, t), memory))


def _at(sigma: Sigma, t: Array, x: Array) -> Array:
    return jnp.asarray(sigma(t) if callable(sigma) else sigma, x.dtype)


def _check_times(times: Array, *, increasing: bool = False) -> None:
    if times.shape[0] < 2:
        raise ValueError(f"times has {times.shape[0]} entries: at least 2 are needed, the ends of one step")
    if isinstance(times, jax.core.Tracer):
        return
    values = np.asarray(times, float)
    if not np.all((values >= 0) & (values <= 1)):
        raise ValueError(f"times = {values}: all lie in [0, 1], from noise to data")
    if increasing and not np.all(np.diff(values) > 0):
        raise ValueError(f"times = {values}: they must increase; noise is added on the way to the data only")


def _check_sigma(sigma) -> None:
    if callable(sigma) or isinstance(sigma, jax.core.Tracer):
        return
    if not np.isfinite(sigma) or sigma < 0:
        raise ValueError(f"sigma = {sigma}: the diffusion coefficient must be finite and not negative")
