"""One step of one method for dx/dt = u(x, t), and for dX = u dt + sigma dW.

An explicit Runge-Kutta method is its Butcher tableau: stage i looks at time c_i between t and
t_next, from the point x + h sum_j a_ij k_j, and the step is x + h sum_i b_i k_i. A multistep method
looks once, and remembers what it saw in the step before.

Source: Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, II.1 and III.1;
Kloeden and Platen, Numerical Solution of Stochastic Differential Equations, 10.2.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxflow.predictions import parts
from jaxflow.typing import GaussianPath

Memory = Any
"""What a multistep method keeps of earlier steps: a pytree of arrays, () for a one-step method."""

Step = Callable[[Callable[[Array, Array], Array], Array, Array, Array, Memory], tuple[Array, Memory]]
"""(field, x, t, t_next, memory) -> (x at t_next, memory), with scalar times."""


class Solver(NamedTuple):
    """A method.

    Attributes:
        step: one step.
        order: of convergence.
        evaluations: calls of the field in one step.
        start: its memory before the first step, from x.
        looks_ahead: whether it asks for the field at t_next.
    """

    step: Step
    order: int
    evaluations: int
    start: Callable[[Array], Memory] = lambda x: ()
    looks_ahead: bool = False


def runge_kutta(
    a: tuple[tuple[float, ...], ...], b: tuple[float, ...], c: tuple[float, ...], order: int
) -> Solver:
    """The explicit Runge-Kutta method of a Butcher tableau; row i of `a` has i entries."""

    def step(field, x, t, t_next, memory):
        h = t_next - t
        slopes: list[Array] = []
        for row, node in zip(a, c, strict=True):
            # Weighted ends rather than t + c h: the last stage is at t_next to the bit, never past 1.
            stage_time = (1 - node) * t + node * t_next
            slopes.append(field(_advance(x, h, row, slopes), stage_time))
        return _advance(x, h, b, slopes), memory

    return Solver(step, order, len(b), looks_ahead=1.0 in c)


def _advance(x: Array, h: Array, weights: tuple[float, ...], slopes: list[Array]) -> Array:
    terms = [w * k for w, k in zip(weights, slopes, strict=True) if w]
    return x + h.astype(x.dtype) * sum(terms) if terms else x


def euler() -> Solver:
    """Order 1, one call of the field in a step; never looks at t = 1."""
    return runge_kutta(a=((),), b=(1.0,), c=(0.0,), order=1)


def midpoint() -> Solver:
    """Order 2, two calls of the field in a step; never looks at t = 1."""
    return runge_kutta(a=((), (0.5,)), b=(0.0, 1.0), c=(0.0, 0.5), order=2)


def heun() -> Solver:
    """Order 2, two calls of the field in a step, the second at t_next."""
    return runge_kutta(a=((), (1.0,)), b=(0.5, 0.5), c=(0.0, 1.0), order=2)


def rk4() -> Solver:
    """The classical method of order 4, four calls of the field in a step."""
    return runge_kutta(
        a=((), (0.5,), (0.0, 0.5), (0.0, 0.0, 1.0)),
        b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
        c=(0.0, 0.5, 0.5, 1.0),
        order=4,
    )


def adams_bashforth2() -> Solver:
    """Order 2 with one call of the field in a step, on any grid; the first step is Euler's.

    x + h ((1 + r / 2) k_n - r / 2 k_{n-1}), r = h_n / h_{n-1}.
    """

    def start(x):
        return jnp.zeros_like(x), jnp.asarray(jnp.inf)

    def step(field, x, t, t_next, memory):
        h, slope = t_next - t, field(x, t)
        last_slope, last_h = memory
        half = (h / last_h.astype(h.dtype) / 2).astype(x.dtype)
        x = x + h.astype(x.dtype) * ((1 + half) * slope - half * last_slope)
        return x, (slope, h.astype(last_h.dtype))

    return Solver(step, order=2, evaluations=1, start=start)


def dpm_solver_2m(path: GaussianPath) -> Solver:
    """DPM-Solver++ (2M): order 2 with one call in a step, and exact where E[data | x] is constant.

    With lambda = log(alpha / beta), h its increase over the step, and D_n the predicted data,

        x_next = beta_next / beta x + (alpha_next - alpha beta_next / beta) D,
        D = D_n + (D_n - D_{n-1}) h_n / 2 h_{n-1}.

    Where h_n or h_{n-1} is infinite or there is no D_{n-1}, in the first two and the last step of a grid from
    0 to 1, it is the first-order DDIM step. It walks towards the data only: at t = 1 beta is 0.

    Source: Lu et al. 2211.01095, algorithm 2.
    """

    def start(x):
        return jnp.zeros_like(x), jnp.asarray(jnp.inf)

    def step(field, x, t, t_next, memory):
        data = parts(path, x, jnp.broadcast_to(t, x.shape[:1]), field(x, t)).data.astype(x.dtype)
        last_data, last_h = memory
        alpha, beta = path.alpha(t), path.beta(t)
        alpha_next, beta_next = path.alpha(t_next), path.beta(t_next)
        h = jnp.log(alpha_next * beta) - jnp.log(alpha * beta_next)
        half = jnp.where(jnp.isfinite(h), h / last_h.astype(h.dtype) / 2, 0).astype(x.dtype)
        ratio = beta_next / beta
        target = data + half * (data - last_data)
        x = ratio.astype(x.dtype) * x + (alpha_next - ratio * alpha).astype(x.dtype) * target
        return x, (data, h.astype(last_h.dtype))

    return Solver(step, order=2, evaluations=1, start=start)


def euler_maruyama(drift: Array, sigma: Array, normal: Array, x: Array, t: Array, t_next: Array) -> Array:
    """One step of dX = drift dt + sigma dW: x + h drift + sigma sqrt(h) normal. Weak order 1."""
    h = (t_next - t).astype(x.dtype)
    return x + h * drift + jnp.asarray(sigma, x.dtype) * jnp.sqrt(jax.lax.abs(h)) * normal
