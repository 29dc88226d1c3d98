r"""Explicit Runge-Kutta methods, given by their Butcher tableaus.

Stage i evaluates the field at x + h sum_j a_ij k_j and the fraction c_i of the way from t to t_next, and the
step is x + h sum_i b_i k_i.

Source: Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, II.1.
"""

from jaxtyping import Array

from jaxflow.solvers.solver import Solver


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
