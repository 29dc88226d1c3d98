r"""One step of one method, for dx/dt = u(x, t) and for dX = f(X, t) dt + sigma(t) dW.

An explicit Runge-Kutta method is given by its Butcher tableau: stage i evaluates the field at
x + h sum_j a_ij k_j and the fraction c_i of the way from t to t_next, and the step is x + h sum_i b_i k_i.
A multistep method evaluates it once, and remembers the value of the previous step. A stochastic method draws
noise with the key of the step. The numbers of a solver, sigma and eta, may be traced.

Source: Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, II.1 and III.1;
Kloeden and Platen, Numerical Solution of Stochastic Differential Equations, 10.2 and 15.1.
"""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxflow import per_example, ranges
from jaxflow.predictions import check_determined, parts
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


def check(solver: Any) -> Solver:
    """`solver`, checked to be one.

    Raises:
        TypeError: it is not a Solver, but a name, say, or a function that makes one.
    """
    if isinstance(solver, Solver):
        return solver
    name = solver if isinstance(solver, str) else getattr(solver, "__name__", "")
    remedy = f"solvers.{name}{_parameters(name)}" if _parameters(name) else "such as solvers.heun()"
    raise TypeError(f"solver = {_describe(solver)}: expected a Solver, {remedy}")


def with_sigma(solver: Any, sigma: Sigma) -> Solver:
    """The stochastic solver `solver(sigma)`.

    Raises:
        TypeError: `solver` is not a function from sigma to a stochastic solver.
    """
    if callable(solver) and len(inspect.signature(solver).parameters):
        method = solver(sigma)
        if isinstance(method, Solver) and method.stochastic and not method.forward_only:
            return method
    raise TypeError(
        f"solver = {_describe(solver)}: expected a function from sigma to a stochastic Solver, such as"
        " solvers.euler_maruyama or solvers.stochastic_heun itself"
    )


def _parameters(name: str) -> str:
    """The parameters of the method of this name, in parentheses; empty if there is no such method."""
    make = globals().get(name)
    if not inspect.isfunction(make) or inspect.signature(make).return_annotation is not Solver:
        return ""
    return f"({', '.join(inspect.signature(make).parameters)})"


def _describe(solver: Any) -> str:
    if isinstance(solver, Solver):
        return solver.name
    return repr(solver) if isinstance(solver, str) else getattr(solver, "__name__", repr(solver))


def runge_kutta(
    name: str, a: tuple[tuple[float, ...], ...], b: tuple[float, ...], c: tuple[float, ...], order: int
) -> Solver:
    """The explicit Runge-Kutta method of a Butcher tableau; row i of `a` has i entries."""

    def step(field, x, t, t_next, memory, key):
        h = t_next - t
        slopes: list[Array] = []
        for row, node in zip(a, c, strict=True):
            # Not t + c h, which may round past t_next: the last stage is exactly at t_next, never past 1.
            stage_time = (1 - node) * t + node * t_next
            slopes.append(field(_advance(x, h, row, slopes), stage_time))
        return _advance(x, h, b, slopes), memory

    return Solver(name, step, order, len(b), looks_ahead=1.0 in c)


def _advance(x: Array, h: Array, weights: tuple[float, ...], slopes: list[Array]) -> Array:
    terms = [w * k for w, k in zip(weights, slopes, strict=True) if w]
    return x + h.astype(x.dtype) * sum(terms) if terms else x


def euler() -> Solver:
    """Order 1, one call of the field per step; never evaluates it at t = 1."""
    return runge_kutta("euler", a=((),), b=(1.0,), c=(0.0,), order=1)


def midpoint() -> Solver:
    """Order 2, two calls of the field per step; never evaluates it at t = 1."""
    return runge_kutta("midpoint", a=((), (0.5,)), b=(0.0, 1.0), c=(0.0, 0.5), order=2)


