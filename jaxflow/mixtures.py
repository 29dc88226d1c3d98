r"""Labelled Gaussian mixtures, for which every quantity of the chapter has a closed form.

p(data | y = k) = N(m_k, C_k) with weights pi_k. On a Gaussian path, with S_k = alpha^2 C_k +
beta^2 I and r_k = x - alpha m_k,

    log p_t(x | k) = log N(x; alpha m_k, S_k)     E[data | x, k]  = m_k + alpha C_k S_k^-1 r_k
    score_k = -S_k^-1 r_k                         E[noise | x, k] = beta S_k^-1 r_k

and the velocity is alpha' E[data] + beta' E[noise]. Without a label each quantity is averaged
over the posterior of k, which is the exact classifier softmax_k(log pi_k + log p_t(x | k)).

A label y is an integer per example. The number of components (one past the last label) is the null
label, which gives the unconditional quantity, as does any other number that is not a label.
`t` is one time per example, or one for all.

S_k is inverted in the eigenbasis of C_k, so that each point costs matrix products only.
"""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxflow.paths import coefficients
from jaxflow.per_example import Times, expand, times
from jaxflow.typing import GaussianPath

Points = Float[Array, "b d"]
Labels = Int[Array, " b"] | None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Mixture:
    """Weights (k,) that add up to one, means (k, d), covariances (k, d, d); component k has label k."""

    weights: Float[Array, " k"]
    means: Float[Array, "k d"]
    covariances: Float[Array, "k d d"]


class _Posterior(NamedTuple):
    log_prob: Array  # (b, k)   log p_t(x | k)
    data: Array  # (b, k, d)    E[data | x, k]
    solved: Array  # (b, k, d)  S_k^-1 r_k


def _posterior(mixture: Mixture, path: GaussianPath, x: Points, t: Times) -> _Posterior:
    t = times(t, x)
    alpha, beta = path.alpha(t)[:, None, None], path.beta(t)[:, None, None]
    eigenvalues, vectors = jnp.linalg.eigh(mixture.covariances)
    residual = x[:, None, :] - alpha * mixture.means[None]
    variances = alpha**2 * eigenvalues[None] + beta**2
    rotated = jnp.einsum("kde,bkd->bke", vectors, residual, precision="highest")
    log_prob = -0.5 * jnp.sum(rotated**2 / variances + jnp.log(2 * jnp.pi * variances), axis=-1)

    def rotate_back(value):
        return jnp.einsum("kde,bke->bkd", vectors, value, precision="highest")

    data = mixture.means[None] + alpha * rotate_back(eigenvalues[None] * rotated / variances)
    return _Posterior(log_prob, data, rotate_back(rotated / variances))


def _responsibilities(mixture: Mixture, log_prob: Float[Array, "b k"], y: Labels) -> Float[Array, "b k"]:
    posterior = jax.nn.softmax(jnp.log(mixture.weights)[None] + log_prob)
    if y is None:
        return posterior
    k = mixture.weights.shape[0]
    return jnp.where(((y >= 0) & (y < k))[:, None], jax.nn.one_hot(y, k, dtype=posterior.dtype), posterior)


def _average(weights: Float[Array, "b k"], values: Float[Array, "b k d"]) -> Points:
    return jnp.einsum("bk,bkd->bd", weights, values, precision="highest")


def velocity(mixture: Mixture, path: GaussianPath, x: Points, t: Times, y: Labels = None) -> Points:
    """The marginal velocity u_t(x), or the guided velocity u_t(x | y), (b, d).

    >>> from jaxflow import paths
    >>> normal = Mixture(jnp.ones(1), jnp.zeros((1, 2)), jnp.eye(2)[None])
    >>> velocity(normal, paths.Linear(), jnp.ones((1, 2)), jnp.array([0.0])).tolist()
    [[-1.0, -1.0]]
    """
    posterior = _posterior(mixture, path, x, t)
    weights = _responsibilities(mixture, posterior.log_prob, y)
    c = coefficients(path, times(t, x))
    noise = expand(c.beta, x) * _average(weights, posterior.solved)
    return expand(c.d_alpha, x) * _average(weights, posterior.data) + expand(c.d_beta, x) * noise


def score(mixture: Mixture, path: GaussianPath, x: Points, t: Times, y: Labels = None) -> Points:
    """grad_x log p_t(x), or grad_x log p_t(x | y), (b, d)."""
    posterior = _posterior(mixture, path, x, t)
    return -_average(_responsibilities(mixture, posterior.log_prob, y), posterior.solved)


