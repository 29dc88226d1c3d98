"""Time grids for sampling, and time distributions for training.

A grid is an increasing array from 0 (noise) to 1 (data), one longer than its number of steps. A time
`Distribution` is given by its quantile function Q, from uniform numbers in [0, 1) to times. Its
density at Q(u) is 1 / Q'(u): weighting the loss by Q' makes it an unbiased estimate of the loss under uniform
times.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jaxtyping import Array, Float

from jaxflow import ranges
from jaxflow.paths import time_of
from jaxflow.typing import GaussianPath

MOST_STEPS = 10_000_000
"""Steps of a grid; float32 has as many distinct times near 1."""

Number = float | int | Float[Array, ""]
"""A number, possibly traced."""

Grid = Float[Array, " n"] | int
"""Times (n + 1,), or the number n of equal steps from 0 to 1."""

Quantile = Callable[[jax.Array], jax.Array]
"""Uniform numbers in [0, 1) -> times in [0, 1], same shape."""

Distribution = Callable[[jax.Array], tuple[jax.Array, jax.Array]]
"""Uniform numbers (b,) -> (times, loss weights), each (b,)."""

Ends = Callable[[jax.Array], tuple[jax.Array, jax.Array]]
"""Uniform numbers (b, 3) -> the two ends t <= s of intervals of time, (b,) each."""


def precision(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype of times for data of `dtype`: at least float32, since 1 - t vanishes in bfloat16.

    >>> precision(jnp.dtype("bfloat16")), precision(jnp.dtype("float64"))
    (dtype('float32'), dtype('float64'))
    """
    return jnp.dtype(dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32)


def uniform(n: int) -> Float[Array, " steps"]:
    """Grid of n equal steps from 0 to 1, (n + 1,): entry i is the float nearest to i / n.

    Grids built from concrete numbers stay concrete inside `jax.jit`, so that samplers can check them there.

    >>> uniform(4).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]

    Raises:
        ValueError: n is below 1 or above `MOST_STEPS`; the other grids raise it too.
    """
    ranges.at_least(1, MOST_STEPS, n=n)
    with jax.ensure_compile_time_eval():
        # Divided in float64, then rounded once more: this gives the nearest float.
        return jnp.asarray((np.arange(n + 1) / n).astype(jax.dtypes.canonicalize_dtype(float)))


def grid(times: Any, *, increasing: bool = False) -> Float[Array, " steps"]:
    """The time grid (n + 1,) of a sampler: `times` itself, or that many equal steps.

    Raises:
        ValueError: times has no step, leaves [0, 1], or does not increase although `increasing` is set.

    >>> grid(2).tolist()
    [0.0, 0.5, 1.0]
    """
    if isinstance(times, (int, np.integer)):
        ranges.at_least(1, MOST_STEPS, times=times)
        return uniform(int(times))
    with jax.ensure_compile_time_eval():
        steps = times if isinstance(times, jax.Array) else jnp.asarray(times, float)
    if steps.ndim != 1 or steps.shape[0] < 2:
        raise ValueError(f"times has the shape {steps.shape}: expected a grid (n + 1,) or a number of steps")
    ranges.check(lambda t: (t >= 0) & (t <= 1), "must be in [0, 1], from noise to data", times=steps)
    if increasing:
        ranges.check(lambda t: np.diff(t) > 0, "must increase, from noise to data", times=steps)
    return steps


def step_around(
    times: Float[Array, " steps"], t: Float[Array, " b"]
) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
    """The ends of the step of an increasing grid in which each t lies, its start included; at 1 the last.

    >>> [end.tolist() for end in step_around(uniform(4), jnp.array([0.25, 0.3, 1.0]))]
    [[0.25, 0.25, 0.75], [0.5, 0.5, 1.0]]
    """
    step = jnp.clip(jnp.searchsorted(times, t, side="right") - 1, 0, times.shape[0] - 2)
    return times[step], times[step + 1]


def shifted(times: Any, shift: Number) -> Float[Array, " steps"]:
    """A grid, or n equal steps, shifted to more noise: s = 1 - t -> shift s / (1 + (shift - 1) s), (n + 1,).

    Larger images need more noise to lose the same information: use shift = sqrt(m / m0) for m pixels if the
    uniform grid suits m0. Source: Esser et al. 2403.03206, section 5.3.2.

    >>> shifted(2, 3.0).tolist()
    [0.0, 0.25, 1.0]

    FlowMatchEuler of diffusers does the same if given the noise levels from 1 to 1 / n; by default it takes
    n - 1 steps to 1 / 1000, and shifts that end twice.

    Raises:
        ValueError: shift is not positive and finite.
    """
    ranges.positive(shift=shift)
    with jax.ensure_compile_time_eval():
        t = grid(times)
        return t / (t + jnp.asarray(shift, t.dtype) * (1 - t))


