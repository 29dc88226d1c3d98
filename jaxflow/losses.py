r"""Losses of single examples, and the dropping of the condition that makes one network do both.

Flow matching regresses the field on the velocity of the path that led to x_t,

    L = E |u(x_t, t | y) - (alpha' data + beta' noise)|^2,   x_t = alpha data + beta noise.

The target never sees y: only the pairs (data, y) do. With y replaced by null with probability
eta, independently of all else, L is exactly (1 - eta) L_guided + eta L_unguided, so that one
network learns u(x | y) and u(x).

The other predictions have the same losses but for a weight: at one (x, t, noise)

    |u_th - u|^2 = b^2 |s_th - s|^2 = (b / beta)^2 |noise_th - noise|^2
                 = (b alpha / beta^2)^2 |data_th - data|^2
                 = (b alpha / beta (alpha^2 + beta^2))^2 |v_th - v|^2

The squared norm is a sum over the event; the caller averages over examples.

Source: "Building an Image Generator", sections on guided flow matching and classifier-free
guidance. Its Algorithm 5 prints the target with data and noise exchanged; its score-matching loss writes
the drop twice.
"""

from collections.abc import Callable
from typing import get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow import per_example, predictions, ranges
from jaxflow.paths import coefficients, conditional_velocity, interpolate
from jaxflow.per_example import expand
from jaxflow.predictions import Prediction
from jaxflow.times import Law, precision, uniform_law
from jaxflow.typing import Condition, GaussianPath, GeneralPath, GuidedField, Keys

Loss = Callable[[Keys, GuidedField, GaussianPath | GeneralPath, Array, Condition], Array]
"""(key, field, path, data, y) -> the loss of each example, (b,)."""

UNIFORM = uniform_law()

Weight = Callable[[Array], Array]
"""t (b,) -> the weight of each example's loss, (b,)."""

Rate = float | int | Float[Array, ""]
"""The probability of dropping the condition, in [0, 1]."""


def drop_condition(key: Keys, y: Condition, null: Condition, rate: Rate) -> Condition:
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
    ranges.share(rate=rate)
    b, share = jax.tree.leaves(y)[0].shape[0], jnp.asarray(rate, float)
    dropped = jax.vmap(lambda key: jax.random.bernoulli(key, share))(per_example.keys(key, b))

    def replace(leaf, nothing):
        mask = dropped.reshape((b,) + (1,) * (leaf.ndim - 1))
        return jnp.where(mask, nothing, leaf)

    return jax.tree.map(replace, y, per_example.null_like(y, null))


def classifier_free(loss: Loss, null: Condition, rate: Rate) -> Loss:
    """The loss with the condition dropped at random: L_CFG = (1 - rate) L_guided + rate L_unguided.

    Args:
        loss: `flow_matching`, its options filled in by `functools.partial`, or another.
        null: the condition that says nothing, for one example.
        rate: the probability eta, in [0, 1].

    Raises:
        ValueError: rate outside [0, 1].
    """
    ranges.share(rate=rate)

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
    prediction: Prediction = "velocity",
    noise: Float[Array, "b *event"] | None = None,
    weight: Weight | None = None,
    time_law: Law = UNIFORM,
) -> Float[Array, " b"]:
    """Squared error of what the field predicts at a random point of each example's path, (b,).

    A sum over the event, where flow_matching and diffusers take the mean, `mse_loss`.

        prediction    error                                         default weight
        velocity      u_th - (alpha' data + beta' noise)            1; dpsi/dt on a general path
        noise         noise_th - noise                              1, DDPM's loss
        data          data_th - data                                1
        v             v_th - (alpha noise - beta data)              1
        score         s_th + noise / beta                           beta^2, that is |beta s_th + noise|^2

    The score of a point is infinite at t = 1: without its weight the mean would be. `weight` multiplies;
    `velocity_weight` makes any of them the loss of the velocity.

    Args:
        key: one key, or one key per example (b,); t and noise of an example have keys of their own.
        field: network (x, t, y) -> its prediction, (b, *event), in training.
        path: a Gaussian path, or a general one.
        data: (b, *event).
        y: condition of each example; it reaches the field and nothing else.
        prediction: what the field predicts.
        noise: where the paths begin, (b, *event); standard normal if left out, a batch of another data
            set for a bridge.
        weight: function of t (b,) that multiplies the loss; 1 if left out.
        time_law: law of t, of `jaxflow.times`, with its own weights; under a stratified law what an example
            draws depends on its place in the batch.

    Raises:
        ValueError: prediction is none of these; the shapes of data and noise differ; or, while tracing, the
            field's answer has another shape than x.
        TypeError: the score or v is asked for on a path that is not Gaussian.

    >>> from jaxflow import paths
    >>> known = lambda x, t, y: (y - x) / expand(1 - t, x)  # the velocity to one point, y
    >>> point = jnp.array([[3.0]])
    >>> flow_matching(jax.random.key(0), known, paths.Linear(), point, point).round(6).tolist()
    [0.0]
    """
    _check(prediction)
    b, *event = data.shape
    time_keys, noise_keys = _split(key, b)
    if noise is None:
        noise = per_example.normal(noise_keys, tuple(event), data.dtype)
    elif noise.shape != data.shape:
        raise ValueError(f"noise of shape {noise.shape} for data of shape {data.shape}: they must be alike")
    t, weights = _times(time_keys, time_law, weight, precision(data.dtype))
    x = interpolate(path, data, noise, t)
    value = per_example.answer(field(x, t, y), x)
    error = _error(value, path, data, noise, t, prediction)
    return jnp.sum(error**2, axis=tuple(range(1, data.ndim))) * weights.astype(data.dtype)