def denoise(mixture: Mixture, path: GaussianPath, x: Points, t: Times, y: Labels = None) -> Points:
    """E[data | x_t = x], or E[data | x_t = x, y], (b, d)."""
    posterior = _posterior(mixture, path, x, t)
    return _average(_responsibilities(mixture, posterior.log_prob, y), posterior.data)


def log_prob(
    mixture: Mixture, path: GaussianPath, x: Points, t: Times, y: Labels = None
) -> Float[Array, " b"]:
    """The log-density log p_t(x), or log p_t(x | y), in nats, (b,)."""
    components = _posterior(mixture, path, x, t).log_prob
    marginal = jax.nn.logsumexp(jnp.log(mixture.weights)[None] + components, axis=-1)
    if y is None:
        return marginal
    k = mixture.weights.shape[0]
    chosen = jnp.take_along_axis(components, jnp.clip(y, 0, k - 1)[:, None], axis=-1)[:, 0]
    return jnp.where((y >= 0) & (y < k), chosen, marginal)


def class_log_prob(mixture: Mixture, path: GaussianPath, x: Points, t: Times) -> Float[Array, "b k"]:
    """The exact classifier log p_t(y = k | x) of noisy points, (b, k)."""
    return jax.nn.log_softmax(jnp.log(mixture.weights)[None] + _posterior(mixture, path, x, t).log_prob)


def bridge_velocity(source: Mixture, target: Mixture, x: Points, t: Times) -> Points:
    """The marginal velocity of straight lines from one mixture at t = 0 to another at t = 1, (b, d).

    The points are paired independently. For components i and j, with S = (1 - t)^2 C_i + t^2 C_j and
    r = x - (1 - t) m_i - t m_j, it is m_j - m_i + (t C_j - (1 - t) C_i) S^-1 r, averaged over the posterior
    of (i, j). The source covariances must be positive definite; so must those of the target at t = 1.

    >>> left, right = (Mixture(jnp.ones(1), jnp.full((1, 1), m), jnp.ones((1, 1, 1))) for m in (-1.0, 1.0))
    >>> bridge_velocity(left, right, jnp.array([[0.0]]), jnp.array([0.5])).tolist()
    [[2.0]]
    """
    # With C_i = L L^T and L^-1 C_j L^-T = Q diag(e) Q^T, S = L Q ((1 - t)^2 + t^2 e) Q^T L^T for all t.
    lower = jnp.linalg.cholesky(source.covariances)[:, None]
    inverse = jnp.linalg.inv(lower)
    whitened = inverse @ target.covariances[None] @ jnp.swapaxes(inverse, -1, -2)
    ratios, vectors = jnp.linalg.eigh(whitened)
    mixing, unmixing = lower @ vectors, jnp.swapaxes(vectors, -1, -2) @ inverse

    time = times(t, x)[:, None, None, None]
    means = (1 - time) * source.means[None, :, None] + time * target.means[None, None]
    rotated = jnp.einsum("ijde,bije->bijd", unmixing, x[:, None, None] - means, precision="highest")
    variances = (1 - time) ** 2 + time**2 * ratios[None]
    log_scale = jnp.sum(jnp.log(jnp.diagonal(lower, axis1=-2, axis2=-1)), axis=-1)
    log_prob = -0.5 * jnp.sum(rotated**2 / variances + jnp.log(variances), axis=-1) - log_scale[None]
    log_weights = jnp.log(source.weights)[:, None] + jnp.log(target.weights)[None]
    joint = (log_weights[None] + log_prob).reshape(x.shape[0], -1)
    posterior = jax.nn.softmax(joint).reshape(log_prob.shape)

    moved = (time * ratios[None] - (1 - time)) / variances * rotated
    slopes = jnp.einsum("ijde,bije->bijd", mixing, moved, precision="highest")
    velocities = (target.means[None] - source.means[:, None])[None] + slopes
    return jnp.einsum("bij,bijd->bd", posterior, velocities, precision="highest")


def sample(key: PRNGKeyArray, mixture: Mixture, n: int) -> tuple[Float[Array, "n d"], Int[Array, " n"]]:
    """Sample points of the mixture, (n, d), and their labels, (n,)."""
    label_key, point_key = jax.random.split(key)
    labels = jax.random.categorical(label_key, jnp.log(mixture.weights), shape=(n,))
    eigenvalues, vectors = jnp.linalg.eigh(mixture.covariances)
    factors = vectors * jnp.sqrt(jnp.maximum(eigenvalues, 0))[:, None, :]  # no Cholesky for point masses
    normal = jax.random.normal(point_key, (n, mixture.means.shape[1]), mixture.means.dtype)
    offsets = jnp.einsum("nde,ne->nd", factors[labels], normal, precision="highest")
    return mixture.means[labels] + offsets, labels
