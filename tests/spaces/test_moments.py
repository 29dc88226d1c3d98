import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, assert_expected

from jaxflow.spaces import moments

MEAN = np.array([[0.3, -1.2], [0.0, 2.0]], np.float32)
LOG_VARIANCE = np.array([[-1.0, 0.4], [0.0, -3.0]], np.float32)
MOMENTS = jnp.asarray(np.concatenate([MEAN, LOG_VARIANCE], axis=-1))


@pytest.mark.requirement("R57")
def test_the_divergence_is_that_of_the_formula_and_of_samples():
    closed = 0.5 * np.sum(MEAN**2 + np.exp(LOG_VARIANCE) - LOG_VARIANCE - 1, axis=1)
    assert_close(moments.divergence(MOMENTS), closed, 1e-6)
    many = jnp.repeat(MOMENTS, 20_000, axis=0)
    z = np.asarray(moments.sample(jax.random.key(0), many)).reshape(2, 20_000, 2)
    mean, log_variance = MEAN[:, None], LOG_VARIANCE[:, None]
    log_q = -0.5 * np.sum((z - mean) ** 2 / np.exp(log_variance) + log_variance, axis=-1)
    log_p = -0.5 * np.sum(z**2, axis=-1)
    for ratios, expected in zip(log_q - log_p, closed, strict=True):
        assert_expected(ratios, expected, 5)


def test_an_example_draws_its_own_latents():
    key = jax.random.key(0)
    both = moments.sample(key, MOMENTS)
    assert_close(moments.sample(key, MOMENTS[:1]), both[:1], 0)
    assert not np.allclose(both, moments.sample(jax.random.key(1), MOMENTS))


def test_a_log_variance_beyond_the_range_of_exp_is_clipped():
    wild = jnp.array([[1.0, 1e4]])
    assert np.isfinite(moments.sample(jax.random.key(0), wild)).all()
    assert np.isfinite(moments.divergence(wild)).all()