def heun() -> Solver:
    """Order 2, two calls of the field per step, the second at t_next.

    FlowMatchHeun of diffusers ends with an Euler step.
    """
    return runge_kutta("heun", a=((), (1.0,)), b=(0.5, 0.5), c=(0.0, 1.0), order=2)


def rk4() -> Solver:
    """The classical method of order 4, four calls of the field per step.

    rk4 of torchdiffeq is the 3/8 rule, of the same order.
    """
    return runge_kutta(
        "rk4",
        a=((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
        b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
        c=(0.0, 0.5, 0.5, 1.0),
        order=4,
    )


def adams_bashforth2() -> Solver:
    """Order 2 with one call of the field per step, on any grid; the first is an Euler step.

    x + h ((1 + r / 2) k_n - r / 2 k_{n-1}), r = h_n / h_{n-1}.
    """

    def start(x):
        return jnp.zeros_like(x), jnp.asarray(jnp.inf)

    def step(field, x, t, t_next, memory, key):
        h, slope = t_next - t, field(x, t)
        last_slope, last_h = memory
        half = (h / last_h.astype(h.dtype) / 2).astype(x.dtype)
        x = x + h.astype(x.dtype) * ((1 + half) * slope - half * last_slope)
        return x, (slope, h.astype(last_h.dtype))

    return Solver("adams_bashforth2", step, order=2, evaluations=1, start=start)


def dpm_solver_2m(path: GaussianPath, eta: float | int | Float[Array, ""] = 0.0) -> Solver:
    """DPM-Solver++ (2M): order 2 with one call per step, and exact where E[data | x] is constant.

    With lambda = log(alpha / beta), h its increase over the step, and D_n the predicted data,

        x_next = e^(-eta h) beta_next / beta x + alpha_next (1 - e^(-(1 + eta) h)) D
                 + beta_next sqrt(1 - e^(-2 eta h)) normal,
        D = D_n + (D_n - D_{n-1}) h_n / (2 h_{n-1}).

    Where h_n or h_{n-1} is infinite or there is no D_{n-1} (the first two steps and the last of a grid from
    0 to 1), D = D_n, the first-order step: DDIM for eta = 0. It integrates from noise to data only: beta is 0
    at t = 1.

    eta = 0 is the ODE, eta = 1 the SDE that DDPM discretises, `sde-dpmsolver++` of diffusers. There lambda is
    finite at the start of the grid, so that only the first and the last step are of first order.

    Raises:
        ValueError: eta is outside [0, 1].

    Source: Lu et al. 2211.01095, algorithm 2 and section 5.
    """
    ranges.fraction(eta=eta)

    def start(x):
        return jnp.zeros_like(x), jnp.asarray(jnp.inf)

    def step(field, x, t, t_next, memory, key):
        data = parts(path, x, t, field(x, t)).data.astype(x.dtype)
        last_data, last_h = memory
        decay, h = _decay(path, t, t_next)
        noisier = decay ** jnp.asarray(eta, decay.dtype)
        half = jnp.where(jnp.isfinite(h), h / last_h.astype(h.dtype) / 2, 0)
        target = data + half.astype(x.dtype) * (data - last_data)
        kept, gained = noisier * path.beta(t_next) / path.beta(t), path.alpha(t_next) * (1 - noisier * decay)
        x = kept.astype(x.dtype) * x + gained.astype(x.dtype) * target
        if stochastic:
            spread = path.beta(t_next) * jnp.sqrt(1 - noisier**2)
            x = x + spread.astype(x.dtype) * per_example.normal(key, x.shape[1:], x.dtype)
        return x, (data, h.astype(last_h.dtype))

    stochastic = not (isinstance(eta, float | int) and eta == 0)
    check = _determined(path)
    return Solver("dpm_solver_2m", step, 2, 1, start, stochastic=stochastic, forward_only=True, check=check)


def _decay(path: GaussianPath, t: Array, t_next: Array) -> tuple[Array, Array]:
    """e^-h, finite where h is not, and h, the increase of log(alpha / beta) over a step."""
    less, more = path.alpha(t) * path.beta(t_next), path.alpha(t_next) * path.beta(t)
    return less / more, jnp.log(more) - jnp.log(less)


def euler_maruyama(sigma: Sigma) -> Solver:
    """X + h f(x, t) + sigma(t) sqrt(h) normal: weak order 1, one call of the drift per step."""
    check_sigma(sigma)

    def step(field, x, t, t_next, memory, key):
        h = (t_next - t).astype(x.dtype)
        noise = at(sigma, t, x) * jnp.sqrt(jnp.abs(h)) * per_example.normal(key, x.shape[1:], x.dtype)
        return x + h * field(x, t) + noise, memory

    return Solver("euler_maruyama", step, order=1, evaluations=1, stochastic=True)


def stochastic_heun(sigma: Sigma) -> Solver:
    """Heun's method with the same noise in both stages: weak order 2, two calls of the drift per step.

    x + h / 2 (f(x, t) + f(x + h f(x, t) + noise, t_next)) + noise,
    noise = sqrt(h (sigma(t)^2 + sigma(t_next)^2) / 2) normal.

    The order holds for noise that does not depend on x. A step that ends at t = 1, where scores are
    infinite, uses the drift at its start only, as Euler's does; one such step does not lower the order.

    Source: Kloeden and Platen, 15.1, where it is the explicit scheme of weak order 2 for additive noise.
    """
    check_sigma(sigma)

    def step(field, x, t, t_next, memory, key):
        h, last = (t_next - t).astype(x.dtype), t_next == 1
        variance = jnp.abs(h) * (at(sigma, t, x) ** 2 + at(sigma, t_next, x) ** 2) / 2
        noise = jnp.sqrt(variance) * per_example.normal(key, x.shape[1:], x.dtype)
        drift = field(x, t)
        ahead = jnp.where(last, x, x + h * drift + noise)
        return x + h / 2 * (drift + field(ahead, jnp.where(last, t, t_next))) + noise, memory

    return Solver("stochastic_heun", step, order=2, evaluations=2, stochastic=True)


def ancestral(path: GaussianPath, eta: float | int | Float[Array, ""] = 1.0) -> Solver:
    """The step of DDPM (eta = 1) and DDIM (eta = 0), stable on any grid: order 1, one call per step.

    x_next = alpha_next data + sqrt(beta_next^2 - s^2) noise + s normal, with the predicted data and noise and
    s = eta beta_next sqrt(1 - (alpha beta_next / (alpha_next beta))^2). From noise to data only.

    eta = 1 is DDPM of diffusers with `fixed_small` variance, which clips the predicted data unless
    `clip_sample=False`; no eta gives `fixed_large`.

    Raises:
        ValueError: eta is outside [0, 1].

    Source: Ho et al. 2006.11239; Song et al. 2010.02502, equation 16.
    """
    ranges.fraction(eta=eta)

    def step(field, x, t, t_next, memory, key):
        data, rest = parts(path, x, t, field(x, t))
        alpha, beta = path.alpha(t), path.beta(t)
        alpha_next, beta_next = path.alpha(t_next), path.beta(t_next)
        least = 1 - (alpha * beta_next / (alpha_next * beta)) ** 2
        s = jnp.asarray(eta, beta.dtype) * beta_next * jnp.sqrt(jnp.maximum(least, 0))
        normal = per_example.normal(key, x.shape[1:], data.dtype)
        kept = jnp.sqrt(jnp.maximum(beta_next**2 - s**2, 0))
        x_next = alpha_next * data + kept.astype(data.dtype) * rest + s.astype(data.dtype) * normal
        return x_next.astype(x.dtype), memory

    return Solver("ancestral", step, 1, 1, stochastic=True, forward_only=True, check=_determined(path))


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


def _determined(path: GaussianPath) -> Callable[[Array], None]:
    """The check of a solver that uses the predicted data at the start of each step."""
    return lambda times: check_determined(path, times, "data")
