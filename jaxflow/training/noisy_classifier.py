"""A classifier of noisy images, for classifier guidance: cross-entropy at random points of the path.

    minimise E -log p(y | x_t, t),    x_t = alpha(t) data + beta(t) noise, t uniform

whose minimiser is the exact log p_t(y | x).

Source: Dhariwal and Nichol 2105.05233, section 4.
"""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int, PRNGKeyArray, Shaped

from jaxflow import ranges
from jaxflow.guidance import LogProb
from jaxflow.nn.classifier import NoisyClassifier
from jaxflow.paths import interpolate
from jaxflow.typing import GaussianPath


def train_noisy_classifier(
    key: PRNGKeyArray,
    path: GaussianPath,
    data: Shaped[Array, "n h w c"],
    labels: Int[Array, " n"],
    classes: int,
    *,
    encode: Callable[[Array], Array] | None = None,
    steps: int = 1500,
    batch_size: int = 256,
    learning_rate: float = 2e-3,
) -> LogProb:
    """Train it in one compiled scan; returns the `log_prob` of `guidance.classifier`.

    Args:
        key: of initialisation, order, times and noise.
        path: the Gaussian path of the field to guide.
        data: training images, floats in [-1, 1]; or any that `encode` turns into such.
        labels: their classes, 0 to `classes` - 1.
        classes: number of classes.
        encode: applied to each batch, so that images may stay bytes; if None, nothing.
        steps: training steps.
        batch_size: images in a step.
        learning_rate: peak of a one-cycle schedule.

    Raises:
        ValueError: `classes`, `steps` or `batch_size` is below 1, the learning rate is not positive, or a
            label is out of range.
    """
    ranges.at_least(1, classes=classes, steps=steps, batch_size=batch_size)
    ranges.positive(learning_rate=learning_rate)
    ranges.check(lambda y: (y >= 0) & (y < classes), f"must be from 0 to {classes - 1}", labels=labels)
    network, encode = NoisyClassifier(classes), encode or (lambda x: x)

    def log_prob_of(params: Any, x: Array, t: Array, y: Array) -> Array:
        table = cast(Array, network.apply({"params": params}, x, t))
        return jnp.take_along_axis(table, y[:, None], axis=1)[:, 0]

    optimizer = optax.adamw(optax.cosine_onecycle_schedule(steps, learning_rate), weight_decay=0.05)

    def loss(params, key):
        pick_key, time_key, noise_key = jax.random.split(key, 3)
        picked = jax.random.randint(pick_key, (batch_size,), 0, len(data))
        t = jax.random.uniform(time_key, (batch_size,))
        batch = encode(data[picked])
        x = interpolate(path, batch, jax.random.normal(noise_key, batch.shape), t)
        return -jnp.mean(log_prob_of(params, x, t, labels[picked]))

    def step(carry, key):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params, key), state, params)
        return (optax.apply_updates(params, updates), state), None

    @jax.jit
    def train(key):
        init_key, key = jax.random.split(key)
        params = network.init(init_key, encode(data[:1]), jnp.zeros(1))["params"]
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), jax.random.split(key, steps))
        return params

    params = train(key)
    return lambda x, t, y: log_prob_of(params, x, t, y)
