r"""Losses of single examples, and the dropping of the condition that makes one network do both.

Flow matching regresses the field on the velocity of the path that led to x_t,

    L = E |u(x_t, t | y) - (alpha' data + beta' noise)|^2,   x_t = alpha data + beta noise.

The target never sees y: only the pairs (data, y) do. With y replaced by null with probability
eta, independently of all else, L is exactly (1 - eta) L_guided + eta L_unguided, so that one
network learns u(x | y) and u(x).

The other predictions have the same losses but for a weight: at one (x, t, noise)

    |u_th - u|^2 = b^2 |s_th - s|^2 = (b / beta)^2 |noise_th - noise|^2
                 = (b alpha / beta^2)^2 |data_th - data|^2

The squared norm is a sum over the event; the caller averages over examples.

Source: "Building an Image Generator", sections on guided flow matching and classifier-free
guidance. Its Algorithm 5 prints the target with data and noise exchanged; its score-matching loss writes
the drop twice.
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow import per_example
from jaxflow.paths import coefficients, conditional_velocity, interpolate
from jaxflow.per_example import expand
from jaxflow.times import Law, precision, uniform_law
from jaxflow.typing import Condition, GaussianPath, GeneralPath, GuidedField, Keys

Loss = Callable[[Keys, GuidedField, GaussianPath | GeneralPath, Array, Condition], Array]
"""(key, field, path, data, y) -> the loss of each example, (b,)."""

UNIFORM = uniform_law()

Weight = Callable[[Array], Array]
"""t (b,) -> the weight of each example's loss, (b,)."""


def drop_condition(key: Keys, y: Condition, null: Condition, rate: float | int) -> Condition:
    """Replace y by null in each example with probability `rate`, independently.

    Args:
        key: one key, or one key per example (b,).
        y: condition, a pytree with a leading axis of b examples.
        null: the same structure for one example, or for b of them.
        rate: the probability eta, in [0, 1].

    Raises:
        ValueError: rate outside [0, 1].

    >>> drop_condition(jax.random.key(0), jnp.array([3, 4]), jnp.array(10), 1.0).tolist()
    [10, 10]
    """
    _check_rate(rate)
    b = jax.tree.leaves(y)[0].shape[0]
    dropped = jax.vmap(lambda key: jax.random.bernoulli(key, rate))(per_example.keys(key, b))

    def replace(leaf, nothing):
        mask = dropped.reshape((b,) + (1,) * (leaf.ndim - 1))
        return jnp.where(mask, nothing, leaf)

    return jax.tree.map(replace, y, per_example.null_like(y, null))


def classifier_free(loss: Loss, null: Condition, rate: float | int) -> Loss:
    """The loss with the condition dropped at random: L_CFG = (1 - rate) L_guided + rate L_unguided.

    Args:
        loss: `flow_matching` or another of this module, its options filled in by `functools.partial`.
        null: the condition that says nothing, for one example.
        rate: the probability eta, in [0, 1].

    Raises:
        ValueError: rate outside [0, 1].
    """
    _check_rate(rate)

    def dropping(
        key: Keys, field: GuidedField, path: GaussianPath | GeneralPath, data: Array, y: Condition
    ) -> Array:
        drop_keys, loss_keys = _split(key, data.shape[0])
        return loss(loss_keys, field, path, data, drop_condition(drop_keys, y, null, rate))

    return dropping


