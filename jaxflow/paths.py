r"""Gaussian probability paths: x_t = alpha(t) data + beta(t) noise.

Time runs from noise to data: alpha(0) = beta(1) = 0 and alpha(1) = beta(0) = 1. Given one
data point, the velocity that carries x_t along the path and the score of x_t are

    u_t(x | data) = alpha'(t) data + beta'(t) noise,     grad log p_t(x | data) = -noise / beta(t).

A path is a frozen dataclass of numbers with the methods `alpha` and `beta`; a new one takes
two lines. Its numbers are leaves of a pytree, so that a sweep over them is a `jax.vmap`.
Derivatives are taken by forward-mode autodiff and never written by hand.

Source: "Building an Image Generator", section on Gaussian conditional probability paths
(arXiv 2506.02070). Its Algorithm 5 prints alpha' noise + beta' data as the training target;
the two are exchanged there.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow.per_example import expand
from jaxflow.typing import Path


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Linear:
    """alpha = t, beta = 1 - t: straight lines from noise to data (rectified flow, optimal transport).

    Source: Liu et al. 2209.03003, Lipman et al. 2210.02747.
    """

    def alpha(self, t: Array) -> Array:
        """T."""
        return t

    def beta(self, t: Array) -> Array:
        """1 - t."""
        return 1 - t


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Cosine:
    """alpha = sin(pi t / 2), beta = cos(pi t / 2): alpha^2 + beta^2 = 1 at constant angular speed.

    Source: Nichol and Dhariwal 2102.09672, Albergo and Vanden-Eijnden 2209.15571.
    """

    def alpha(self, t: Array) -> Array:
        """sin(pi t / 2)."""
        return jnp.sin(jnp.pi / 2 * t)

    def beta(self, t: Array) -> Array:
        """cos(pi t / 2), written as a sine so that it is exactly 0 at t = 1."""
        return jnp.sin(jnp.pi / 2 * (1 - t))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SquareRoot:
    """alpha = t, beta = sqrt(1 - t).

    The slope of beta is infinite at t = 1: use solvers that stop short of it (Euler, midpoint).
    """

    def alpha(self, t: Array) -> Array:
        """T."""
        return t

    def beta(self, t: Array) -> Array:
        """sqrt(1 - t)."""
        return jnp.sqrt(1 - t)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class VariancePreserving:
    """DDPM's process in continuous time s = 1 - t, with noise rate beta_min + s (beta_max - beta_min).

    alpha(t) = exp(-s^2 (beta_max - beta_min) / 4 - s beta_min / 2) and beta = sqrt(1 - alpha^2).
    It does not quite reach the noise: alpha(0) = exp(-(beta_max + beta_min) / 4), which is 0.0066
    for the usual numbers. The slope of beta is infinite at t = 1, as for `SquareRoot`.

    Source: Song et al. 2011.13456, equation 33.
    """

    beta_min: float | Array = 0.1
    beta_max: float | Array = 20.0

    def _log_alpha(self, t: Array) -> Array:
        s = 1 - t
        return -(s**2) * (self.beta_max - self.beta_min) / 4 - s * self.beta_min / 2

    def alpha(self, t: Array) -> Array:
        """exp(-s^2 (beta_max - beta_min) / 4 - s beta_min / 2), s = 1 - t."""
        return jnp.exp(self._log_alpha(t))

    def beta(self, t: Array) -> Array:
        """sqrt(1 - alpha^2), without cancellation near t = 1."""
        return jnp.sqrt(-jnp.expm1(2 * self._log_alpha(t)))


class Coefficients(NamedTuple):
    """A path and its speed at given times."""

    alpha: Array
    beta: Array
    d_alpha: Array
    d_beta: Array


def coefficients(path: Path, t: Float[Array, "..."]) -> Coefficients:
    """alpha, beta and their derivatives at `t`, each of t's shape.

    >>> c = coefficients(Linear(), jnp.array(0.25))
    >>> [float(value) for value in c]
    [0.25, 0.75, 1.0, -1.0]
    """
    alpha, d_alpha = jax.jvp(path.alpha, (t,), (jnp.ones_like(t),))
    beta, d_beta = jax.jvp(path.beta, (t,), (jnp.ones_like(t),))
    return Coefficients(alpha, beta, d_alpha, d_beta)


def interpolate(
    path: Path, data: Float[Array, "b *event"], noise: Float[Array, "b *event"], t: Float[Array, " b"]
) -> Float[Array, "b *event"]:
    """The point of the path: x_t = alpha(t) data + beta(t) noise.

    >>> interpolate(Linear(), jnp.array([[4.0]]), jnp.array([[0.0]]), jnp.array([0.25])).item()
    1.0
    """
    return expand(path.alpha(t), data) * data + expand(path.beta(t), noise) * noise


def conditional_velocity(
    path: Path, data: Float[Array, "b *event"], noise: Float[Array, "b *event"], t: Float[Array, " b"]
) -> Float[Array, "b *event"]:
    """Speed of x_t given the data point: alpha'(t) data + beta'(t) noise, the target of flow matching.

    >>> conditional_velocity(Linear(), jnp.array([[4.0]]), jnp.array([[1.0]]), jnp.array([0.25])).item()
    3.0
    """
    c = coefficients(path, t)
    return expand(c.d_alpha, data) * data + expand(c.d_beta, noise) * noise


def conditional_score(
    path: Path, noise: Float[Array, "b *event"], t: Float[Array, " b"]
) -> Float[Array, "b *event"]:
    """Grad log p_t(x_t | data) = -noise / beta(t), infinite at t = 1.

    >>> conditional_score(Linear(), jnp.array([[1.0]]), jnp.array([0.5])).item()
    -2.0
    """
    return -noise / expand(path.beta(t), noise)
