from functools import partial

import flax.linen as linen
import jax
import jax.numpy as jnp
import optax
import pytest
from conftest import three_components

from jaxflow import guidance, losses, mixtures, paths, sampling, times
from jaxflow.training.step import initial_state, train_step


@pytest.mark.requirement("R27", "R34", "R47")
def test_a_trained_model_aligns_better_with_guidance(standard_promotion):
    """A small network on the mixture, judged by the exact classifier: w = 3 against w = 1 and 0."""
    mixture, path, null = three_components(), paths.Linear(), 3

    class Network(linen.Module):
        @linen.compact
        def __call__(self, x, t, y):
            h = jnp.concatenate([x, t[:, None], jax.nn.one_hot(y, null + 1)], axis=1)
            for _ in range(3):
                h = linen.silu(linen.Dense(64)(h))
            return linen.Dense(2)(h)

    network = Network()
    loss_of = losses.classifier_free(losses.flow_matching, jnp.array(null), 0.2)

    def loss(params, key, batch):
        draw_key, loss_key = jax.random.split(key)
        data, y = mixtures.sample(draw_key, mixture, 512)
        return loss_of(loss_key, lambda *inputs: network.apply(params, *inputs), path, data, y)

    optimizer = optax.adam(2e-3)
    step = jax.jit(
        partial(train_step, loss=loss, optimizer=optimizer, ema_decay=0.99), static_argnames="batch"
    )
    params = jax.jit(network.init)(
        jax.random.key(0), jnp.zeros((1, 2)), jnp.zeros(1), jnp.zeros(1, jnp.int32)
    )
    state = initial_state(params, optimizer)
    for _ in range(600):
        state, _ = step(state, jax.random.key(1), None)

    y, noise = jnp.arange(3000) % 3, jax.random.normal(jax.random.key(2), (3000, 2))
    field = lambda x, t, y: network.apply(state.ema, x, t, y)  # noqa: E731

    @jax.jit
    def alignment(w):
        guided = guidance.classifier_free(field, y, jnp.array(null), w)
        x = sampling.sample_ode(guided, noise, times.uniform(20))
        table = mixtures.class_log_prob(mixture, path, x, jnp.ones(3000))
        return jnp.mean(jnp.argmax(table, axis=1) == y)

    accuracy = {w: float(alignment(w)) for w in (0.0, 1.0, 3.0)}
    # The standard error of a share of 3,000 is below 0.01.
    assert accuracy[0.0] < 0.5
    assert accuracy[1.0] > 0.8
    assert accuracy[3.0] > accuracy[1.0] + 0.03
