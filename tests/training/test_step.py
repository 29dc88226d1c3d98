from functools import partial

import chex
import jax
import jax.numpy as jnp
import optax
import pytest
from conftest import assert_close, compiling_nothing

from jaxflow.devices import mesh, parallel
from jaxflow.training.optimizer import adamw
from jaxflow.training.step import initial_state, train_step

pytestmark = pytest.mark.usefixtures("standard_promotion")

PARAMS = {"w": jnp.ones((4, 2)), "b": jnp.zeros(2)}
BATCH = jax.random.normal(jax.random.key(0), (8, 4))
KEY = jax.random.key(1)


def loss(params, key, batch):
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch.shape[0]))
    noise = jax.vmap(lambda key: jax.random.normal(key, (2,)))(keys)
    return jnp.sum((batch @ params["w"] + params["b"][None] - noise) ** 2, axis=1)


def step(optimizer, loss=loss, ema_decay=0.9):
    return partial(train_step, loss=loss, optimizer=optimizer, ema_decay=ema_decay)


def test_a_step_by_hand():
    optimizer = optax.sgd(0.1)
    state, metrics = step(optimizer)(initial_state(PARAMS, optimizer), KEY, BATCH)
    mean = lambda params: jnp.mean(loss(params, jax.random.fold_in(KEY, 0), BATCH))  # noqa: E731
    gradient = jax.grad(mean)(PARAMS)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, PARAMS, gradient)
    assert_close(state.params, expected, 1e-6)
    assert_close(state.ema, jax.tree.map(lambda a, b: 0.1 * a + 0.9 * b, PARAMS, expected), 1e-6)
    assert_close(metrics["loss"], mean(PARAMS), 1e-6)
    assert int(state.step) == 1


def test_second_step_compiles_nothing():
    optimizer = adamw(1e-3, steps=10, warmup=2, weight_decay=0.01, clip=1.0)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def jitted(state, key, batch):
        return step(optimizer)(state, key, batch)

    state, _ = jitted(initial_state(PARAMS, optimizer), KEY, BATCH)
    with compiling_nothing():
        for _ in range(3):
            state, _ = jitted(state, KEY, BATCH)


def test_each_step_draws_its_own_randomness():
    optimizer = optax.sgd(0.0)
    state = initial_state(PARAMS, optimizer)
    state, first = step(optimizer)(state, KEY, BATCH)
    _, second = step(optimizer)(state, KEY, BATCH)
    assert float(first["loss"]) != float(second["loss"])


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
def test_non_finite_steps_are_skipped(bad):
    optimizer = adamw(1e-3, steps=10, warmup=2, weight_decay=0.01, clip=1.0)
    state = initial_state(PARAMS, optimizer)
    after, metrics = step(optimizer, lambda params, key, batch: loss(params, key, batch) * bad)(
        state, KEY, BATCH
    )
    assert int(metrics["skipped"]) == 1
    assert int(after.step) == 1
    chex.assert_trees_all_equal(
        (after.params, after.ema, after.optimizer), (state.params, state.ema, state.optimizer)
    )


def test_parameter_updates_that_overflow_are_skipped():
    optimizer = optax.sgd(1e39)  # the gradient is finite, the update is not
    state = initial_state(PARAMS, optimizer)
    after, metrics = step(optimizer)(state, KEY, BATCH)
    assert jnp.isfinite(metrics["gradient_norm"])
    assert int(metrics["skipped"]) == 1
    chex.assert_trees_all_equal((after.params, after.ema), (state.params, state.ema))


def test_same_numbers_on_one_device_and_on_four():
    optimizer = adamw(1e-2, steps=10, warmup=2, weight_decay=0.01, clip=1.0)
    jitted = jax.jit(step(optimizer))
    alone = spread = initial_state(PARAMS, optimizer)
    examples = mesh.over_examples()
    assert examples.num_devices == 4
    spread = jax.device_put(spread, mesh.replicated(examples))
    for _ in range(3):
        alone, one = jitted(alone, KEY, BATCH)
        spread, four = jitted(spread, KEY, jax.device_put(BATCH, examples))
    assert_close(jax.device_get(four), jax.device_get(one), 1e-5)
    assert_close(jax.device_get(spread.params), jax.device_get(alone.params), 1e-6)


def test_a_batch_that_does_not_divide_evenly_is_rejected():
    with pytest.raises(
        ValueError, match="batch_size = 6: must be a multiple of 4, for 4 shards of the batch"
    ):
        parallel.check_divides(mesh.over_examples(), 6)
    with pytest.raises(ValueError, match="batch_size = 12: must be a multiple of 8"):
        parallel.check_divides(mesh.over_examples(), 12, 2)
    parallel.check_divides(mesh.over_examples(), 16, 2)


def test_gradient_is_clipped_and_the_rate_ends_at_zero():
    optimizer = optax.chain(adamw(1.0, steps=4, warmup=0, weight_decay=0.0, clip=1.0))
    state = optimizer.init(PARAMS)
    huge = jax.tree.map(lambda p: jnp.full_like(p, 1e6), PARAMS)
    for _ in range(5):
        updates, state = optimizer.update(huge, state, PARAMS)
    assert_close(updates, jax.tree.map(jnp.zeros_like, PARAMS), 1e-6)