def cosine(n: int) -> Float[Array, " steps"]:
    """Grid t = sin^2(pi i / 2n), dense at both ends, (n + 1,).

    >>> [round(t, 4) for t in cosine(4).tolist()]
    [0.0, 0.1464, 0.5, 0.8536, 1.0]
    """
    with jax.ensure_compile_time_eval():
        i = uniform(n)
        # Computed from the nearer end: near 1, the step of sin^2 would be lost to rounding.
        return jnp.where(i < 0.5, jnp.sin(jnp.pi / 2 * i) ** 2, 1 - jnp.sin(jnp.pi / 2 * (1 - i)) ** 2)


def karras(
    n: int, path: GaussianPath, *, sigma_min: Number = 0.002, sigma_max: Number = 80.0, rho: Number = 7.0
) -> Float[Array, " steps"]:
    """Grid of n steps with sigma^(1 / rho) uniform, sigma = beta / alpha the noise-to-data ratio, (n + 1,).

    The first time is 0, not that of sigma_max, which is at most the path's largest ratio, and the last is 1.

    Source: Karras et al. 2206.00364, equation 5.

    >>> from jaxflow import paths
    >>> [round(t, 3) for t in karras(4, paths.Linear()).tolist()]
    [0.0, 0.093, 0.68, 0.998, 1.0]

    As in diffusers, except for the first time.

    Raises:
        ValueError: rho is not positive, or 0 < sigma_min < sigma_max does not hold.
    """
    ranges.positive(rho=rho)

    def levels(i: Array, lowest: Array, highest: Array) -> Array:
        power = jnp.asarray(rho, i.dtype)
        return ((1 - i) * highest ** (1 / power) + i * lowest ** (1 / power)) ** power

    return _of_ratios(n, path, sigma_min, sigma_max, levels)


def exponential(
    n: int, path: GaussianPath, *, sigma_min: Number = 0.002, sigma_max: Number = 80.0
) -> Float[Array, " steps"]:
    """Grid of n steps with log sigma uniform: the limit of `karras` for large rho, (n + 1,).

    The first and the last time are those of `karras`.

    >>> from jaxflow import paths
    >>> [round(t, 3) for t in exponential(4, paths.Linear()).tolist()]
    [0.0, 0.299, 0.936, 0.998, 1.0]

    EulerDiscrete of diffusers has it so, except for the first time; FlowMatchEuler takes 1 - t in place of
    sigma.

    Raises:
        ValueError: 0 < sigma_min < sigma_max does not hold.
    """

    def levels(i: Array, lowest: Array, highest: Array) -> Array:
        return jnp.exp((1 - i) * jnp.log(highest) + i * jnp.log(lowest))

    return _of_ratios(n, path, sigma_min, sigma_max, levels)


def _of_ratios(
    n: int,
    path: GaussianPath,
    sigma_min: Number,
    sigma_max: Number,
    levels: Callable[[Array, Array, Array], Array],
) -> Array:
    """The grid of `levels(i, lowest, highest)`, ratios of noise to data for i from 0 to 1."""
    ranges.positive(sigma_min=sigma_min, sigma_max=sigma_max)
    if not isinstance(sigma_min, jax.core.Tracer) and not isinstance(sigma_max, jax.core.Tracer):
        ranges.check(
            lambda value: value < sigma_max,
            f"must be less than sigma_max = {sigma_max}",
            sigma_min=sigma_min,
        )
    with jax.ensure_compile_time_eval():
        ends = uniform(n)
        lowest, highest = (jnp.asarray(number, ends.dtype) for number in (sigma_min, sigma_max))
        alpha, beta = path.alpha(ends[0]), path.beta(ends[0])
        highest = jnp.where(highest * alpha > beta, beta / alpha, highest)  # a path may begin with less noise
        sigma = levels(uniform(n - 1) if n > 1 else ends[:1], lowest, highest)
        inner = time_of(path, jnp.ones_like(sigma), sigma)
        return jnp.concatenate([ends[:1], inner[1:], ends[-1:]])


def beta_quantiles(n: int, a: float | int = 0.6, b: float | int = 0.6) -> Float[Array, " steps"]:
    """Grid of the quantiles i / n of a beta distribution of t, dense at both ends if a, b < 1, (n + 1,).

    Where the distribution of 1 - t has the parameters a and b, that of t has b and a.

    Source: Lee et al. 2407.12173, for timesteps of a DDPM.

    >>> [round(t, 4) for t in beta_quantiles(4).tolist()]
    [0.0, 0.1757, 0.5, 0.8243, 1.0]

    FlowMatchEuler of diffusers takes n - 1 such steps to its least noise level, and one from there to 0;
    EulerDiscrete has quantiles of beta / alpha.

    Raises:
        ValueError: a or b is not positive and finite.
    """
    from scipy.special import betaincinv  # which takes longer to import than this library

    ranges.positive(a=a, b=b)
    ranges.at_least(1, MOST_STEPS, n=n)
    i = np.arange(n + 1) / n
    # From the nearer end: near 1, the steps of the quantiles would be lost to rounding.
    t = np.where(i < 0.5, betaincinv(a, b, i), 1 - betaincinv(b, a, 1 - i))
    with jax.ensure_compile_time_eval():
        return jnp.asarray(t.astype(jax.dtypes.canonicalize_dtype(float)))


