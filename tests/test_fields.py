from functools import partial
from itertools import permutations
from types import SimpleNamespace

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import PATHS, assert_close, assert_pairs, linspace, normal, three_components

from jaxflow import fields, guidance, mixtures, paths, sampling, solvers, times
from jaxflow.predictions import parts
from jaxflow.typing import StatefulField

PATH = paths.Linear()
X, T, Y = normal(8, 2), linspace(0.1, 0.9, 8), jnp.asarray(np.arange(8) % 3, int)


def exact(path, x, t, y=None):
    return mixtures.velocity(three_components(), path, x, t, y)


def exact_noise(path, x, t, y):
    return -path.beta(t)[:, None] * mixtures.score(three_components(), path, x, t, y)


def exact_v(path, x, t, y):
    data = mixtures.denoise(three_components(), path, x, t, y)
    return path.alpha(t)[:, None] * exact_noise(path, x, t, y) - path.beta(t)[:, None] * data


class Exact(linen.Module):
    """The mixture as a network with a prediction of this kind and dropout in training."""

    kind: str

    @linen.compact
    def __call__(self, x, t, y, *, train):
        scale = self.param("scale", linen.initializers.ones, ())
        value = {
            "velocity": exact,
            "score": lambda path, *inputs: mixtures.score(three_components(), path, *inputs),
            "noise": exact_noise,
            "data": lambda path, *inputs: mixtures.denoise(three_components(), path, *inputs),
            "v": exact_v,
        }[self.kind](PATH, x, t, y)
        return linen.Dropout(0.5, deterministic=not train)(scale * value)


def apply_limits(name, data):
    """By NumPy; the quantile is between the two sizes around it."""
    if name == "clipped":
        return np.clip(data, -0.5, 0.7)
    sizes = np.sort(np.abs(np.asarray(data)), axis=1)
    s = np.clip(0.75 * sizes[:, -1:] + 0.25 * sizes[:, -2:-1], 1, 1.2)
    return np.clip(data, -s, s) / s


LIMITS = {
    "clipped": lambda field, path: fields.clipped(field, path, -0.5, 0.7),
    "thresholded": lambda field, path: fields.dynamically_thresholded(field, path, 0.75, 1.2),
}


@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_changes_the_predicted_data_and_not_the_point(name, float64):
    """alpha D + beta noise is x before and after; a field with memory keeps it."""
    x, t = 1.5 * normal(8, 2), linspace(0.1, 0.9, 8)
    field = lambda x, t: 2 * jnp.sin(3 * x)  # noqa: E731  # any predicts some data
    stateful = StatefulField("", jnp.zeros_like, lambda x, t, memory: (field(x, t), memory + x))
    for path in (paths.Linear(), paths.Cosine(), paths.VariancePreserving()):
        before = parts(path, x, t, field(x, t))
        value = LIMITS[name](field, path)(x, t)
        after = parts(path, x, t, value)
        expected = apply_limits(name, before.data)
        assert np.abs(expected - before.data).max() > 0.1
        assert_close(after.data, jnp.asarray(expected), 1e-10)
        assert_close(path.alpha(t)[:, None] * after.data + path.beta(t)[:, None] * after.noise, x, 1e-10)
        kept = LIMITS[name](stateful, path).call(x, t, jnp.ones_like(x))
        assert_close(kept, (value, 1 + x), 1e-12)


def test_within_its_limits_a_field_is_itself_also_at_the_end():
    calm, t = (lambda x, t: 0.1 * x), jnp.array([0.0, 0.5, 1.0])
    x = 0.5 * jnp.ones((3, 2))
    for limit in (fields.clipped, fields.dynamically_thresholded):
        assert_close(limit(calm, PATH)(x, t), calm(x, t), 0)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: fields.clipped(exact, PATH, 1.0, -1.0), "low = 1.0: must be less than high = -1.0"),
        (lambda: fields.dynamically_thresholded(exact, PATH, 1.5), "ratio = 1.5"),
        (lambda: fields.dynamically_thresholded(exact, PATH, 0.9, 0.5), "most = 0.5: must be at least 1"),
    ],
)
def test_impossible_limits_are_rejected(make, says):
    with pytest.raises(ValueError, match=says):
        make()


PARAMS = {"scale": jnp.ones(())}


@pytest.mark.parametrize("kind", ["velocity", "score", "noise", "data", "v"])
def test_a_network_of_any_prediction_is_the_same_field(kind):
    field = fields.from_network(Exact(kind), PARAMS, PATH, prediction=kind)
    assert_close(field(X, T, Y), exact(PATH, X, T, Y), 1e-4)


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_a_network_from_data_to_noise_as_sd3(scale):
    """sigma = 1 - t, or 1000 times that, and the velocity noise - data."""
    network = lambda params, x, sigma, y: -params * exact(PATH, x, 1 - sigma / scale, y)  # noqa: E731
    field = fields.from_network(network, jnp.ones(()), PATH, time=lambda t: scale * (1 - t), sign=-1)
    assert_close(field(X, T, Y), exact(PATH, X, T, Y), 1e-3)


