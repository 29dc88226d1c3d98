"""The losses of flow maps: zero at the exact map, and descending to it from a wrong one."""

import inspect
import math
from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import optax
import pytest
from conftest import assert_below, assert_close, assert_expected, linspace, normal

from jaxflow import paths, times
from jaxflow.map_losses import flow_map
from jaxflow.per_example import expand

PATH = paths.Linear()
IDENTITIES = ("eulerian", "lagrangian", "semigroup")
MEAN, VARIANCE = 0.5, 0.3


def velocity(x, t, mean=MEAN, variance=VARIANCE):
    """To Gaussian data of one dimension, on the straight path."""
    t = expand(t, x)
    return mean + (t * variance - (1 - t)) / (t**2 * variance + (1 - t) ** 2) * (x - t * mean)


def average(theta, x, t, s, y):
    """The exact average velocity to a Gaussian: that of the data if `theta` is."""
    variance = jnp.exp(theta["log_variance"])
    first, last = (jnp.sqrt(expand(r, x) ** 2 * variance + (1 - expand(r, x)) ** 2) for r in (t, s))
    residual = x - expand(t, x) * theta["mean"]
    # ((S(s) / S(t))^(1/2) - 1) / (s - t), without dividing by s - t.
    sums = expand(t + s, x)
    slope = (variance * sums + sums - 2) / (first * (first + last))
    return theta["mean"] + slope * residual


def draw(key, n):
    return MEAN + VARIANCE**0.5 * jax.random.normal(key, (n, 1))


def mean_loss(theta, key, n, **options):
    data_key, loss_key = jax.random.split(key)
    return jnp.mean(flow_map(loss_key, partial(average, theta), PATH, draw(data_key, n), None, **options))


TRUE = {"mean": MEAN, "log_variance": math.log(VARIANCE)}
OPTIONS = {"eulerian": ("own", "conditional"), "lagrangian": ("own",), "semigroup": ("own",)}
CASES = [(identity, tangent) for identity in IDENTITIES for tangent in OPTIONS[identity]]


@pytest.mark.requirement("R69")
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("identity", "ends"), [*product(IDENTITIES, (times.intervals(), times.to_data()))])
def test_of_a_known_field_each_loss_is_zero_at_the_exact_map(identity, ends):
    true = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), TRUE)
    loss = flow_map(
        jax.random.key(0), partial(average, true), PATH, normal(64, 1), None,
        identity=identity, velocity=lambda x, t, y: velocity(x, t), ends=ends,
    )  # fmt: skip
    assert_close(loss, jnp.zeros(64), 1e-10)


@pytest.mark.requirement("R69", "R70")
@pytest.mark.optimized
@pytest.mark.parametrize(("identity", "tangent"), CASES)
def test_of_data_the_gradient_at_the_exact_map_is_zero_on_average(identity, tangent):
    true = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), TRUE)

    def gradient(key):
        slopes = jax.grad(mean_loss)(true, key, 50, identity=identity, tangent=tangent)
        return jnp.stack([slopes["mean"], slopes["log_variance"]])

    gradients = jax.jit(lambda key: jax.lax.map(gradient, jax.random.split(key, 400)))(jax.random.key(1))
    assert_expected(gradients, jnp.zeros(2), 4.5)


@pytest.mark.requirement("R69", "R70")
@pytest.mark.optimized
@pytest.mark.parametrize(("identity", "tangent"), CASES)
def test_each_loss_descends_from_a_wrong_map_to_the_exact_one(identity, tangent):
    start = {"mean": jnp.array(-0.5), "log_variance": jnp.array(0.0)}
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, 400))

    def step(carry, key):
        theta, state = carry
        slopes = jax.grad(mean_loss)(theta, key, 256, identity=identity, tangent=tangent)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(slopes, state)
        return (optax.apply_updates(theta, updates), state), None

    run = jax.jit(lambda keys: jax.lax.scan(step, (start, optimizer.init(start)), keys)[0][0])
    theta = run(jax.random.split(jax.random.key(2), 400))
    assert_below(jnp.abs(theta["mean"] - MEAN), 0.05)
    assert_below(jnp.abs(jnp.exp(theta["log_variance"]) / VARIANCE - 1), 0.1)


@pytest.mark.requirement("R71")
@pytest.mark.usefixtures("float64")
def test_guidance_inside_has_the_guided_field_as_its_target():
    """At s = t, the gradient towards u_0 + w (u_y - u_0), from conditional velocities only."""
    w = 3.0
    narrow = partial(velocity, variance=0.1)
    guided = lambda x, t: velocity(x, t) + w * (narrow(x, t) - velocity(x, t))  # noqa: E731

    def guide(average, x, t, y, u):
        return u + (w - 1) * (narrow(x, t) - velocity(x, t))

    data = 0.5 + 0.1**0.5 * normal(4, 1)
    noise = normal(4, 1, seed=1)
    t = linspace(0.1, 0.9, 4)
    average, ends = (lambda x, t, s, y: guided(x, t)), (lambda u: (t, t))
    loss = flow_map(jax.random.key(0), average, PATH, data, None, guide=guide, noise=noise, ends=ends)
    # What remains is the spread of the conditional velocity.
    residual = narrow(expand(t, data) * data + expand(1 - t, data) * noise, t) - (data - noise)
    assert_close(loss, residual[:, 0] ** 2, 1e-12)


def test_weights():
    data = normal(8, 3).astype(jnp.float32)
    zero = lambda x, t, s, y: jnp.zeros_like(x)  # noqa: E731
    plain = flow_map(jax.random.key(0), zero, PATH, data, None)
    adaptive = flow_map(jax.random.key(0), zero, PATH, data, None, adaptive=1.0)
    assert_close(adaptive, plain / (plain / 3 + 1e-3), 1e-6)
    twice = flow_map(jax.random.key(0), zero, PATH, data, None, weight=lambda t: 2 * jnp.ones_like(t))
    assert_close(twice, 2 * plain, 1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"identity": "mean_flow"}, "identity = 'mean_flow': must be one of eulerian, lagrangian, semigroup"),
        ({"tangent": "other"}, "tangent = 'other': must be one of own, conditional"),
        ({"adaptive": -1.0}, "adaptive = -1.0"),
    ],
)
def test_bad_options_are_named(options, message):
    """Also without checked annotations, as for users."""
    with pytest.raises(ValueError, match=message):
        inspect.unwrap(flow_map)(
            jax.random.key(0), lambda x, t, s, y: x, PATH, jnp.zeros((2, 1)), None, **options
        )


def test_intervals():
    u = jax.random.uniform(jax.random.key(0), (1000, 3))
    t, s = times.intervals(instants=0.25)(u)
    assert bool(jnp.all(t <= s))
    assert_below(abs(float(jnp.mean(t == s)) - 0.25), 0.05)
    assert_close(times.to_data()(u)[1], jnp.ones(1000), 0.0)
    assert expand(t, u).shape == (1000, 1)