def velocity_weight(
    path: GaussianPath | GeneralPath, prediction: Prediction, *, limit: float | Float[Array, ""] | None = None
) -> Weight:
    """The weight with which `flow_matching` of a prediction is that of the velocity, at most `limit`.

    Infinite at t = 0 for the noise and the score, at t = 1 for the data; finite for v wherever the slopes of
    the path are. A few examples near that end then make up the gradients of their batches, and what the
    other times teach drowns: give a limit (10 for the data, say, which is reached at t = 0.68 on the
    straight path), or a law of times that keeps away.

    Raises:
        ValueError: limit is not positive and finite, or prediction is none that there is.
        TypeError: the path is not Gaussian.

    Source: Hang et al. 2303.09556, who bound it likewise.

    >>> from jaxflow import paths
    >>> velocity_weight(paths.Linear(), "data", limit=10.0)(jnp.array([0.0, 0.5, 1.0])).tolist()
    [1.0, 4.0, 10.0]
    """
    _check(prediction)
    if limit is not None:
        ranges.positive(limit=limit)
    # Of the score beta^2 is in the loss already: what is left is the weight of the noise.
    source: Prediction = "noise" if prediction == "score" else prediction

    def weight(t: Array) -> Array:
        square = predictions.gain(path, t, source=source, target="velocity") ** 2
        # Where alpha' or beta' vanishes at the end at which the weight is infinite: 0 times inf.
        square = jnp.where(jnp.isnan(square), jnp.inf, square)
        return square if limit is None else jnp.minimum(square, jnp.asarray(limit, t.dtype))

    return weight


def _check(prediction: str) -> None:
    if prediction not in get_args(Prediction):
        raise ValueError(f"prediction = {prediction!r}: allowed are {', '.join(get_args(Prediction))}")


def _error(
    value: Array,
    path: GaussianPath | GeneralPath,
    data: Array,
    noise: Array,
    t: Array,
    prediction: Prediction,
) -> Array:
    """The error whose square is the loss: that of the score times beta."""
    match prediction:
        case "velocity":
            return value - conditional_velocity(path, data, noise, t)
        case "noise":
            return value - noise
        case "data":
            return value - data
    c = coefficients(path, t)
    if prediction == "score":
        return expand(c.beta, data) * value + noise
    return value - (expand(c.alpha, data) * noise - expand(c.beta, data) * data)


def _times(keys: Array, time_law: Law, weight: Weight | None, dtype: jnp.dtype) -> tuple[Array, Array]:
    """A time for each example, and the weight of its loss, (b,)."""
    t, weights = time_law(jax.vmap(lambda key: jax.random.uniform(key, dtype=dtype))(keys))
    return t, weights if weight is None else weights * jnp.broadcast_to(weight(t), t.shape)


def _split(key: Keys, b: int) -> tuple[Array, Array]:
    """Two keys for each example."""
    first, second = jnp.moveaxis(jax.vmap(jax.random.split)(per_example.keys(key, b)), 1, 0)
    return first, second
