r"""Methods with one call of the field per step, which remember its values of earlier steps.

Adams and Bashforth's is for any field. The others solve the ODE, or the SDE, of a Gaussian path in
lambda = log(alpha / beta): with D the predicted data and h the increase of lambda,

    x_next = beta_next / beta x + alpha_next int_0^h e^(s - h) D(lambda + s) ds,

whose linear part is exact, so that only D is approximated.

Source: Hairer, Norsett and Wanner, Solving Ordinary Differential Equations I, III.1; Lu et al. 2211.01095.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow import per_example, ranges
from jaxflow.predictions import parts
from jaxflow.solvers.solver import Memory, Solver, determined
from jaxflow.typing import GaussianPath


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

    def start(x):
        return jnp.zeros_like(x), jnp.asarray(jnp.inf)

    def mean(data, memory, h, _):
        last_data, last_h = memory
        half = jnp.where(jnp.isfinite(h), h / last_h.astype(h.dtype) / 2, 0)
        return data + half.astype(data.dtype) * (data - last_data), (data, h.astype(last_h.dtype))

    return _dpm_solver("dpm_solver_2m", path, eta, 2, start, mean)


def dpm_solver_3m(path: GaussianPath, eta: float | int | Float[Array, ""] = 0.0) -> Solver:
    """DPM-Solver++ (3M): order 3 with one call per step.

    The step of `dpm_solver_2m`, where D is now the mean over the step, with the weight e^((1 + eta) (s - h)),
    of the parabola through D_n, D_{n-1} and D_{n-2}. Where there is no D_{n-2}, or one of their distances is
    infinite, it is that of the line through two of them, or D_n alone.

    The first step, of first order, is felt where it starts from less noise: on the mixture of the tests the
    measured order is 3.0 from lambda = -4 and 2.0 from -1, where that of `unipc` is 3.0. For eta = 1 that of
    the variance of a Gaussian is 2.

    DPMSolverMultistep of diffusers and k-diffusion weigh the second difference by half, which makes it 2.

    Raises:
        ValueError: eta is outside [0, 1].

    Source: Lu et al. 2211.01095, appendix, for the multistep methods of higher order; for the SDE Crowson's
    k-diffusion.
    """

    def start(x):
        return jnp.zeros_like(x), jnp.zeros_like(x), jnp.asarray(jnp.inf), jnp.asarray(jnp.inf)

    def mean(data, memory, h, decayed):
        last_data, older_data, last_h, older_h = memory
        back, further = last_h.astype(h.dtype), (last_h + older_h).astype(h.dtype)
        known, both = jnp.isfinite(h) & jnp.isfinite(back), jnp.isfinite(h) & jnp.isfinite(further)
        # Of the differences over the lengths of steps, in units of h.
        slope = jnp.where(known, h / back, 0).astype(data.dtype) * (data - last_data)
        before = jnp.where(both, h / (further - back), 0).astype(data.dtype) * (last_data - older_data)
        bend = jnp.where(both, h / further, 0).astype(data.dtype) * (slope - before)
        lean = slope + jnp.where(both, back / h, 0).astype(data.dtype) * bend
        whole = -jnp.expm1(-decayed)
        first = 1 - whole / decayed
        second = 1 - 2 * first / decayed
        target = data + (first / whole).astype(data.dtype) * lean + (second / whole).astype(data.dtype) * bend
        return target, (data, last_data, h.astype(last_h.dtype), last_h)

    return _dpm_solver("dpm_solver_3m", path, eta, 3 if _is_zero(eta) else 2, start, mean)


def _dpm_solver(
    name: str,
    path: GaussianPath,
    eta: float | int | Float[Array, ""],
    order: int,
    start: Callable[[Array], Memory],
    mean: Callable[[Array, Memory, Array, Array], tuple[Array, Memory]],
) -> Solver:
    """The solver whose `mean(D_n, memory, h, (1 + eta) h)` is its D and the next memory."""
    ranges.fraction(eta=eta)
    stochastic = not _is_zero(eta)

    def step(field, x, t, t_next, memory, key):
        data = parts(path, x, t, field(x, t)).data.astype(x.dtype)
        decay, h = _decay(path, t, t_next)
        power = jnp.asarray(eta, decay.dtype)
        noisier = decay**power
        target, memory = mean(data, memory, h, (1 + power) * h)
        kept, gained = noisier * path.beta(t_next) / path.beta(t), path.alpha(t_next) * (1 - noisier * decay)
        x = kept.astype(x.dtype) * x + gained.astype(x.dtype) * target
        if stochastic:
            spread = path.beta(t_next) * jnp.sqrt(1 - noisier**2)
            x = x + spread.astype(x.dtype) * per_example.normal(key, x.shape[1:], x.dtype)
        return x, memory

    return Solver(
        name, step, order, 1, start, stochastic=stochastic, forward_only=True, check=determined(path)
    )


def unipc(path: GaussianPath) -> Solver:
    """UniPC-2 with B(h) = e^h - 1: order 3 with one call per step.

    The step is that of `dpm_solver_2m`. The next call, at its end x_next, also corrects it: the integral of
    the module's docstring is then that of the parabola through D_{n-1}, D_n and D_{n+1}, as in Adams and
    Moulton's method. With r = h_n / h_{n-1}, w_1 = 1 - (1 - e^-h) / h and w_2 = 1 - 2 w_1 / h,

        corrected = beta_next / beta x + alpha_next ((1 - e^-h) D_n
                    + c (D_n - D_{n-1}) r + (w_1 - c) (D_{n+1} - D_n)),    c = (w_1 - w_2) r / (1 + r).

    Where h_n or h_{n-1} is infinite or there is no D_{n-1}, c = 0 and w_1 is replaced by (1 - e^-h) / 2. The
    last step is not corrected. From noise to data only.

    UniPCMultistep of diffusers with its defaults; in place of t = 0 it starts at t = 1e-6, where h is finite.

    Source: Zhao et al. 2302.04867, section 3.
    """

    def start(x):
        return jnp.zeros_like(x), jnp.asarray(jnp.inf), jnp.zeros_like(x), jnp.zeros((), x.dtype)

    def step(field, x, t, t_next, memory, key):
        data = parts(path, x, t, field(x, t)).data.astype(x.dtype)
        last_data, last_h, lag, weight = memory
        x = x + weight * data - lag
        decay, h = _decay(path, t, t_next)
        ratio = jnp.where(jnp.isfinite(h), h / last_h.astype(h.dtype), 0)
        kept, alpha, fresh = path.beta(t_next) / path.beta(t), path.alpha(t_next), 1 - decay
        first = 1 + jnp.expm1(-h) / h
        inner = jnp.where(ratio > 0, (first - 1 + 2 * first / h) * ratio / (1 + ratio), 0)
        outer = jnp.where(ratio > 0, first, fresh / 2) - inner
        gain, half, inner, outer = (
            (alpha * number).astype(x.dtype) for number in (fresh, fresh / 2, inner, outer)
        )
        slope = ratio.astype(x.dtype) * (data - last_data)
        x_next = kept.astype(x.dtype) * x + gain * data + half * slope
        return x_next, (data, h.astype(last_h.dtype), outer * data + (half - inner) * slope, outer)

    return Solver("unipc", step, 3, 1, start, forward_only=True, check=determined(path))


def _is_zero(eta: float | int | Float[Array, ""]) -> bool:
    """Whether it is known to be, so that no noise is drawn."""
    return isinstance(eta, float | int) and eta == 0


def _decay(path: GaussianPath, t: Array, t_next: Array) -> tuple[Array, Array]:
    """e^-h, finite where h is not, and h, the increase of log(alpha / beta) over a step."""
    less, more = path.alpha(t) * path.beta(t_next), path.alpha(t_next) * path.beta(t)
    return less / more, jnp.log(more) - jnp.log(less)
