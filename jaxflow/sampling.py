r"""Sampling: integrate a field from noise (t = 0) to data (t = 1).

    ODE   dx = u(x, t) dt
    SDE   dX = [u(X, t) + sigma(t)^2 / 2 grad log p_t(X)] dt + sigma(t) dW

Both have the marginals p_t, for any sigma >= 0; the score comes from the same field, since the
two are an affine function of each other on a Gaussian path. A guided field therefore brings its
guided score with it, with the same w in both.

The number of steps is the length of `times` less one. The noise of example i in step n comes
from `fold_in(fold_in(key, i), n)`: a sample is the same alone and in any batch.

Source: "Building an Image Generator", sections on sampling with guidance and on SDEs. An
Euler-Maruyama step that adds noise without the score term, or scales its noise twice, does not
keep the marginals.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxflow import per_example
from jaxflow.predictions import convert
from jaxflow.solvers import Solver, euler_maruyama, midpoint
from jaxflow.typing import Keys, Path, VectorField


def sample_ode(
    field: VectorField,
    noise: Float[Array, "b *event"],
    times: Float[Array, " n"],
    *,
    solver: Solver | None = None,
    trajectory: bool = False,
) -> Float[Array, "..."]:
    """Carry `noise` along the field through `times`.

    Args:
        field: (x, t) -> dx/dt.
        noise: where to start, (b, *event), at times[0].
        times: grid, (n + 1,); decreasing to go from data to noise.
        solver: a method of `jaxflow.solvers`; midpoint if left out.
        trajectory: return all points, (n + 1, b, *event), and not just the last.

    >>> decay = lambda x, t: -x
    >>> from jaxflow import solvers, times
    >>> round(sample_ode(decay, jnp.ones((1, 1)), times.uniform(10), solver=solvers.rk4()).item(), 4)
    0.3679
    """
    _check_times(times)
    method = solver or midpoint()

    def step(x, interval):
        t, t_next = interval
        x = method.step(_at_common_time(field), x, t, t_next)
        return x, x if trajectory else None

    return _walk(step, noise, (times[:-1], times[1:]))


def sample_sde(
    key: Keys,
    field: VectorField,
    path: Path,
    noise: Float[Array, "b *event"],
    times: Float[Array, " n"],
    *,
    sigma: float | int | Float[Array, ""] | Callable[[Array], Array],
    trajectory: bool = False,
) -> Float[Array, "..."]:
    """Sample the SDE with the field's marginals by Euler-Maruyama; the last step adds no noise.

    Args:
        key: one key, or one key per example (b,).
        field: velocity (x, t) -> (b, *event), guided or not.
        path: the Gaussian path of the field, from which its score follows.
        noise: where to start, (b, *event), at times[0].
        times: increasing grid, (n + 1,).
        sigma: diffusion coefficient, a number >= 0 or a function of the scalar t; 0 is the ODE.
        trajectory: return all points, (n + 1, b, *event), and not just the last.

    Raises:
        ValueError: sigma is negative or not finite.
    """
    _check_times(times)
    _check_sigma(sigma)
    keys = per_example.keys(key, noise.shape[0])
    last = times.shape[0] - 2

    def step(x, interval):
        n, t, t_next = interval
        s = jnp.asarray(sigma(t) if callable(sigma) else sigma, x.dtype)

        def drift(x, t):
            u = field(x, t)
            score = convert(path, x, t, u, source="velocity", target="score")
            return u + s**2 / 2 * score

        normal = per_example.normal(per_example.fold_in(keys, n), x.shape[1:], x.dtype)
        x = euler_maruyama(_at_common_time(drift), jnp.where(n == last, 0, s), normal, x, t, t_next)
        return x, x if trajectory else None

    return _walk(step, noise, (jnp.arange(last + 1), times[:-1], times[1:]))


def _walk(step, start: Array, intervals: tuple[Array, ...]) -> Array:
    """The loop over the steps: the last point, or all of them with the start where `step` emits them."""
    end, points = jax.lax.scan(step, start, intervals)
    return end if points is None else jnp.concatenate([start[None], points])


def _at_common_time(field: VectorField) -> VectorField:
    """Fields take one time per example; a sampler has one time for all."""
    return lambda x, t: field(x, jnp.broadcast_to(t, x.shape[:1]))


def _check_times(times: Array) -> None:
    if times.shape[0] < 2:
        raise ValueError(f"times has {times.shape[0]} entries: at least 2 are needed, the ends of one step")


def _check_sigma(sigma) -> None:
    if callable(sigma) or isinstance(sigma, jax.core.Tracer):
        return
    if not np.isfinite(sigma) or sigma < 0:
        raise ValueError(f"sigma = {sigma}: the diffusion coefficient must be finite and not negative")
