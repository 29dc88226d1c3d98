r"""Methods that draw noise, with the key of the step, for dX = f(X, t) dt + sigma(t) dW and for DDPM.

The numbers of a method, sigma and eta, may be traced.

Source: Kloeden and Platen, Numerical Solution of Stochastic Differential Equations, 10.2 and 15.1.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow import per_example, ranges
from jaxflow.predictions import parts
from jaxflow.solvers.solver import Sigma, Solver, at, check_sigma, determined
from jaxflow.typing import GaussianPath


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

    return Solver("ancestral", step, 1, 1, stochastic=True, forward_only=True, check=determined(path))