@pytest.mark.parametrize("kind", ["noise", "v"])
def test_a_network_of_a_ddpm_counts_its_steps(kind, float64):
    """Step k of 1000 has the alpha of the first k + 1 rates: our t = 1 - (k + 1) / 1000."""
    betas = jnp.linspace(1e-4, 0.02, 1000)
    path, of_kind = paths.DDPM(betas), {"noise": exact_noise, "v": exact_v}[kind]
    alphas = jnp.sqrt(jnp.cumprod(1 - betas))

    def network(params, x, k, y):
        alpha = alphas[jnp.round(k).astype(int)]
        at_step = SimpleNamespace(alpha=lambda t: alpha, beta=lambda t: jnp.sqrt(1 - alpha**2))
        return of_kind(at_step, x, k, y)

    t = 1 - (jnp.array([10, 200, 400, 500, 600, 800, 950, 999]) + 1) / 1000
    field = fields.from_network(network, None, path, prediction=kind, time=lambda t: 1000 * (1 - t) - 1)
    x = X.astype(t.dtype)
    assert_close(field(x, t, Y), exact(path, x, t, Y), 1e-6)


def test_a_network_in_training_draws_dropout_from_its_keys():
    """Without conversion the field is the network itself, which the losses compare."""
    rngs = {"dropout": jax.random.key(1)}
    train = fields.from_network(Exact("data"), PARAMS, PATH, train=True, rngs=rngs)
    expected = Exact("data").apply({"params": PARAMS}, X, T, Y, train=True, rngs=rngs)
    assert_close(train(X, T, Y), expected, 0)
    assert 0 < jnp.sum(expected == 0) < expected.size


def test_options_a_network_cannot_take_are_rejected():
    plain = lambda params, x, t, y: x[:, 0]  # noqa: E731
    with pytest.raises(ValueError, match=r"train = True, .*plain function"):
        fields.from_network(plain, None, PATH, train=True)
    with pytest.raises(ValueError, match=r"rngs = \['dropout'\]: .*plain function"):
        fields.from_network(plain, None, PATH, rngs={"dropout": jax.random.key(0)})
    with pytest.raises(ValueError, match="sign = 0"):
        fields.from_network(plain, None, PATH, sign=0)
    with pytest.raises(ValueError, match=r"the field returned shape \(8,\) for x of shape \(8, 2\)"):
        fields.from_network(plain, None, PATH)(X, T, Y)


def test_field_given_its_condition_and_its_score():
    guided = lambda x, t, y: mixtures.velocity(three_components(), PATH, x, t, y)  # noqa: E731
    velocity = fields.bind(guided, Y)
    assert_close(velocity(X, T), guided(X, T, Y), 0)
    score = fields.score(velocity, PATH)
    assert_close(score(X, T), mixtures.score(three_components(), PATH, X, T, Y), 1e-4)
    assert_close(score(X, jnp.zeros(8)), -X, 1e-6)  # finite at t = 0


@pytest.mark.requirement("R36")
def test_change_of_path_is_the_exact_field_of_the_other_path(float64):
    smooth = [name for name in PATHS if name != "ddpm"]
    field = {name: jax.jit(partial(exact, PATHS[name])) for name in smooth}
    pairs, at = {}, (normal(16, 2), linspace(0.1, 0.95, 16))
    for trained, sampled in permutations(smooth, 2):
        changed = fields.change_path(field[trained], PATHS[trained], PATHS[sampled])
        pairs[f"{trained} to {sampled}"] = changed(*at), field[sampled](*at)
    assert_pairs(pairs, 1e-8)


@pytest.mark.requirement("R36")
def test_changed_path_leads_from_the_same_noise_to_the_same_data(float64):
    noise = normal(16, 2)
    guided = lambda x, t, y: mixtures.velocity(three_components(), PATH, x, t, y)  # noqa: E731
    field = guidance.classifier_free(guided, jnp.arange(16) % 3, jnp.array(3), 3.0)
    changed = fields.change_path(field, PATH, paths.Cosine())
    end = partial(sampling.sample_ode, noise=noise, times=times.uniform(400), solver=solvers.rk4())
    assert_close(*jax.jit(lambda: (end(changed), end(field)))(), 1e-8)


def test_score_and_change_of_path_pass_the_memory_on(float64):
    """The field slows down with each call; its memory is the number of calls."""
    x, t = normal(8, 2), jnp.linspace(0.1, 0.9, 8)

    def call(x, t, calls):
        return exact(PATH, x, t) / (1 + calls), calls + 1

    remembering = StatefulField("slowing", lambda x: jnp.zeros(()), call)
    slower = lambda x, t: exact(PATH, x, t) / 3  # noqa: E731
    for change in (
        lambda field: fields.score(field, PATH),
        lambda field: fields.change_path(field, PATH, paths.Cosine()),
    ):
        changed = change(remembering)
        assert (changed.name, changed.start(x)) == ("slowing", 0.0)
        value, calls = changed.call(x, t, jnp.array(2.0))
        assert_close((value, calls), (change(slower)(x, t), jnp.array(3.0)), 1e-12)


def test_a_guided_field_with_memory_is_sampled_on_another_path(float64):
    """DDIM's step depends only on the ratio of data to noise: both paths give the same data."""
    x, y = normal(8, 2), jnp.arange(8) % 3
    rule = guidance.projected(PATH, momentum=-0.5)
    field = rule(lambda x, t, y: exact(PATH, x, t, y), y, jnp.array(3), 3.0)
    other = paths.Cosine()
    grid = times.uniform(6).astype(x.dtype)
    there = other.alpha(grid) / (other.alpha(grid) + other.beta(grid))
    ends = [
        sampling.sample_ode(f, x, g, solver=solvers.dpm_solver_2m(path))
        for f, g, path in ((field, there, PATH), (fields.change_path(field, PATH, other), grid, other))
    ]
    assert_close(ends[1], ends[0], 1e-8)
