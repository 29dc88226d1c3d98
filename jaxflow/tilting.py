r"""Samples of the tilted law p(x) p(y | x)^w, which guidance is said to sample: by weights, and resampling.

With p~_t = p_t(x)^(1-w) p_t(x | y)^w / Z_t, and guided velocity u~ and score s~ of the same w, particles of

    dX = [u~ + sigma^2 / 2 s~] dt + sigma dW

follow p~_t for every sigma >= 0 if each has the weight W,

    d log W / dt = w (w - 1) (u(x | y) - u(x)) . (s(x | y) - s(x)),

up to a factor that all share. By Feynman and Kac the slope is d/dt log p~ + u~ . s~ + div u~, where the terms
of sigma have cancelled since s~ = grad log p~. With d/dt log p = -div u - u . s for both laws the
divergences cancel too, and u~ . s~ - (1 - w) u(x) . s(x) - w u(x | y) . s(x | y) is left. It needs only the
two velocities that guidance computes anyway: on a Gaussian path each gives its score.

Particles of little weight are replaced by copies of others where the effective number falls below a
threshold.

The weights are exact for exact fields, and a tool for few dimensions: those of independent coordinates
multiply, so that without resampling the effective share of the particles is that of one coordinate to the
power of the dimension. Errors of a learned score enter W too. It is no way to better images.

Source: Skreta et al. 2503.02819 for sigma^2 = 2b, here for every sigma; systematic resampling, Kitagawa 1996.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from jaxflow import per_example, ranges, solvers
from jaxflow.guidance import affine, both
from jaxflow.predictions import check_determined, convert, gain
from jaxflow.solvers import Sigma
from jaxflow.times import Grid, grid, precision
from jaxflow.typing import Condition, GaussianPath, GuidedField


class Particles(NamedTuple):
    """Weighted samples."""

    points: Float[Array, "b *event"]
    log_weights: Float[Array, " b"]
    """Logarithms of the weights, up to a common term."""


def sample(
    key: Key[Array, ""],
    field: GuidedField,
    path: GaussianPath,
    y: Condition,
    null: Condition,
    noise: Float[Array, "b *event"],
    times: Grid,
    *,
    w: float | int | Float[Array, ""],
    sigma: Sigma = 0.0,
    threshold: float | int | Float[Array, ""] = 0.0,
) -> Particles:
    """Weighted samples of p(x) p(y | x)^w for one y, by Euler-Maruyama steps, the last without noise.

    One call of the field with 2b examples per step. `jax.vmap` over keys, y and noise takes several y.

    Args:
        key: of the steps and of resampling.
        field: guided field (x, t, y) -> (b, *event).
        path: the Gaussian path of the field.
        y: condition, for one example.
        null: null condition, for one example.
        noise: starting points of the particles, (b, *event), at times[0].
        times: increasing grid from 0, (n + 1,), or a number of equal steps.
        w: guidance scale.
        sigma: diffusion coefficient, a number >= 0 or a function of the scalar t.
        threshold: effective share of the particles, 0 to 1, below which they are resampled after a step.

    Raises:
        ValueError: w is not finite, threshold outside [0, 1], sigma negative, the times do not increase
            within [0, 1], or the velocity does not determine the score at one; while tracing, the field does
            not return the shape of x.

    >>> from jaxflow import paths
    >>> still = lambda x, t, y: jnp.zeros_like(x)
    >>> key, nothing = jax.random.key(0), jnp.array(0)
    >>> sample(key, still, paths.Linear(), nothing, nothing, jnp.ones((2, 1)), 3, w=2.0).log_weights.tolist()
    [0.0, 0.0]
    """
    ranges.finite(w=w)
    ranges.fraction(threshold=threshold)
    steps = grid(times, increasing=True)
    solvers.check_sigma(sigma, steps)
    check_determined(path, steps, "noise")
    b, dtype = noise.shape[0], noise.dtype
    velocities = both(
        field, jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (b, *jnp.shape(leaf))), y), null
    )
    walk, picks = jax.random.split(key)
    keys = per_example.keys(walk, b)

    def step(particles: Particles, interval: tuple[Array, Array, Array]) -> tuple[Particles, None]:
        n, t, t_next = interval
        x, here = particles.points, per_example.times(t, particles.points)
        unguided, conditional = (u.astype(x.dtype) for u in velocities(x.astype(dtype), here))
        guided = affine(unguided, conditional, w, here)
        noisy = jnp.where(t_next == 1, 0, solvers.at(sigma, t, x))
        drift = guided + noisy**2 / 2 * convert(path, x, here, guided, source="velocity", target="score")
        drawn = per_example.normal(per_example.fold_in(keys, n), x.shape[1:], x.dtype)
        moved = x + (t_next - t) * drift + jnp.sqrt(t_next - t) * noisy * drawn
        square = jnp.sum((conditional - unguided) ** 2, axis=tuple(range(1, x.ndim)))
        rate = w * (w - 1) * gain(path, here, source="velocity", target="score") * square
        log_weights = particles.log_weights + (t_next - t) * rate
        return _resampled(jax.random.fold_in(picks, n), Particles(moved, log_weights), threshold), None

    start = noise.astype(precision(dtype))
    intervals = jnp.arange(steps.shape[0] - 1), steps[:-1], steps[1:]
    end, _ = jax.lax.scan(step, Particles(start, jnp.zeros(b, start.dtype)), intervals)
    return end._replace(points=end.points.astype(dtype))


def effective_size(log_weights: Float[Array, " b"]) -> Float[Array, ""]:
    """(sum W)^2 / sum W^2: of how many equally weighted particles the mean of a function is as precise.

    >>> round(float(effective_size(jnp.log(jnp.array([1.0, 1.0, 0.0])))), 4)
    2.0
    """
    total = jax.scipy.special.logsumexp(log_weights)
    return jnp.exp(2 * total - jax.scipy.special.logsumexp(2 * log_weights))


def resample(key: Key[Array, ""], log_weights: Float[Array, " b"]) -> Int[Array, " b"]:
    """Systematic resampling: numbers of particles, each b W / sum W times, rounded up or down at random.

    >>> resample(jax.random.key(0), jnp.log(jnp.array([0.5, 0.0, 0.25, 0.25]))).tolist()
    [0, 0, 2, 3]
    """
    b = log_weights.shape[0]
    start = jax.random.uniform(key, dtype=log_weights.dtype)
    places = (jnp.arange(b, dtype=log_weights.dtype) + start) / b
    up_to = jnp.cumsum(jax.nn.softmax(log_weights))
    return jnp.minimum(jnp.searchsorted(up_to, places, side="right"), b - 1)


def _resampled(key: Key[Array, ""], particles: Particles, threshold: float | int | Array) -> Particles:
    """Equally weighted particles if the effective share is below the threshold."""
    weights = particles.log_weights
    few = effective_size(weights) < threshold * weights.shape[0]

    def resampled(particles: Particles) -> Particles:
        chosen = resample(key, weights)
        return Particles(particles.points[chosen], jnp.zeros_like(weights))

    return jax.lax.cond(few, resampled, lambda same: same, particles)
