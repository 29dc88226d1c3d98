r"""Losses of single examples, and the dropping of the condition that makes one network do both.

Flow matching regresses the field on the velocity of the path that led to x_t,

    L = E |u(x_t, t | y) - (alpha' data + beta' noise)|^2,   x_t = alpha data + beta noise.

The target never sees y: only the pairs (data, y) do. With y replaced by null with probability
eta, independently of all else, L is exactly (1 - eta) L_guided + eta L_unguided, so that one
network learns u(x | y) and u(x).

The squared norm is a sum over the event; the caller averages over examples.

Source: "Building an Image Generator", sections on guided flow matching and classifier-free
guidance. Its Algorithm 5 prints the target with data and noise exchanged.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow import per_example
from jaxflow.paths import conditional_velocity, interpolate
from jaxflow.times import Quantile, precision, uniform_law
from jaxflow.typing import Condition, GuidedField, Keys, Path


def drop_condition(key: Keys, y: Condition, null: Condition, rate: float | int) -> Condition:
    """Replace y by null in each example with probability `rate`, independently.

    Args:
        key: one key, or one key per example (b,).
        y: condition, a pytree with a leading axis of b examples.
        null: the same structure for one example.
        rate: the probability eta, in [0, 1].

    Raises:
        ValueError: rate outside [0, 1].

    >>> drop_condition(jax.random.key(0), jnp.array([3, 4]), jnp.array(10), 1.0).tolist()
    [10, 10]
    """
    if not isinstance(rate, jax.core.Tracer) and not 0 <= rate <= 1:
        raise ValueError(f"rate = {rate}: the probability of dropping the condition lies in [0, 1]")
    b = jax.tree.leaves(y)[0].shape[0]
    dropped = jax.vmap(lambda key: jax.random.bernoulli(key, rate))(per_example.keys(key, b))

    def replace(leaf, nothing):
        mask = dropped.reshape((b,) + (1,) * (leaf.ndim - 1))
        return jnp.where(mask, jnp.asarray(nothing, leaf.dtype), leaf)

    return jax.tree.map(replace, y, null)


def flow_matching(
    key: Keys,
    field: GuidedField,
    path: Path,
    data: Float[Array, "b *event"],
    y: Condition,
    *,
    time_law: Quantile = uniform_law,
) -> Float[Array, " b"]:
    """Conditional flow matching loss |field(x_t, t, y) - (alpha' data + beta' noise)|^2, (b,).

    Args:
        key: one key, or one key per example (b,); t and noise of an example have keys of their own.
        field: guided field (x, t, y) -> (b, *event), in training.
        path: the Gaussian path.
        data: (b, *event).
        y: condition of each example; it reaches the field and nothing else.
        time_law: quantile function of the law of t.
    """
    b, *event = data.shape
    time_keys, noise_keys = jnp.moveaxis(jax.vmap(jax.random.split)(per_example.keys(key, b)), 1, 0)
    noise = per_example.normal(noise_keys, tuple(event), data.dtype)
    uniform = jax.vmap(lambda key: jax.random.uniform(key, dtype=precision(data.dtype)))
    t = time_law(uniform(time_keys))
    error = field(interpolate(path, data, noise, t), t, y) - conditional_velocity(path, data, noise, t)
    return jnp.sum(error**2, axis=tuple(range(1, error.ndim)))
