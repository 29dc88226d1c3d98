from dataclasses import dataclass
from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, compiling_nothing, normal

from jaxflow import adaptive, guidance, paths, sampling, solvers, sweeps, times

NULL = 3
NOISE, Y, CENTRES = normal(8, 2), jnp.asarray(np.arange(8) % 3, int), normal(4, 2, seed=1)


def sample(w=2.0, sigma=0.0, path=None, shift=1.0, key=None):
    """Guided samples, each drawn to the centre of its class, all from the same noise."""
    path = path or paths.Linear()
    key = jax.random.key(1) if key is None else key
    field = lambda x, t, y: path.alpha(t)[:, None] * CENTRES[y] - x  # noqa: E731
    guided = guidance.classifier_free(field, Y, jnp.array(NULL), w)
    s = times.uniform(10)
    return sampling.sample_sde(key, guided, path, NOISE, s / (s + shift * (1 - s)), sigma=sigma)


@cache
def looped():
    """Sixteen scales, and the samples of each."""
    scales, at = jnp.linspace(0.0, 7.5, 16), jax.jit(sample)
    return scales, np.stack([at(w) for w in scales])


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
    """sigma, the numbers of a path or a grid, seeds, and two of them at once."""
    swept = jax.jit(lambda: sweeps.sweep(sample, axes, chunk=2))()
    lengths = [len(jax.tree.leaves(values)[0]) for values in axes.values()]
    chex.assert_shape(swept, (*lengths, 8, 2))
    last = {name: jax.tree.map(lambda leaf: leaf[-1], values) for name, values in axes.items()}
    assert_close(swept[(-1,) * len(axes)], jax.jit(lambda: sample(**last))(), 1e-5)


def test_chunks_of_one_keep_the_shortcut_of_an_interval():
    """One at a time, `lax.cond` saves a call of the model; vectorised, both branches are computed."""
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


def test_the_chunk_bounds_the_memory():
    """The temporary memory of a compiled sweep grows with the chunk, not with the sweep."""

    def temporary(n, chunk):
        sweep = jax.jit(lambda scales: sweeps.sweep(big, {"w": scales}, chunk=chunk))
        return sweep.lower(jnp.ones(n)).compile().memory_analysis().temp_size_in_bytes

    def big(w):
        field = lambda x, t: w * jnp.tanh(x)  # noqa: E731
        x = sampling.sample_ode(field, jnp.ones((4096, 16)), times.uniform(4), solver=solvers.heun())
        return x.mean()

    assert temporary(64, 4) < 1.5 * temporary(16, 4)
    assert temporary(64, 64) > 8 * temporary(64, 4)


def test_plain_numbers_and_paths_with_fixed_numbers():
    """Lists, NumPy arrays, a scalar next to an array, scalars, which add no axis."""
    path = paths.VariancePreserving(0.1, jnp.array([10.0, 20.0]))
    seen = []

    def at(w, n, path, label, rate):
        seen.append((rate, path.beta_min))
        return w * path.beta_max + n.astype(jnp.float32) + label

    axes = {"w": [0.5, 1], "n": np.arange(3), "path": path, "label": jnp.array(1.0), "rate": 0.1}
    swept = sweeps.sweep(at, axes)
    w, n, rate = np.array([0.5, 1]), np.arange(3), np.array([10.0, 20.0])
    assert_close(swept, w[:, None, None] * rate + n[:, None] + 1, 1e-6)
    assert set(seen) == {(0.1, 0.1)}  # known while tracing
    assert sweeps.sweep(lambda path: path.beta(jnp.zeros(())), {"path": paths.Linear()}).shape == ()


def test_a_loop_runs_over_what_is_no_number():
    """Paths of two classes, solvers, grids of two lengths, combined with numbers, are each traced once."""
    axes = {
        "path": [paths.Linear(), paths.Cosine()],
        "w": jnp.array([0.0, 1.0, 2.0]),
        "solver": (solvers.euler(), solvers.heun()),
        "grid": [times.uniform(2), times.uniform(4)],
    }
    traced = []

    def at(path, w, solver, grid):
        traced.append((path, solver.name))
        field = lambda x, t: path.alpha(t)[:, None] * jnp.sin(x + w)  # noqa: E731
        return sampling.sample_ode(field, NOISE, grid, solver=solver)

    swept = jax.jit(lambda: sweeps.sweep(at, axes))()
    assert len(traced) == 8
    chex.assert_shape(swept, (2, 3, 2, 2, 8, 2))
    for place in ((1, 2, 0, 1), (0, 1, 1, 0)):
        chosen = {name: values[i] for (name, values), i in zip(axes.items(), place, strict=True)}
        assert_close(swept[place], jax.jit(lambda: at(**chosen))(), 1e-5)  # noqa: B023
    with pytest.raises(ValueError, match=r"axes \['n'\]: results of shapes \[\(3,\), \(5,\)\]"):
        sweeps.sweep(lambda n: times.uniform(n()), {"n": [lambda: 2, lambda: 4]})


