"""Times: the grids that samplers walk along, and the laws that training draws from.

A grid is an increasing array from 0 (noise) to 1 (data); its length less one is the number of
steps. A law is given by its quantile function Q, from uniform numbers in [0, 1) to times. Its
density at Q(u) is 1 / Q'(u), so that Q' is the weight with which a loss under the law estimates
without bias the one under uniform times.
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

Number = float | int | Float[Array, ""]
"""A number, which may be traced."""

Grid = Float[Array, " n"] | int
"""Times (n + 1,), or a number n of equal steps from 0 to 1."""

Quantile = Callable[[jax.Array], jax.Array]
"""Uniform numbers in [0, 1) -> times in [0, 1], same shape."""

Law = Callable[[jax.Array], tuple[jax.Array, jax.Array]]
"""Uniform numbers (b,) -> (times, weights of the losses there), each (b,)."""


def precision(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype of times beside data of `dtype`: float32 at least, since 1 - t vanishes in bfloat16.

    >>> precision(jnp.dtype("bfloat16")), precision(jnp.dtype("float64"))
    (dtype('float32'), dtype('float64'))
    """
    return jnp.dtype(dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32)


def uniform(n: int) -> Float[Array, " steps"]:
    """Grid of n equal steps from 0 to 1, (n + 1,): entry i is the float nearest to i / n.

    A grid whose numbers are known is known inside `jax.jit` as well, where samplers can check it.

    >>> uniform(4).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]

    Raises:
        ValueError: n is below 1, as for all grids.
    """
    ranges.at_least(1, n=n)
    with jax.ensure_compile_time_eval():
        # In float64, from which one more rounding is the right one.
        return jnp.asarray((np.arange(n + 1) / n).astype(jax.dtypes.canonicalize_dtype(float)))


def grid(times: Any, *, increasing: bool = False) -> Float[Array, " steps"]:
    """The grid (n + 1,) that samplers walk along: `times` itself, or that many equal steps.

    Raises:
        ValueError: it has no step, leaves [0, 1], or does not increase where it has to.

    >>> grid(2).tolist()
    [0.0, 0.5, 1.0]
    """
    if isinstance(times, (int, np.integer)):
        ranges.at_least(1, times=times)
        return uniform(int(times))
    with jax.ensure_compile_time_eval():
        steps = times if isinstance(times, jax.Array) else jnp.asarray(times, float)
    if steps.ndim != 1 or steps.shape[0] < 2:
        raise ValueError(f"times has the shape {steps.shape}: a grid (n + 1,) or a number of steps is needed")
    ranges.check(lambda t: (t >= 0) & (t <= 1), "all lie in [0, 1], from noise to data", times=steps)
    if increasing:
        ranges.check(lambda t: np.diff(t) > 0, "they must increase, on a walk to the data", times=steps)
    return steps


