r"""Churn: each step first raises the noise level by new noise, and then solves the ODE from there.

With sigma = beta / alpha, and t^ < t the time at which it is (1 + rise) sigma,

    x^ = alpha^ / alpha x + sqrt(beta^^2 - (alpha^ beta / alpha)^2) inflation normal,

a step of the forward process, which keeps the marginals if inflation is 1. Then the solver goes from (x^, t^)
to t_next. Nothing is raised at t = 0, where there is noise alone.

Source: Karras et al. 2206.00364, algorithm 2.
"""

import jax.numpy as jnp

from jaxflow import per_example, ranges
from jaxflow.paths import time_of
from jaxflow.solvers.one_step import heun
from jaxflow.solvers.solver import Solver
from jaxflow.times import Number
from jaxflow.typing import GaussianPath


def churned(
    path: GaussianPath,
    rise: Number,
    solver: Solver | None = None,
    *,
    sigma_min: Number = 0.0,
    sigma_max: Number = float("inf"),
    inflation: Number = 1.0,
) -> Solver:
    """A step of `solver`, from a noise level raised by the factor 1 + rise.

    Args:
        path: the Gaussian path of the field.
        rise: gamma of the paper, where it is min(S_churn / n, sqrt(2) - 1) for n steps; 0 leaves the solver.
        solver: deterministic one-step method; Heun's by default. The paper's ends with an Euler step.
        sigma_min: least ratio beta / alpha that is raised, S_tmin.
        sigma_max: largest, S_tmax.
        inflation: factor of the new noise, S_noise, a little above 1 if the network removes too much.

    EulerDiscrete of diffusers keeps the prediction at (x, t) for the step from (x^, t^); FlowMatchHeun also
    lacks the factor alpha^ / alpha, without which x^ is not on the straight path.

    Raises:
        ValueError: the solver is not a deterministic one-step method, or a number is negative or, except
            sigma_max, infinite.
    """
    method = heun() if solver is None else solver
    if method.stochastic or method.start(jnp.zeros((1, 1))) != ():
        raise ValueError(
            f"solver = {method.name}: must be a deterministic one-step method: euler, midpoint, heun, rk4"
        )
    ranges.not_negative(rise=rise, sigma_min=sigma_min, inflation=inflation)
    ranges.check(lambda v: v >= 0, "must be non-negative", sigma_max=sigma_max)

    def step(field, x, t, t_next, memory, key):
        alpha, beta = path.alpha(t), path.beta(t)
        lowest, highest, factor, more = (
            jnp.asarray(number, t.dtype) for number in (sigma_min, sigma_max, rise, inflation)
        )
        level = jnp.where(alpha > 0, beta / alpha, jnp.inf)
        raised = (factor > 0) & (alpha > 0) & (lowest <= level) & (level <= highest)
        earlier = jnp.where(raised, jnp.minimum(time_of(path, alpha, (1 + factor) * beta), t), t)
        back = jnp.where(raised, path.alpha(earlier) / alpha, 1)
        # Of the time as it was rounded, so that the marginals are exact.
        spread = more * jnp.sqrt(jnp.maximum(path.beta(earlier) ** 2 - (back * beta) ** 2, 0))
        normal = per_example.normal(key, x.shape[1:], x.dtype)
        moved = back.astype(x.dtype) * x + jnp.where(raised, spread, 0).astype(x.dtype) * normal
        return method.step(field, moved, earlier, t_next, memory, key)

    return method._replace(name="churned", step=step, stochastic=True, forward_only=True)