def still(x, t):
    return jnp.zeros_like(x)


RULES = {
    "shift": ([1.0, 3.0], lambda v: times.shifted(4, v)),
    "sigma_min": ([0.002, 0.01], lambda v: times.karras(4, paths.Linear(), sigma_min=v)),
    "sigma_max": ([10.0, 80.0], lambda v: times.karras(4, paths.Linear(), sigma_max=v)),
    "rho": ([1.0, 7.0], lambda v: times.karras(4, paths.Linear(), rho=v)),
    "scale": ([0.5, 1.29], lambda v: times.mode_distribution(v, unbiased=True)(jnp.array([0.3]))[1]),
    "mean": ([-1.0, 1.0], lambda v: times.logit_normal_distribution(v, 0.5)(jnp.array([0.3]))[0]),
    "deviation": ([0.5, 1.0], lambda v: times.logit_normal_distribution(0.0, v)(jnp.array([0.3]))[0]),
    "eta": ([0.0, 1.0], lambda v: sampling.sample_ddpm(KEY, still, paths.Linear(), NOISE, 3, eta=v)),
    "sigma": ([0.0, 1.0], lambda v: sampling.simulate_sde(KEY, still, NOISE, 3, sigma=v)),
    "sigma_heun": (
        [0.5, 1.0],
        lambda v: sampling.sample_sde(
            KEY, still, paths.Linear(), NOISE, 3, sigma=v, solver=solvers.stochastic_heun
        ),
    ),
    "sigma_of_t": (
        [0.5, 1.0],
        lambda v: sampling.sample_sde(KEY, still, paths.Linear(), NOISE, 3, sigma=lambda t: v * t),
    ),
    "times": ([0.4, 0.6], lambda v: sampling.sample_ode(lambda x, t: -x, NOISE, v * times.uniform(2))),
    "tolerance": ([1e-3, 1e-6], lambda v: adaptive.sample_ode(lambda x, t: -x, NOISE, tolerance=v)),
    "end": ([0.5, 1.0], lambda v: adaptive.sample_ode(lambda x, t: -x, NOISE, end=v)),
    "betas": (
        [0.1, 0.2],
        lambda v: sampling.sample_ddpm(KEY, still, paths.DDPM(jnp.full(8, v)), NOISE, 3),
    ),
}
KEY = jax.random.key(3)


@pytest.mark.requirement("R50")
@pytest.mark.parametrize("name", RULES)
def test_every_number_is_an_axis(name):
    """For grids, time distributions, solvers and samplers the sweep equals the loop."""
    values, at = RULES[name]
    swept = jax.jit(lambda: sweeps.sweep(at, {"v": values}))()
    assert_close(swept, jax.jit(lambda: jnp.stack([at(v) for v in values]))(), 1e-5)


@dataclass(frozen=True)
class Unregistered:
    """A path, say, that JAX does not know as a pytree."""

    k: jax.Array


def test_a_range_is_an_axis():
    assert sweeps.sweep(lambda w: w + 1, {"w": range(3)}).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("axes", "chunk", "says"),
    [
        ({}, None, "axes is empty"),
        ({"w": jnp.zeros(0)}, None, "'w'"),
        ({"w": []}, None, "'w'"),
        ({"w": {"a": jnp.zeros(2), "b": jnp.zeros(3)}}, None, "'w'"),
        ({"w": jnp.zeros(2)}, 0, "chunk = 0"),
        ({"w": (i for i in range(2))}, None, r"axes\['w'\] is a generator: must be a list or an array"),
        ({"w": {1, 2}}, None, r"axes\['w'\] is a set: must be a list or an array"),
        (
            {"w": Unregistered(jnp.zeros(2))},
            None,
            r"not a pytree: register Unregistered with .*register_dataclass",
        ),
    ],
)
def test_impossible_sweeps_are_rejected(axes, chunk, says):
    with pytest.raises(ValueError, match=says):
        sweeps.sweep(lambda **_: jnp.zeros(()), axes, chunk=chunk)