def shifted(times: Any, shift: Number) -> Float[Array, " steps"]:
    """A grid, or n equal steps, with more noise: s = 1 - t becomes shift s / (1 + (shift - 1) s), (n + 1,).

    Larger images need more noise to lose as much of what they show: shift = sqrt(m / m0) for m pixels
    where m0 did with the uniform grid. Source: Esser et al. 2403.03206, section 5.3.2.

    >>> shifted(2, 3.0).tolist()
    [0.0, 0.25, 1.0]

    FlowMatchEuler of diffusers does the same when given the levels from 1 to 1 / n; left alone it goes to
    1 / 1000 in n - 1 steps, and shifts that end twice.

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
        # From the nearer end: sin^2 near 1 would leave the last step to rounding.
        return jnp.where(i < 0.5, jnp.sin(jnp.pi / 2 * i) ** 2, 1 - jnp.sin(jnp.pi / 2 * (1 - i)) ** 2)


def karras(
    n: int, path: GaussianPath, *, sigma_min: Number = 0.002, sigma_max: Number = 80.0, rho: Number = 7.0
) -> Float[Array, " steps"]:
    """Grid of n steps with sigma^(1 / rho) uniform, sigma = beta / alpha the noise-to-data ratio, (n + 1,).

    The first time is 0 and the last 1, in place of the ratios sigma_max and 0.

    Source: Karras et al. 2206.00364, equation 5.

    >>> from jaxflow import paths
    >>> [round(t, 3) for t in karras(4, paths.Linear()).tolist()]
    [0.0, 0.093, 0.68, 0.998, 1.0]

    As in diffusers, but for the first time.

    Raises:
        ValueError: rho is not positive, or not 0 < sigma_min < sigma_max.
    """
    ranges.positive(sigma_min=sigma_min, sigma_max=sigma_max, rho=rho)
    if not isinstance(sigma_min, jax.core.Tracer) and not isinstance(sigma_max, jax.core.Tracer):
        ranges.check(
            lambda least: least < sigma_max,
            f"less than sigma_max = {sigma_max} is needed",
            sigma_min=sigma_min,
        )
    with jax.ensure_compile_time_eval():
        ends = uniform(n)
        lowest, highest, rho = (jnp.asarray(number, ends.dtype) for number in (sigma_min, sigma_max, rho))
        i = uniform(n - 1) if n > 1 else ends[:1]
        sigma = ((1 - i) * highest ** (1 / rho) + i * lowest ** (1 / rho)) ** rho
        inner = time_of(path, jnp.ones_like(sigma), sigma)
        return jnp.concatenate([ends[:1], inner[1:], ends[-1:]])


def law(quantile: Quantile, *, stratified: bool = False, unbiased: bool = False) -> Law:
    """The law of times with a quantile function.

    Args:
        quantile: increasing, from [0, 1) to times.
        stratified: the i-th of b times from the i-th of b equally likely parts, (i + u_i) / b, for a loss of
            less variance.
        unbiased: weights 1 / density = Q', instead of 1.

    >>> t, weight = law(lambda u: u**2, stratified=True, unbiased=True)(jnp.array([0.0, 0.0]))
    >>> t.tolist(), weight.tolist()
    ([0.0, 0.25], [0.0, 1.0])
    """

    def draw(u: Float[Array, " b"]) -> tuple[Float[Array, " b"], Float[Array, " b"]]:
        if stratified:
            u = (jnp.arange(u.shape[0], dtype=u.dtype) + u) / u.shape[0]
            u = jnp.minimum(u, 1 - jnp.finfo(u.dtype).epsneg)  # the sum may be rounded up to 1
        t, slope = jax.jvp(quantile, (u,), (jnp.ones_like(u),))
        return t, slope if unbiased else jnp.ones_like(t)

    return draw


def uniform_law(*, stratified: bool = False) -> Law:
    """Uniform times: t = u."""
    return law(lambda u: u, stratified=stratified)


def logit_normal_law(
    mean: Number = 0.0, deviation: Number = 1.0, *, stratified: bool = False, unbiased: bool = False
) -> Law:
    """Logit-normal times: t = sigmoid(mean + deviation z), z standard normal.

    t = 1 is data, and a positive mean trains more near the data. Esser et al. state the law for noise levels
    1 - t: our mean is minus theirs, with the same deviation.

    Its density vanishes at both ends so fast that unbiased weights have no finite variance; `mode_law` is
    the one for them.

    Source: Esser et al. 2403.03206, section 3.1.

    Raises:
        ValueError: mean is not finite, or deviation not positive.

    >>> logit_normal_law()(jnp.array([0.5]))[0].tolist()
    [0.5]
    """
    ranges.finite(mean=mean)
    ranges.positive(deviation=deviation)

    def quantile(u: Array) -> Array:
        centre, width = (jnp.asarray(number, u.dtype) for number in (mean, deviation))
        return jax.nn.sigmoid(centre + width * ndtri(jnp.maximum(u, jnp.finfo(u.dtype).tiny)))

    return law(quantile, stratified=stratified, unbiased=unbiased)


def mode_law(scale: Number = 1.29, *, stratified: bool = False, unbiased: bool = False) -> Law:
    """Times t = u + s (u - sin^2(pi u / 2)): more in the middle for s > 0, at the ends for s < 0.

    Its density is bounded from below, so that unbiased weights are bounded, by 1 + s for s > 0.

    Source: Esser et al. 2403.03206, equation 20 (for noise levels; the law is symmetric).

    Raises:
        ValueError: scale outside [-1, 2 / (pi - 2)], where the function would not be monotone.
    """
    most = 2 / (math.pi - 2)
    ranges.check(lambda s: (s >= -1) & (s <= most), f"a number in [-1, {most:.4g}] is needed", scale=scale)

    def quantile(u: Array) -> Array:
        return u + jnp.asarray(scale, u.dtype) * (u - jnp.sin(jnp.pi / 2 * u) ** 2)

    return law(quantile, stratified=stratified, unbiased=unbiased)
