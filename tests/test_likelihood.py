import inspect
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, assert_expected, linspace, normal, three_components

from jaxflow import adaptive, guidance, likelihood, mixtures, paths, per_example, solvers, times
from jaxflow.typing import StatefulField

PATH = paths.Linear()


def data(n=32):
    return normal(n, 2), jnp.asarray(np.arange(n) % 3)


def field(y=None):
    return lambda x, t: mixtures.velocity(three_components(), PATH, x, t, y)


def coupled(x, t):
    """A field whose Jacobian is not diagonal, so that an estimate of its trace varies."""
    return jnp.sin(x + 2 * x[:, ::-1])


@pytest.mark.parametrize("conditional", [False, True])
def test_exact_likelihood_is_the_density_of_the_mixture(conditional, float64):
    """Within 1e-3 bits per dimension, with and without the label."""
    x, y = data()
    given = y if conditional else None

    @jax.jit
    def both():
        exact = mixtures.log_prob(three_components(), PATH, x, jnp.ones(32), given)
        found = likelihood.log_prob(field(given), x, times.uniform(200))
        return [likelihood.bits_per_dimension(value, 2) for value in (found, exact)]

    assert_close(*both(), 1e-3)


def test_estimate_is_unbiased(float64):
    """Hutchinson's estimate over 4,000 keys, for each of eight points."""
    x, _ = data(8)
    log_prob = partial(likelihood.log_prob, coupled, x, times.uniform(5))

    @jax.jit
    def both():
        keys = jax.random.split(jax.random.key(1), 4_000)
        return log_prob(), jax.vmap(lambda key: log_prob(key=key))(keys)

    exact, estimates = map(np.asarray, both())
    assert_expected(estimates, exact, 6)
    assert np.all(estimates.std(axis=0) > 1e-3)


def test_more_probes_reduce_the_variance(float64):
    x, _ = data(8)

    def spread(probes):
        keys = jax.random.split(jax.random.key(1), 400)
        one = lambda key: likelihood.log_prob(coupled, x, times.uniform(3), key=key, probes=probes)  # noqa: E731
        return jnp.var(jax.jit(jax.vmap(one))(keys), axis=0).mean()

    ratio = spread(1) / spread(8)
    assert 6 < ratio < 10.5  # 8, whose standard error over 400 keys and 8 points is about 0.5


def test_divergence_is_the_trace_of_the_jacobian(float64):
    x, t = normal(4, 2, 3), linspace(0.1, 0.9, 4)
    twist = lambda x, t: jnp.sin(x[:, ::-1]) * x.sum(axis=(1, 2), keepdims=True) + t[:, None, None] * x**2  # noqa: E731
    signs = jnp.asarray(np.sign(normal(3, 4, 2, 3)), float)

    @jax.jit
    def values():
        jacobian = jax.vmap(jax.jacobian(lambda x, t: twist(x[None], t[None])[0]))(x, t)
        divergences = likelihood.divergence(twist, x, t), likelihood.estimated_divergence(twist, x, t, signs)
        return jacobian.reshape(4, 6, 6), *divergences

    jacobian, exact, estimated = map(np.asarray, values())
    assert_close(exact, np.trace(jacobian, axis1=1, axis2=2), 1e-12)
    flat = np.asarray(signs).reshape(3, 4, 6)
    assert_close(estimated, np.einsum("pbi,bij,pbj->b", flat, jacobian, flat) / 3, 1e-12)


def test_an_estimate_does_not_depend_on_the_batch():
    x, _ = data(8)
    keys = per_example.keys(jax.random.key(1), 8)
    log_prob = partial(likelihood.log_prob, coupled, times=times.uniform(5))
    both = jax.jit(lambda: (log_prob(x[3:4], key=keys[3:4]), log_prob(x, key=jax.random.key(1))[3:4]))
    assert_close(*both(), 1e-5)


def test_bits_of_uniform_images_are_eight():
    """For the uniform density on [-1, 1]^d and images in 256 levels."""
    log_density = jnp.full(3, -16 * 16 * math.log(2.0))
    assert_close(likelihood.bits_per_dimension(log_density, 256, levels=256), jnp.full(3, 8.0), 1e-6)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"probes": 0}, "probes = 0"),
        ({"times": jnp.linspace(0.0, 0.9, 5)}, "must run from 0 to 1"),
        (
            {"solver": solvers.dpm_solver_2m(PATH)},
            "solver = dpm_solver_2m: must integrate from data to noise",
        ),
        (
            {"solver": solvers.euler_maruyama(1.0)},
            "solver = euler_maruyama: must integrate from data to noise",
        ),
    ],
)
def test_options_without_a_likelihood_are_rejected(options, says):
    times_ = options.pop("times", times.uniform(4))
    with pytest.raises(ValueError, match=says):
        likelihood.log_prob(field(), data(2)[0], times_, **options)


@pytest.mark.parametrize("other", [-1.0, -2.0])
def test_the_divergence_of_projected_guidance_is_finite(other):
    """In one dimension the whole difference is along the data, and the conditional field remains."""
    fields = lambda x, t, y: jnp.where(y == 1, -1.0, other)[:, None] * x  # noqa: E731
    guided = guidance.projected(PATH)(fields, jnp.ones(3, int), jnp.array(0), 3.0)
    x, t = jnp.array([[0.5], [1.0], [-2.0]]), jnp.array([0.5, 1.0, 0.25])
    assert_close(likelihood.divergence(guided, x, t), jnp.full(3, -1.0), 1e-6)
    assert jnp.isfinite(likelihood.divergence(guided, jnp.zeros_like(x), t)).all()  # no direction there


def test_a_number_of_steps_is_the_uniform_grid():
    x, _ = data(2)
    log_prob = partial(likelihood.log_prob, coupled, x)
    assert_close(*jax.jit(lambda: (log_prob(5), log_prob(times.uniform(5))))(), 0)


def test_a_name_is_no_solver():
    with pytest.raises(TypeError, match=r"solver = 'rk4': expected a Solver, solvers\.rk4\(\)"):
        inspect.unwrap(likelihood.log_prob)(field(), data(2)[0], 5, solver="rk4")


@pytest.mark.parametrize(
    "call",
    [
        lambda field, x, t: inspect.unwrap(likelihood.log_prob)(field, x, 5),
        lambda field, x, t: inspect.unwrap(likelihood.divergence)(field, x, t),
        lambda field, x, t: inspect.unwrap(likelihood.estimated_divergence)(field, x, t, x[None]),
        lambda field, x, t: inspect.unwrap(adaptive.sample_ode)(field, x),
        lambda field, x, t: inspect.unwrap(adaptive.solution)(field, x),
    ],
)
def test_stateful_fields_and_other_shapes_are_rejected(call):
    x, t = jnp.ones((3, 1)), jnp.zeros(3)
    memory = StatefulField("projected guidance", jnp.zeros_like, lambda x, t, memory: (x, memory))
    with pytest.raises(ValueError, match="field = projected guidance: must not carry memory"):
        call(memory, x, t)
    with pytest.raises(ValueError, match=r"\(3,\) for x of shape \(3, 1\)"):
        call(lambda x, t: x[:, 0], x, t)
