"""One step of one method for dx/dt = u(x, t), and for dX = u dt + sigma dW.

An explicit Runge-Kutta method is its Butcher tableau: stage i looks at time c_i between t and
t_next, from the point x + h sum_j a_ij k_j, and the step is x + h sum_i b_i k_i.

Source: Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, II.1;
Kloeden and Platen, Numerical Solution of Stochastic Differential Equations, 10.2.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

Step = Callable[[Callable[[Array, Array], Array], Array, Array, Array], Array]
"""(field, x, t, t_next) -> x at t_next, with scalar times."""


class Solver(NamedTuple):
    """A method: its step, its order of convergence and its calls of the field in one step."""

    step: Step
    order: int
    evaluations: int


def runge_kutta(
    a: tuple[tuple[float, ...], ...], b: tuple[float, ...], c: tuple[float, ...], order: int
) -> Solver:
    """The explicit Runge-Kutta method of a Butcher tableau; row i of `a` has i entries."""

    def step(field, x, t, t_next):
        h = t_next - t
        slopes: list[Array] = []
        for row, node in zip(a, c, strict=True):
            # Weighted ends rather than t + c h: the last stage is at t_next to the bit, never past 1.
            stage_time = (1 - node) * t + node * t_next
            slopes.append(field(_advance(x, h, row, slopes), stage_time))
        return _advance(x, h, b, slopes)

    return Solver(step, order, len(b))


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


def euler_maruyama(
    drift: Callable[[Array, Array], Array], sigma: Array, normal: Array, x: Array, t: Array, t_next: Array
) -> Array:
    """One step of dX = drift dt + sigma dW: x + h drift(x, t) + sigma sqrt(h) normal. Weak order 1."""
    h = (t_next - t).astype(x.dtype)
    return x + h * drift(x, t) + jnp.asarray(sigma, x.dtype) * jnp.sqrt(jax.lax.abs(h)) * normal