def distribution(quantile: Quantile, *, stratified: bool = False, unbiased: bool = False) -> Distribution:
    """The time distribution with a given quantile function.

    Args:
        quantile: increasing, from [0, 1) to times.
        stratified: draw the i-th of b times from the i-th of b equally likely strata, (i + u_i) / b, which
            lowers the variance of the loss.
        unbiased: weights 1 / density = Q' instead of 1.

    >>> t, weight = distribution(lambda u: u**2, stratified=True, unbiased=True)(jnp.array([0.0, 0.0]))
    >>> t.tolist(), weight.tolist()
    ([0.0, 0.25], [0.0, 1.0])
    """

    def draw(u: Float[Array, " b"]) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
        if stratified:
            u = (jnp.arange(u.shape[0], dtype=u.dtype) + u) / u.shape[0]
            u = jnp.minimum(u, 1 - jnp.finfo(u.dtype).epsneg)  # the sum may round up to 1
        t, slope = jax.jvp(quantile, (u,), (jnp.ones_like(u),))
        return t, slope if unbiased else jnp.ones_like(t)

    return draw


def uniform_distribution(*, stratified: bool = False) -> Distribution:
    """Uniform times: t = u."""
    return distribution(lambda u: u, stratified=stratified)


def logit_normal_distribution(
    mean: Number = 0.0, deviation: Number = 1.0, *, stratified: bool = False, unbiased: bool = False
) -> Distribution:
    """Logit-normal times: t = sigmoid(mean + deviation z), z standard normal.

    Since t = 1 is data, a positive mean puts more weight near the data. Esser et al. state the distribution
    in noise levels 1 - t: our mean is minus theirs, the deviation is the same.

    The density vanishes so fast at both ends that unbiased weights have infinite variance;
    `mode_distribution` suits them better.

    Source: Esser et al. 2403.03206, section 3.1.

    Raises:
        ValueError: mean is not finite, or deviation is not positive.

    >>> logit_normal_distribution()(jnp.array([0.5]))[0].tolist()
    [0.5]
    """
    ranges.finite(mean=mean)
    ranges.positive(deviation=deviation)

    def quantile(u: Array) -> Array:
        centre, width = (jnp.asarray(number, u.dtype) for number in (mean, deviation))
        return jax.nn.sigmoid(centre + width * ndtri(jnp.maximum(u, jnp.finfo(u.dtype).tiny)))

    return distribution(quantile, stratified=stratified, unbiased=unbiased)


def mode_distribution(
    scale: Number = 1.29, *, stratified: bool = False, unbiased: bool = False
) -> Distribution:
    """Times t = u + s (u - sin^2(pi u / 2)): more in the middle for s > 0, at the ends for s < 0.

    The density is bounded from below, so that unbiased weights are bounded: by 1 + s for s > 0.

    Source: Esser et al. 2403.03206, equation 20 (in noise levels; the distribution is symmetric).

    Raises:
        ValueError: scale is outside [-1, 2 / (pi - 2)], where the quantile function is not monotone.
    """
    most = 2 / (math.pi - 2)
    ranges.check(lambda s: (s >= -1) & (s <= most), f"must be in [-1, {most:.4g}]", scale=scale)

    def quantile(u: Array) -> Array:
        return u + jnp.asarray(scale, u.dtype) * (u - jnp.sin(jnp.pi / 2 * u) ** 2)

    return distribution(quantile, stratified=stratified, unbiased=unbiased)


def intervals(time_distribution: Distribution | None = None, *, instants: Number = 0.5) -> Ends:
    """Intervals between two independent times, uniform by default; of length 0 with probability `instants`.

    Both ends of such an interval are at the first of the two times. Weights of the distribution are ignored.

    Raises:
        ValueError: instants is outside [0, 1].

    >>> [ends.tolist() for ends in intervals()(jnp.array([[0.75, 0.5, 0.9], [0.75, 0.5, 0.1]]))]
    [[0.5, 0.75], [0.75, 0.75]]
    """
    ranges.fraction(instants=instants)
    draw = uniform_distribution() if time_distribution is None else time_distribution

    def ends(u: Float[Array, "b 3"]) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
        first, second = draw(u[:, 0])[0], draw(u[:, 1])[0]
        second = jnp.where(u[:, 2] < jnp.asarray(instants, u.dtype), first, second)
        return jnp.minimum(first, second), jnp.maximum(first, second)

    return ends


def to_data(time_distribution: Distribution | None = None) -> Ends:
    """Intervals from a random time, uniform by default, to 1: those of a consistency model.

    >>> [ends.tolist() for ends in to_data()(jnp.array([[0.75, 0.5, 0.9]]))]
    [[0.75], [1.0]]
    """
    draw = uniform_distribution() if time_distribution is None else time_distribution

    def ends(u: Float[Array, "b 3"]) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
        t = draw(u[:, 0])[0]
        return t, jnp.ones_like(t)

    return ends
