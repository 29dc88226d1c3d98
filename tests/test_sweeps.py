from functools import cache

import chex
import jax
import jax.numpy as jnp
import pytest
from conftest import assert_close, compiling_nothing, three_components

from jaxflow import guidance, mixtures, paths, sampling, solvers, sweeps, times

NULL = 3
NOISE, Y = jax.random.normal(jax.random.key(0), (8, 2)), jnp.arange(8) % 3


def sample(w=2.0, sigma=0.0, path=None, shift=1.0, key=None):
    """Guided samples of the mixture from one common noise."""
    path = path or paths.Linear()
    key = jax.random.key(1) if key is None else key
    field = lambda x, t, y: mixtures.velocity(three_components(), path, x, t, y)  # noqa: E731
    guided = guidance.classifier_free(field, Y, jnp.array(NULL), w)
    s = times.uniform(10)
    return sampling.sample_sde(key, guided, path, NOISE, s / (s + shift * (1 - s)), sigma=sigma)


@cache
def looped():
    """Sixteen scales, and the samples of each by itself."""
    scales = jnp.linspace(0.0, 7.5, 16)
    return scales, jnp.stack([jax.jit(sample)(w) for w in scales])


@pytest.mark.requirement("R50")
@pytest.mark.parametrize("chunk", [None, 1, 4, 7])
def test_sixteen_scales_are_the_loop_and_compile_once(chunk):
    scales, expected = looped()

    @jax.jit
    def sweep(scales):
        return sweeps.sweep(sample, {"w": scales}, chunk=chunk)

    swept, others = sweep(scales), scales + 1
    with compiling_nothing():
        sweep(others)
    assert_close(swept, expected, 1e-5)


@pytest.mark.requirement("R50")
@pytest.mark.parametrize(
    "axes",
    [
        {"sigma": jnp.array([0.0, 0.5, 1.0])},
        {"path": paths.VariancePreserving(jnp.array([0.1, 0.1]), jnp.array([10.0, 20.0]))},
        {"shift": jnp.array([1.0, 3.0])},
        {"key": jax.random.split(jax.random.key(5), 3), "sigma": jnp.array([0.5])},
        {"w": jnp.array([1.0, 3.0]), "sigma": jnp.array([0.0, 0.5, 1.0])},
    ],
    ids=lambda axes: "-".join(axes),
)
def test_any_number_is_swept(axes):
    """Over sigma, the numbers of a path, of the grid, over seeds, and over two at once."""
    swept = jax.jit(lambda: sweeps.sweep(sample, axes, chunk=2))()
    lengths = [len(jax.tree.leaves(values)[0]) for values in axes.values()]
    chex.assert_shape(swept, (*lengths, 8, 2))
    last = {name: jax.tree.map(lambda leaf: leaf[-1], values) for name, values in axes.items()}
    assert_close(swept[(-1,) * len(axes)], sample(**last), 1e-5)


def test_a_loop_in_the_program_keeps_the_shortcut_of_an_interval():
    """By one at a time `lax.cond` saves a call of the model; side by side both branches are computed."""
    called = []

    def at(w):
        def model(x, t, y):
            jax.debug.callback(lambda: called.append(x.shape[0]))
            return x

        scale = guidance.interval(w, 0.5, 1.0)
        guided = guidance.classifier_free(model, Y, jnp.array(NULL), scale)
        return sampling.sample_ode(guided, NOISE, times.uniform(4), solver=solvers.euler())

    jax.jit(lambda: sweeps.sweep(at, {"w": jnp.array([2.0, 3.0])}, chunk=1))()
    jax.effects_barrier()
    assert sorted(called) == [8] * 4 + [16] * 4


def test_memory_is_held_down_by_the_chunk():
    """Temporary memory of the compiled sweep grows with the chunk and not with the sweep."""

    def temporary(n, chunk):
        sweep = jax.jit(lambda scales: sweeps.sweep(big, {"w": scales}, chunk=chunk))
        return sweep.lower(jnp.ones(n)).compile().memory_analysis().temp_size_in_bytes

    def big(w):
        field = lambda x, t: w * jnp.tanh(x)  # noqa: E731
        x = sampling.sample_ode(field, jnp.ones((4096, 16)), times.uniform(4), solver=solvers.heun())
        return x.mean()

    assert temporary(64, 4) < 1.5 * temporary(16, 4)
    assert temporary(64, 64) > 8 * temporary(64, 4)


@pytest.mark.parametrize(
    ("axes", "chunk", "says"),
    [
        ({}, None, "axes is empty"),
        ({"w": jnp.zeros(0)}, None, "'w'"),
        ({"w": (jnp.zeros(2), jnp.zeros(3))}, None, "'w'"),
        ({"w": jnp.zeros(2)}, 0, "chunk = 0"),
    ],
)
def test_impossible_sweeps_are_refused(axes, chunk, says):
    with pytest.raises(ValueError, match=says):
        sweeps.sweep(lambda **_: jnp.zeros(()), axes, chunk=chunk)
