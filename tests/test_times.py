import jax
import jax.numpy as jnp
import pytest
from conftest import assert_close

from jaxflow import times


def test_uniform_grid():
    grid = times.uniform(7)
    assert grid.shape == (8,)
    assert grid[0] == 0
    assert grid[-1] == 1
    assert_close(jnp.diff(grid), jnp.full(7, 1 / 7), 1e-6)


@pytest.mark.parametrize("n", [0, -3])
def test_no_steps_is_refused(n):
    with pytest.raises(ValueError, match=f"n = {n}"):
        times.uniform(n)


def test_logit_normal_law_has_its_distribution(float64):
    u = jax.random.uniform(jax.random.key(0), (100_000,))
    t, _ = times.logit_normal_law(mean=0.5, deviation=0.8)(u)
    z = jnp.log(t) - jnp.log1p(-t)
    # Standard errors of mean and deviation: 0.8 / sqrt(n) = 0.0025 and 0.0018; five of each.
    assert_close(z.mean(), jnp.array(0.5), 0.013)
    assert_close(z.std(), jnp.array(0.8), 0.009)
    assert jnp.all(jnp.isfinite(times.logit_normal_law()(jnp.array([0.0]))[0]))
