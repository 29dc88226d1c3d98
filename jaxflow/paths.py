r"""Gaussian probability paths: x_t = alpha(t) data + beta(t) noise.

Time runs from noise to data: alpha(0) = beta(1) = 0 and alpha(1) = beta(0) = 1. Given one
data point, the velocity that carries x_t along the path and the score of x_t are

    u_t(x | data) = alpha'(t) data + beta'(t) noise,     grad log p_t(x | data) = -noise / beta(t).

A path is a frozen dataclass of numbers with the methods `alpha` and `beta`; defining one takes
two lines. Its numbers are pytree leaves, so that `jax.vmap` sweeps over them. Derivatives are
taken by forward-mode autodiff, never written by hand.

A general path psi(noise, data, t) need not be linear in the two, nor start from a Gaussian
(`Straight`, `from_map`). It has a velocity, dpsi/dt, but no score.

Source: "Building an Image Generator", section on Gaussian conditional probability paths
(arXiv 2506.02070). Its Algorithm 5 prints alpha' noise + beta' data as the training target;
the two are swapped there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow import per_example
from jaxflow.per_example import Times, expand
from jaxflow.typing import GaussianPath, GeneralPath


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Linear:
    """alpha = t, beta = 1 - t: straight lines from noise to data (rectified flow, optimal transport).

    Source: Liu et al. 2209.03003, Lipman et al. 2210.02747.
    """

    def alpha(self, t: Array) -> Array:
        """The time itself."""
        return t

    def beta(self, t: Array) -> Array:
        """1 - t."""
        return 1 - t


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cosine:
    """alpha = sin(pi t / 2), beta = cos(pi t / 2): alpha^2 + beta^2 = 1 at constant angular speed.

    Both are computed from the nearer end of t, which keeps them and their slopes accurate to the last digits
    there, and exactly 0 where they vanish.

    Source: Nichol and Dhariwal 2102.09672, Albergo and Vanden-Eijnden 2209.15571.
    """

    def alpha(self, t: Array) -> Array:
        """sin(pi t / 2)."""
        return jnp.where(t < 0.5, jnp.sin(jnp.pi / 2 * t), jnp.cos(jnp.pi / 2 * (1 - t)))

    def beta(self, t: Array) -> Array:
        """cos(pi t / 2)."""
        return jnp.where(t < 0.5, jnp.cos(jnp.pi / 2 * t), jnp.sin(jnp.pi / 2 * (1 - t)))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SquareRoot:
    """alpha = t, beta = sqrt(1 - t).

    The slope of beta is infinite at t = 1: use solvers that never evaluate the field there (Euler, midpoint).

    LinearVP of flow_matching is a different path, with beta = sqrt(1 - t^2).
    """

    def alpha(self, t: Array) -> Array:
        """The time itself."""
        return t

    def beta(self, t: Array) -> Array:
        """sqrt(1 - t)."""
        return jnp.sqrt(1 - t)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class VariancePreserving:
    """DDPM's process in continuous time s = 1 - t, with noise rate beta_min + s (beta_max - beta_min).

    alpha(t) = exp(-s^2 (beta_max - beta_min) / 4 - s beta_min / 2) and beta = sqrt(1 - alpha^2).
    It does not quite reach pure noise: alpha(0) = exp(-(beta_max + beta_min) / 4), which is 0.0066
    with the defaults. The slope of beta is infinite at t = 1, as for `SquareRoot`.

    Source: Song et al. 2011.13456, equation 33.
    """

    beta_min: float | int | Array = 0.1
    beta_max: float | int | Array = 20.0

    def _log_alpha(self, t: Array) -> Array:
        s = 1 - t
        return -(s**2) * (self.beta_max - self.beta_min) / 4 - s * self.beta_min / 2

    def alpha(self, t: Array) -> Array:
        """exp(-s^2 (beta_max - beta_min) / 4 - s beta_min / 2), s = 1 - t."""
        return jnp.exp(self._log_alpha(t))

    def beta(self, t: Array) -> Array:
        """sqrt(1 - alpha^2), without cancellation near t = 1."""
        return jnp.sqrt(-jnp.expm1(2 * self._log_alpha(t)))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DDPM:
    """The variance-preserving path of a DDPM's table of noise rates (n,), least noise first.

    At t = 1 - i / n, alpha^2 is the product of 1 - betas over the first i; between these levels alpha is
    linear. alpha(0) is small but not 0, unless the last rate is 1 (zero terminal SNR: Lin et al. 2305.08891).
    Example: `DDPM(jnp.linspace(1e-4, 0.02, 1000))`.

    Timestep k of diffusers is t = 1 - (k + 1) / n; between levels diffusers interpolates beta / alpha, not
    alpha.

    Source: Ho et al. 2006.11239, section 2.
    """

    betas: Float[Array, " n"]

    def alpha(self, t: Array) -> Array:
        """Square root of the product of 1 - betas over the first n (1 - t)."""
        return self._weights(t)[0]

    def beta(self, t: Array) -> Array:
        """sqrt(1 - alpha^2) as sqrt((1 - alpha) (1 + alpha)), without cancellation near t = 1."""
        missing = self._weights(t)[1]
        return jnp.sqrt(missing * (2 - missing))

    def _weights(self, t: Array) -> tuple[Array, Array]:
        """Alpha and 1 - alpha, from alpha at the last level with less noise and its decrease since then."""
        n, logs = len(self.betas), jnp.log1p(-self.betas.astype(t.dtype)) / 2
        s = (1 - t) * n
        level = jnp.clip(jnp.floor(s).astype(int), 0, n - 1)
        log_alpha = jnp.concatenate([jnp.zeros(1, t.dtype), jnp.cumsum(logs[:-1])])[level]
        lost = jnp.exp(log_alpha) * -jnp.expm1(logs[level]) * (s - level.astype(t.dtype))
        return jnp.exp(log_alpha) - lost, lost - jnp.expm1(log_alpha)


@partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=("alpha", "beta"))
@dataclass(frozen=True)
class _Functions:
    alpha: Callable[[Array], Array]
    beta: Callable[[Array], Array]


def from_functions(alpha: Callable[[Array], Array], beta: Callable[[Array], Array]) -> GaussianPath:
    """The Gaussian path of any two differentiable functions of t.

    Raises:
        ValueError: they do not run from alpha = 0, beta = 1 to alpha = 1, beta = 0 (within 0.01,
            since diffusions stop a little short of pure noise).

    Where both slopes vanish, as at t = 0 in the example, the velocity does not determine the data: samplers
    that need the data must start a little later.

    >>> path = from_functions(lambda t: t**2, lambda t: 1 - t**2)
    >>> float(coefficients(path, jnp.array(0.5)).d_alpha)
    1.0
    """
    for name, function, ends in (("alpha", alpha, (0.0, 1.0)), ("beta", beta, (1.0, 0.0))):
        for t, end in zip((0.0, 1.0), ends, strict=True):
            value = function(jnp.asarray(t))
            if not isinstance(value, jax.core.Tracer) and not abs(float(value) - end) <= 0.01:
                raise ValueError(f"{name}({t:g}) = {float(value):g}: must be {end:g}, within 0.01")
    return _Functions(alpha, beta)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Straight:
    """Straight lines between any two distributions: psi = (1 - t) noise + t data, paired as given.

    The same lines as `Linear`, but `noise` need not be Gaussian, so that requesting a score is an
    error. Source: Liu et al. 2209.03003, Albergo and Vanden-Eijnden 2209.15571.
    """

    def psi(self, noise: Array, data: Array, t: Array) -> Array:
        """(1 - t) noise + t data."""
        return (1 - t) * noise + t * data


@partial(jax.tree_util.register_dataclass, data_fields=(), meta_fields=("psi",))
@dataclass(frozen=True)
class _Map:
    psi: Callable[[Array, Array, Array], Array]


def from_map(psi: Callable[[Array, Array, Array], Array]) -> GeneralPath:
    """The general path psi(noise, data, t) of one example, t a scalar: noise at t = 0, data at t = 1.

    >>> arc = from_map(lambda noise, data, t: jnp.cos(jnp.pi / 2 * t) * noise + t**2 * data)
    >>> x = jnp.ones((1, 1))
    >>> round(conditional_velocity(arc, x, x, jnp.ones(1)).item(), 4)
    0.4292
    """
    return _Map(psi)


class Coefficients(NamedTuple):
    """The coefficients of a path and their time derivatives."""

    alpha: Array
    beta: Array
    d_alpha: Array
    d_beta: Array


def coefficients(path: GaussianPath | GeneralPath, t: Float[Array, "..."]) -> Coefficients:
    """alpha, beta and their derivatives at `t`, each of t's shape.

    Raises:
        TypeError: the path is not Gaussian.

    >>> c = coefficients(Linear(), jnp.array(0.25))
    >>> [float(value) for value in c]
    [0.25, 0.75, 1.0, -1.0]
    """
    path = _gaussian(path)
    alpha, d_alpha = jax.jvp(path.alpha, (t,), (jnp.ones_like(t),))
    beta, d_beta = jax.jvp(path.beta, (t,), (jnp.ones_like(t),))
    return Coefficients(alpha, beta, d_alpha, d_beta)


def _gaussian(path: GaussianPath | GeneralPath) -> GaussianPath:
    if isinstance(path, GaussianPath):
        return path
    raise TypeError(
        f"path = {path}: must be a Gaussian path, with alpha and beta; a general path has a velocity, but no "
        "score or conversions"
    )


def interpolate(
    path: GaussianPath | GeneralPath,
    data: Float[Array, "b *event"],
    noise: Float[Array, "b *event"],
    t: Times,
) -> Float[Array, "b *event"]:
    """The point x_t = alpha(t) data + beta(t) noise, or psi(noise, data, t), of the path.

    Here and throughout this module, `t` is one time per example, or one for all.

    >>> interpolate(Linear(), jnp.array([[4.0]]), jnp.array([[0.0]]), jnp.array([0.25])).item()
    1.0
    """
    t = per_example.times(t, data)
    if not isinstance(path, GaussianPath):
        point = jax.vmap(path.psi)(noise.astype(t.dtype), data.astype(t.dtype), t)
        return point.astype(data.dtype)
    return expand(path.alpha(t), data) * data + expand(path.beta(t), noise) * noise


def conditional_velocity(
    path: GaussianPath | GeneralPath,
    data: Float[Array, "b *event"],
    noise: Float[Array, "b *event"],
    t: Times,
) -> Float[Array, "b *event"]:
    """The velocity of x_t given the data point: the target of flow matching.

    alpha'(t) data + beta'(t) noise on a Gaussian path, dpsi/dt on a general one.

    >>> conditional_velocity(Linear(), jnp.array([[4.0]]), jnp.array([[1.0]]), jnp.array([0.25])).item()
    3.0
    """
    t = per_example.times(t, data)
    if not isinstance(path, GaussianPath):
        _, velocity = jax.jvp(lambda t: interpolate(path, data, noise, t), (t,), (jnp.ones_like(t),))
        return velocity
    c = coefficients(path, t)
    return expand(c.d_alpha, data) * data + expand(c.d_beta, noise) * noise


def conditional_score(
    path: GaussianPath | GeneralPath, noise: Float[Array, "b *event"], t: Times
) -> Float[Array, "b *event"]:
    """The score grad log p_t(x_t | data) = -noise / beta(t), infinite at t = 1.

    Raises:
        TypeError: the path is not Gaussian.

    >>> conditional_score(Linear(), jnp.array([[1.0]]), jnp.array([0.5])).item()
    -2.0
    """
    return -noise / expand(_gaussian(path).beta(per_example.times(t, noise)), noise)


def time_of(path: GaussianPath, alpha: Float[Array, "..."], beta: Float[Array, "..."]) -> Float[Array, "..."]:
    """The time at which the path mixes data and noise as alpha : beta, by bisection to float spacing.

    >>> time_of(Linear(), jnp.array(3.0), jnp.array(1.0)).item()
    0.75
    """

    def halve(_, bracket):
        lower, upper = bracket
        middle = (lower + upper) / 2
        early = path.alpha(middle) * beta < path.beta(middle) * alpha
        return jnp.where(early, middle, lower), jnp.where(early, upper, middle)

    start = jnp.zeros_like(alpha), jnp.ones_like(alpha)
    lower, upper = jax.lax.fori_loop(0, jnp.finfo(alpha.dtype).nmant + 7, halve, start)
    return jnp.where(beta == 0, jnp.ones_like(lower), jnp.where(alpha == 0, jnp.zeros_like(lower), upper))
