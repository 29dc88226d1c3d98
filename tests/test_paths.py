import chex
import jax
import jax.numpy as jnp
import pytest
from conftest import PATHS, assert_close

from jaxflow import paths


@pytest.mark.parametrize("name", PATHS)
def test_runs_from_noise_to_data(name, float64):
    path, ends = PATHS[name], jnp.array([0.0, 1.0])
    # The variance-preserving path stops at exp(-(0.1 + 20) / 4) = 0.0066 of the data.
    start = jnp.exp(jnp.array(-20.1 / 4)) if name == "variance_preserving" else jnp.array(0.0)
    assert_close(path.alpha(ends), jnp.array([start, 1.0]), 1e-12)
    assert_close(path.beta(ends), jnp.array([jnp.sqrt(1 - start**2), 0.0]), 1e-12)
    t = jnp.linspace(0.0, 1.0, 101)
    assert jnp.all(jnp.diff(path.alpha(t)) > 0)
    assert jnp.all(jnp.diff(path.beta(t)) < 0)


def slopes(name, t):
    """(alpha', beta') by hand."""
    s, alpha = 1 - t, PATHS[name].alpha(t)
    rate = (s * 19.9 + 0.1) / 2
    return {
        "linear": (jnp.ones_like(t), -jnp.ones_like(t)),
        "cosine": (jnp.pi / 2 * jnp.cos(jnp.pi / 2 * t), -jnp.pi / 2 * jnp.sin(jnp.pi / 2 * t)),
        "square_root": (jnp.ones_like(t), -0.5 / jnp.sqrt(1 - t)),
        "variance_preserving": (alpha * rate, -(alpha**2) * rate / jnp.sqrt(1 - alpha**2)),
    }[name]


@pytest.mark.parametrize("name", PATHS)
def test_derivatives_are_the_closed_forms(name, float64):
    t = jnp.linspace(0.01, 0.99, 99)
    c = paths.coefficients(PATHS[name], t)
    assert_close((c.d_alpha, c.d_beta), slopes(name, t), 1e-11)


@pytest.mark.parametrize("event", [(), (3,), (4, 4, 1), (2, 4, 4, 1)])
def test_any_event_shape(path, event):
    data, noise = jax.random.normal(jax.random.key(0), (2, 5, *event))
    t = jnp.linspace(0.1, 0.9, 5)
    x = paths.interpolate(path, data, noise, t)
    chex.assert_shape(x, (5, *event))
    alone = paths.interpolate(path, data[2:3], noise[2:3], t[2:3])
    assert_close(x[2:3], alone, 0)


def test_velocity_is_the_derivative_of_the_interpolation(path, float64):
    data, noise = jax.random.normal(jax.random.key(0), (2, 5, 3))
    t = jnp.linspace(0.1, 0.9, 5)
    _, derivative = jax.jvp(lambda t: paths.interpolate(path, data, noise, t), (t,), (jnp.ones(5),))
    assert_close(paths.conditional_velocity(path, data, noise, t), derivative, 1e-12)


def test_algorithm_5_prints_data_and_noise_exchanged():
    data, noise, t = jnp.array([[3.0]]), jnp.array([[1.0]]), jnp.array([0.3])
    velocity = paths.conditional_velocity(paths.Linear(), data, noise, t)
    printed = noise - data  # alpha' noise + beta' data
    assert_close(velocity, data - noise, 1e-6)
    assert_close(velocity, -printed, 1e-6)


def test_score_is_the_gradient_of_the_density(path, float64):
    data, noise = jax.random.normal(jax.random.key(0), (2, 5, 3))
    t = jnp.linspace(0.1, 0.9, 5)

    def log_density(x):
        residual = (x - path.alpha(t)[:, None] * data) / path.beta(t)[:, None]
        return jnp.sum(-(residual**2) / 2)

    expected = jax.grad(log_density)(paths.interpolate(path, data, noise, t))
    assert_close(paths.conditional_score(path, noise, t), expected, 1e-11)


def test_numbers_of_a_path_are_swept_by_vmap():
    t = jnp.array([0.5])
    rates = jnp.array([5.0, 20.0])
    swept = jax.vmap(lambda rate: paths.VariancePreserving(0.1, rate).alpha(t))(rates)
    loop = jnp.stack([paths.VariancePreserving(0.1, rate).alpha(t) for rate in rates])
    assert_close(swept, loop, 1e-6)