def flow_matching(
    key: Keys,
    field: GuidedField,
    path: GaussianPath | GeneralPath,
    data: Float[Array, "b *event"],
    y: Condition,
    *,
    noise: Float[Array, "b *event"] | None = None,
    weight: Weight | None = None,
    time_law: Law = UNIFORM,
) -> Float[Array, " b"]:
    """Conditional flow matching loss |field(x_t, t, y) - (alpha' data + beta' noise)|^2, (b,).

    On a general path the target is dpsi/dt.

    Args:
        key: one key, or one key per example (b,); t and noise of an example have keys of their own.
        field: guided field (x, t, y) -> (b, *event), in training.
        path: a Gaussian path, or a general one.
        data: (b, *event).
        y: condition of each example; it reaches the field and nothing else.
        noise: where the paths begin, (b, *event); standard normal if left out, a batch of another data
            set for a bridge.
        weight: function of t (b,) that multiplies the loss; 1 if left out.
        time_law: law of t, of `jaxflow.times`, with its own weights; under a stratified law what an example
            draws depends on its place in the batch.
    """

    def error(x: Array, t: Array, noise: Array) -> Array:
        return field(x, t, y) - conditional_velocity(path, data, noise, t)

    return _regression(key, error, path, data, noise, weight, time_law)


def score_matching(
    key: Keys,
    network: GuidedField,
    path: GaussianPath | GeneralPath,
    data: Float[Array, "b *event"],
    y: Condition,
    *,
    prediction: Literal["score", "noise", "data"] = "score",
    weight: Weight | None = None,
    time_law: Law = UNIFORM,
) -> Float[Array, " b"]:
    """Denoising score matching by a network of the score, the noise or the data, (b,).

    |beta score_th + noise|^2, |noise_th - noise|^2 (DDPM's loss) or |data_th - data|^2. The first is the
    squared error of the score times beta^2, and so the second; without it there is no finite mean, since the
    score of a point is infinite at t = 1. `weight` multiplies: `predictions.gain(path, t, source="noise",
    target="velocity")**2` makes the first two the flow matching loss of the same model.

    Args:
        key: one key, or one key per example (b,).
        network: (x, t, y) -> the prediction, (b, *event), in training.
        path: a Gaussian path.
        data: (b, *event).
        y: condition of each example.
        prediction: what the network predicts.
        weight: function of t (b,) that multiplies the loss; 1 if left out.
        time_law: law of t, of `jaxflow.times`, with its own weights.

    Raises:
        TypeError: the score is asked for on a path that is not Gaussian.
        ValueError: prediction is none of score, noise, data.
    """
    if prediction not in ("score", "noise", "data"):
        raise ValueError(f"prediction = {prediction!r}: allowed are score, noise, data")

    def error(x: Array, t: Array, noise: Array) -> Array:
        value = network(x, t, y)
        if prediction == "score":
            return expand(coefficients(path, t).beta, x) * value + noise
        return value - (noise if prediction == "noise" else data)

    return _regression(key, error, path, data, None, weight, time_law)


def _regression(
    key: Keys,
    error: Callable[[Array, Array, Array], Array],
    path: GaussianPath | GeneralPath,
    data: Array,
    noise: Array | None,
    weight: Weight | None,
    time_law: Law,
) -> Array:
    """Squared error at a random point of each example's path, times the weights."""
    b, *event = data.shape
    time_keys, noise_keys = _split(key, b)
    if noise is None:
        noise = per_example.normal(noise_keys, tuple(event), data.dtype)
    uniform = jax.vmap(lambda key: jax.random.uniform(key, dtype=precision(data.dtype)))
    t, importance = time_law(uniform(time_keys))
    weights = importance if weight is None else importance * weight(t)
    squares = error(interpolate(path, data, noise, t), t, noise) ** 2
    return jnp.sum(squares, axis=tuple(range(1, data.ndim))) * weights.astype(data.dtype)


def _check_rate(rate: float | int) -> None:
    if not isinstance(rate, jax.core.Tracer) and not 0 <= rate <= 1:
        raise ValueError(f"rate = {rate}: a probability of dropping the condition in [0, 1] is needed")


def _split(key: Keys, b: int) -> tuple[Array, Array]:
    """Two keys for each example."""
    first, second = jnp.moveaxis(jax.vmap(jax.random.split)(per_example.keys(key, b)), 1, 0)
    return first, second
