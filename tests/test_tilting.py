"""Weights of particles against the tilted density of a Gaussian pair in two dimensions."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_below, assert_close, assert_expected, normal

from jaxflow import mixtures, paths, tilting

PATH = paths.Linear()
MEAN, VARIANCE, UNGUIDED = np.array([1.0, -0.5]), 1.0, 2.0


def field(x, t, y):
    """Data N(0, 2), and N(m, 1) given y = 0."""

    def velocity(mean, variance):
        one = mixtures.Mixture(
            jnp.ones(1, x.dtype), jnp.asarray(mean, x.dtype)[None], variance * jnp.eye(2, dtype=x.dtype)[None]
        )
        return mixtures.velocity(one, PATH, x, t)

    return jnp.where((y == 0)[:, None], velocity(MEAN, VARIANCE), velocity(0 * MEAN, UNGUIDED))


def tilted(w):
    """Mean and variance of the density in proportion to p(x)^(1 - w) p(x | y)^w."""
    variance = 1 / ((1 - w) / UNGUIDED + w / VARIANCE)
    return variance * w / VARIANCE * MEAN, variance


@partial(jax.jit, static_argnums=1)
def particles(noise, steps, w, sigma=0.0, threshold=0.0):
    options = {"w": w, "sigma": sigma, "threshold": threshold}
    given, null = jnp.array(0), jnp.array(1)
    return tilting.sample(jax.random.key(1), field, PATH, given, null, noise, steps, **options)


@pytest.mark.requirement("R73")
@pytest.mark.parametrize("w", [-0.5, 0.5, 3.0])
def test_a_weight_is_the_density_over_that_of_the_ode(w, float64):
    """The ODE is affine, so that its density is that of the noise times a constant. The error is Euler's."""
    noise, (mean, variance) = normal(6, 2), tilted(w)
    square = lambda x: np.sum(np.asarray(x) ** 2, axis=1) / 2  # noqa: E731
    spread = []
    for steps in (100, 200):
        end = particles(noise, steps, w)
        expected = square(noise) - square(np.asarray(end.points) - mean) / variance
        spread.append(np.ptp(np.asarray(end.log_weights) - expected))
    assert_below(spread[1], 0.05)
    assert_close(np.array(spread[1] / spread[0]), np.array(0.5), 0.05)


@pytest.mark.optimized
@pytest.mark.requirement("R73")
@pytest.mark.parametrize("threshold", [0.0, 0.7])
def test_weighted_particles_have_the_moments_of_the_tilted_density(threshold):
    """By the SDE, within six standard errors of a weighted mean; resampling keeps the share up."""
    n, w = 4000, 3.0
    end = particles(normal(n, 2), 100, w, 1.0, threshold)
    mean, variance = tilted(w)
    x, weights = np.asarray(end.points, float), np.exp(np.asarray(end.log_weights, float))
    weights /= weights.sum()
    assert np.max(np.abs(x.mean(axis=0) - mean)) > 0.1 or threshold  # without weights it is another law
    for values, expected in ((x, mean), ((x - mean) ** 2, variance)):
        error = weights @ (values - expected)
        standard = np.sqrt(weights**2 @ (values - expected) ** 2)
        assert_below(np.max(np.abs(error) / standard), 6)
    share = float(tilting.effective_size(end.log_weights)) / n
    assert_close(np.array(share), np.array(1 / n / np.sum(weights**2)), 1e-4)
    assert (share < 0.7) == (threshold == 0)


def test_resampling_is_unbiased_and_systematic():
    """Each particle b W times, rounded up or down; on average over keys exactly."""
    weights = np.array([0.05, 0.35, 0.0, 0.31, 0.29])
    keys = jax.random.split(jax.random.key(0), 400)
    chosen = jax.vmap(lambda key: tilting.resample(key, jnp.log(jnp.asarray(weights, jnp.float32))))(keys)
    counts = (np.asarray(chosen)[:, :, None] == np.arange(5)).sum(axis=1)
    assert np.all((counts >= np.floor(5 * weights)) & (counts <= np.ceil(5 * weights)))
    assert_expected(counts[:, weights > 0], 5 * weights[weights > 0], 6)


@pytest.mark.parametrize(
    ("options", "says"), [({"w": jnp.inf}, "w = inf"), ({"w": 2.0, "threshold": 1.5}, "threshold = 1.5")]
)
def test_options_are_checked(options, says):
    nothing = jnp.array(0)
    with pytest.raises(ValueError, match=says):
        tilting.sample(jax.random.key(1), field, PATH, nothing, nothing, jnp.zeros((1, 2)), 3, **options)
