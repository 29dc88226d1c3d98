"""Times: the grids that samplers walk along, and the laws that training draws from.

A grid is an increasing array from 0 (noise) to 1 (data); its length less one is the number of
steps. A law is given by its quantile function Q, from uniform numbers in [0, 1) to times. Its
density at Q(u) is 1 / Q'(u), so that Q' is the weight with which a loss under the law estimates
without bias the one under uniform times.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jaxtyping import Array, Float

from jaxflow.paths import time_of
from jaxflow.typing import GaussianPath

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
    """Grid of n equal steps from 0 to 1, (n + 1,).

    >>> uniform(4).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if n < 1:
        raise ValueError(f"n = {n}: a grid of times needs at least 1 step")
    return jnp.linspace(0.0, 1.0, n + 1)


def shifted(n: int, shift: float) -> Float[Array, " steps"]:
    """Grid of n steps with the noise level 1 - t moved up: s -> shift s / (1 + (shift - 1) s), (n + 1,).

    Larger images need more noise to lose as much of what they show: shift = sqrt(m / m0) for m pixels
    where m0 did with the uniform grid. Source: Esser et al. 2403.03206, section 5.3.2.

    >>> shifted(2, 3.0).tolist()
    [0.0, 0.25, 1.0]
    """
    if not 0 < shift < float("inf"):
        raise ValueError(f"shift = {shift}: a positive number is needed, 1 for the uniform grid")
    t = uniform(n)
    return t / (t + shift * (1 - t))


def cosine(n: int) -> Float[Array, " steps"]:
    """Grid t = sin^2(pi i / 2n), dense at both ends, (n + 1,).

    >>> [round(t, 4) for t in cosine(4).tolist()]
    [0.0, 0.1464, 0.5, 0.8536, 1.0]
    """
    i = uniform(n)
    # From the nearer end: sin^2 near 1 would leave the last step to rounding.
    return jnp.where(i < 0.5, jnp.sin(jnp.pi / 2 * i) ** 2, 1 - jnp.sin(jnp.pi / 2 * (1 - i)) ** 2)


def karras(
    n: int, path: GaussianPath, *, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0
) -> Float[Array, " steps"]:
    """Grid of n steps with sigma^(1 / rho) uniform, sigma = beta / alpha the noise-to-data ratio, (n + 1,).

    The first time is 0 and the last 1, in place of the ratios sigma_max and 0.

    Source: Karras et al. 2206.00364, equation 5.

    >>> from jaxflow import paths
    >>> [round(t, 3) for t in karras(4, paths.Linear()).tolist()]
    [0.0, 0.093, 0.68, 0.998, 1.0]
    """
    if not rho > 0:
        raise ValueError(f"rho = {rho}: a positive number is needed")
    if not 0 < sigma_min < sigma_max < float("inf"):
        raise ValueError(
            f"sigma_min = {sigma_min}, sigma_max = {sigma_max}: 0 < sigma_min < sigma_max is needed"
        )
    ends = uniform(n)
    i = jnp.linspace(0.0, 1.0, n) if n > 1 else jnp.zeros(1)
    sigma = ((1 - i) * sigma_max ** (1 / rho) + i * sigma_min ** (1 / rho)) ** rho
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
    mean: float = 0.0, deviation: float = 1.0, *, stratified: bool = False, unbiased: bool = False
) -> Law:
    """Logit-normal times: t = sigmoid(mean + deviation z), z standard normal.

    Its density vanishes at both ends so fast that unbiased weights have no finite variance; `mode_law` is
    the one for them.

    Source: Esser et al. 2403.03206, section 3.1.

    >>> logit_normal_law()(jnp.array([0.5]))[0].tolist()
    [0.5]
    """

    def quantile(u: Array) -> Array:
        return jax.nn.sigmoid(mean + deviation * ndtri(jnp.maximum(u, jnp.finfo(u.dtype).tiny)))

    return law(quantile, stratified=stratified, unbiased=unbiased)


def mode_law(scale: float = 1.29, *, stratified: bool = False, unbiased: bool = False) -> Law:
    """Times t = u + s (u - sin^2(pi u / 2)): more in the middle for s > 0, at the ends for s < 0.

    Its density is bounded from below, so that unbiased weights are bounded, by 1 + s for s > 0.

    Source: Esser et al. 2403.03206, equation 20 (for noise levels; the law is symmetric).

    Raises:
        ValueError: scale outside [-1, 2 / (pi - 2)], where the function would not be monotone.
    """
    if not -1 <= scale <= 2 / (math.pi - 2):
        raise ValueError(f"scale = {scale}: a number in [-1, {2 / (math.pi - 2):.4g}] is needed")

    def quantile(u: Array) -> Array:
        return u + scale * (u - jnp.sin(jnp.pi / 2 * u) ** 2)

    return law(quantile, stratified=stratified, unbiased=unbiased)
