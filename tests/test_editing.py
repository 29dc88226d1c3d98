import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_below, assert_close

from jaxflow import editing, mixtures, paths, sampling, solvers

PATH = paths.Linear()
COVARIANCE = np.array([[1.0, 0.8], [0.8, 1.0]], np.float32)
GAUSSIAN = mixtures.Mixture(jnp.ones(1), jnp.zeros((1, 2)), jnp.asarray(COVARIANCE)[None])
DATA = jnp.asarray(np.random.default_rng(0).standard_normal((5, 2)), jnp.float32)
KEY = jax.random.key(0)


def field(x, t):
    return mixtures.velocity(GAUSSIAN, PATH, x, t)


@pytest.mark.requirement("R64")
def test_at_strength_0_the_data_come_back_and_at_1_a_sample():
    assert_close(editing.image_to_image(KEY, field, PATH, DATA, 10, strength=0.0), DATA, 0)
    noise = jax.vmap(lambda i: jax.random.normal(jax.random.fold_in(KEY, i), (2,)))(jnp.arange(5))
    sample = sampling.sample_ode(field, noise, 10)
    assert_close(editing.image_to_image(KEY, field, PATH, DATA, 10, strength=1.0), sample, 1e-6)


def test_the_less_strength_the_closer_to_the_data():
    apart = [
        float(jnp.mean(jnp.abs(editing.image_to_image(KEY, field, PATH, DATA, 20, strength=s) - DATA)))
        for s in (0.05, 0.3, 0.7, 1.0)
    ]
    assert apart == sorted(apart)
    assert apart[0] < 0.1


@pytest.mark.requirement("R64")
def test_what_is_known_comes_back_and_what_is_not_has_no_influence():
    inpaint = jax.jit(lambda data, known: editing.inpaint(KEY, field, PATH, data, known, 8, repeats=2))
    assert_close(inpaint(DATA, jnp.ones((1, 2), bool)), DATA, 0)
    left = jnp.array([[True, False]])
    out = inpaint(DATA, left)
    assert_close(out[:, 0], DATA[:, 0], 0)
    assert_close(inpaint(DATA.at[:, 1].set(7.0), left), out, 0)


@pytest.mark.optimized
def test_repeated_steps_draw_from_the_conditional_distribution():
    """Of the second coordinate given the first: mean 0.8 x, variance 0.36; errors fall as 1 / repeats."""
    data, left = jnp.full((5000, 2), 1.5), jnp.array([[True, False]])

    def second(repeats):
        options = {"repeats": repeats, "solver": solvers.heun()}
        inpaint = lambda: editing.inpaint(KEY, field, PATH, data, left, 20, **options)  # noqa: E731
        return np.asarray(jax.jit(inpaint)()[:, 1], np.float64)

    once, often = second(1), second(32)
    assert abs(once.mean() - 1.2) > 0.5
    assert_below(abs(often.mean() - 1.2), 0.08)
    assert_below(abs(often.var() - 0.36), 0.04)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: editing.image_to_image(KEY, field, PATH, DATA, 4, strength=1.5), "strength = 1.5"),
        (
            lambda: editing.inpaint(KEY, field, PATH, DATA, jnp.ones((1, 2), bool), 4, repeats=0),
            "repeats = 0: must be at least 1",
        ),
    ],
)
def test_numbers_out_of_range_are_rejected(call, says):
    with pytest.raises(ValueError, match=says):
        call()
