r"""Per-example losses, and the conditioning dropout that trains one network for both fields.

Flow matching regresses the field on the velocity of the conditional path at x_t,

    L = E |u(x_t, t | y) - (alpha' data + beta' noise)|^2,   x_t = alpha data + beta noise.

The target does not depend on y; y enters only through the pairs (data, y). With y replaced by
null with probability eta, independently of everything else, L is exactly
(1 - eta) L_guided + eta L_unguided, so that one network learns u(x | y) and u(x).

The losses of the other predictions differ by a weight: at any (x, t, noise)

    |u_th - u|^2 = b^2 |s_th - s|^2 = (b / beta)^2 |noise_th - noise|^2
                 = (b alpha / beta^2)^2 |data_th - data|^2
                 = (b alpha / (beta (alpha^2 + beta^2)))^2 |v_th - v|^2

The squared norm is a sum over the event; the caller averages over examples.

Source: "Building an Image Generator", sections on guided flow matching and classifier-free
guidance. Its Algorithm 5 prints the target with data and noise swapped; its score-matching loss applies
the dropout twice.
"""

from collections.abc import Callable
from typing import Any, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow import per_example, predictions, ranges
from jaxflow.paths import coefficients, conditional_velocity, interpolate
from jaxflow.per_example import expand
from jaxflow.predictions import Prediction
from jaxflow.times import Distribution, precision, uniform_distribution
from jaxflow.typing import Condition, GaussianPath, GeneralPath, GuidedField, Keys, PairedField

Loss = Callable[[Keys, GuidedField, GaussianPath | GeneralPath, Array, Condition], Array]
"""(key, field, path, data, y) -> the loss of each example, (b,)."""

UNIFORM = uniform_distribution()

Weight = Callable[[Array], Array]
"""t (b,) -> loss weights, (b,)."""

Rate = float | int | Float[Array, ""]
"""The probability of dropping the condition, in [0, 1]."""


def drop_condition(key: Keys, y: Condition, null: Condition, rate: Rate) -> Condition:
    """Replace y by null in each example with probability `rate`, independently.

    Args:
        key: one key, or one key per example (b,).
        y: condition, a pytree with a leading axis of b examples.
        null: null condition, in the same structure, for one example or for b.
        rate: probability eta, in [0, 1].

    Raises:
        ValueError: rate is outside [0, 1].

    >>> drop_condition(jax.random.key(0), jnp.array([3, 4]), jnp.array(10), 1.0).tolist()
    [10, 10]
    """
    ranges.fraction(rate=rate)
    b, share = jax.tree.leaves(y)[0].shape[0], jnp.asarray(rate, float)
    dropped = jax.vmap(lambda key: jax.random.bernoulli(key, share))(per_example.keys(key, b))

    def replace(leaf, null_leaf):
        mask = dropped.reshape((b,) + (1,) * (leaf.ndim - 1))
        return jnp.where(mask, null_leaf, leaf)

    return jax.tree.map(replace, y, per_example.null_like(y, null))


def classifier_free(loss: Loss, null: Condition, rate: Rate) -> Loss:
    """The loss with conditioning dropout: L_CFG = (1 - rate) L_guided + rate L_unguided.

    Args:
        loss: `flow_matching`, its options bound by `functools.partial`, or another loss.
        null: null condition, for one example.
        rate: probability eta, in [0, 1].

    Raises:
        ValueError: rate is outside [0, 1].
    """
    ranges.fraction(rate=rate)

    def dropping(
        key: Keys, field: GuidedField, path: GaussianPath | GeneralPath, data: Array, y: Condition
    ) -> Array:
        drop_keys, loss_keys = per_example.split(key, data.shape[0])
        return loss(loss_keys, field, path, data, drop_condition(drop_keys, y, null, rate))

    return dropping


def flow_matching(
    key: Keys,
    field: GuidedField | PairedField,
    path: GaussianPath | GeneralPath,
    data: Float[Array, "b *event"],
    y: Condition,
    *,
    prediction: Prediction = "velocity",
    noise: Float[Array, "b *event"] | None = None,
    weight: Weight | None = None,
    time_distribution: Distribution = UNIFORM,
    auxiliary_weight: Rate | None = None,
    edge_weight: Rate = 0.0,
) -> Float[Array, " b"]:
    """Squared error of the prediction at a random time on each example's path, (b,).

    The error is summed over the event; flow_matching and diffusers average it (`mse_loss`).

        prediction    error                                         default weight
        velocity      u_th - (alpha' data + beta' noise)            1; dpsi/dt on a general path
        noise         noise_th - noise                              1, DDPM's loss
        data          data_th - data                                1
        v             v_th - (alpha noise - beta data)              1
        score         s_th + noise / beta                           beta^2, that is |beta s_th + noise|^2

    The conditional score is infinite at t = 1, and without its weight so would be the mean loss. `weight`
    multiplies the default; `velocity_weight` turns any of these into the loss of the velocity.

    Args:
        key: one key, or one key per example (b,); t and noise are drawn with separate keys.
        field: network (x, t, y) -> prediction, (b, *event), in training mode.
        path: a Gaussian path, or a general one.
        data: (b, *event).
        y: condition of each example; only the field sees it.
        prediction: what the field predicts.
        noise: starting points of the paths, (b, *event); standard normal by default, paired with the data as
            `couplings` does, or a batch of another data set for a bridge.
        weight: function of t (b,) that multiplies the loss; 1 by default.
        time_distribution: of t, from `jaxflow.times`, with its own weights; if stratified, the draw of an
            example depends on its index in the batch.
        auxiliary_weight: of the squared error of a second prediction at the same point, which is added; the
            field then returns (auxiliary, final), as `fields.with_auxiliary` does. None if it
            returns one.
        edge_weight: of the differences of neighbours in the error, see `square_norm`.

    Raises:
        ValueError: prediction is none of these; the shapes of data and noise differ; a weight is negative or
            infinite; or, while tracing, the field's output does not have the shape of x.
        TypeError: prediction is score or v, and the path is not Gaussian.

    >>> from jaxflow import paths
    >>> known = lambda x, t, y: (y - x) / expand(1 - t, x)  # the velocity to one point, y
    >>> point = jnp.array([[3.0]])
    >>> flow_matching(jax.random.key(0), known, paths.Linear(), point, point).round(6).tolist()
    [0.0]
    """
    _check(prediction)
    if auxiliary_weight is not None:
        ranges.not_negative(auxiliary_weight=auxiliary_weight)
    b, *event = data.shape
    time_keys, noise_keys = per_example.split(key, b)
    if noise is None:
        noise = per_example.normal(noise_keys, tuple(event), data.dtype)
    elif noise.shape != data.shape:
        raise ValueError(f"noise of shape {noise.shape} for data of shape {data.shape}: they must be equal")
    t, weights = _times(time_keys, time_distribution, weight, precision(data.dtype))
    x = interpolate(path, data, noise, t)

    def square(value: Array) -> Array:
        error = _error(per_example.check_shape(value, x), path, data, noise, t, prediction)
        return square_norm(error, edge_weight)

    values: Any = field(x, t, y)
    if auxiliary_weight is None:
        total = square(values)
    else:
        auxiliary, final = values
        total = square(final) + jnp.asarray(auxiliary_weight, data.dtype) * square(auxiliary)
    return total * weights.astype(data.dtype)


def square_norm(error: Float[Array, "b *event"], edge_weight: Rate = 0.0) -> Float[Array, " b"]:
    r"""The squared Sobolev norm of errors: sum |e|^2 + edge_weight * sum |difference of neighbours of e|^2.

    Neighbours along all axes of the event but the last, which has the channels. At each spatial frequency k
    the weight is 1 + 4 edge_weight sum_i sin^2(k_i / 2), from 1 for the mean to 1 + 8 edge_weight for a
    checkerboard of pixels: the spectra of images fall about as |k|^-2, so that their coarse errors drown
    their edges without it.

    The conditional mean minimises every positive definite quadratic form of the error: with enough data any
    weight leads to the same field. It decides what a network learns first.

    Raises:
        ValueError: edge_weight is negative or infinite.

    >>> square_norm(jnp.array([[[1.0], [1.0], [3.0]]]), edge_weight=0.5).tolist()  # 11 + 4 / 2
    [13.0]
    """
    ranges.not_negative(edge_weight=edge_weight)
    per_axis = tuple(range(1, error.ndim))
    norm = jnp.sum(error**2, axis=per_axis)
    if isinstance(edge_weight, (int, float)) and edge_weight == 0:
        return norm
    edges = sum(jnp.sum(jnp.diff(error, axis=axis) ** 2, axis=per_axis) for axis in per_axis[:-1])
    return norm + jnp.asarray(edge_weight, error.dtype) * edges


def velocity_weight(
    path: GaussianPath | GeneralPath, prediction: Prediction, *, limit: float | Float[Array, ""] | None = None
) -> Weight:
    """The weight that turns the loss of a prediction into that of the velocity, capped at `limit`.

    It is infinite at t = 0 for the noise and the score and at t = 1 for the data; for v it is finite wherever
    the slopes of the path are. Near that end a few examples would dominate the gradient of their batch: set a
    limit (for the data 10, say, which is reached at t = 0.68 on the straight path), or choose a time
    distribution that avoids the end.

    Raises:
        ValueError: limit is not positive and finite, or prediction is unknown.
        TypeError: the path is not Gaussian.

    Source: Hang et al. 2303.09556, who cap it likewise.

    >>> from jaxflow import paths
    >>> velocity_weight(paths.Linear(), "data", limit=10.0)(jnp.array([0.0, 0.5, 1.0])).tolist()
    [1.0, 4.0, 10.0]
    """
    _check(prediction)
    if limit is not None:
        ranges.positive(limit=limit)
    # The loss of the score already has the factor beta^2, which leaves the weight of the noise.
    source: Prediction = "noise" if prediction == "score" else prediction

    def weight(t: Array) -> Array:
        square = predictions.gain(path, t, source=source, target="velocity") ** 2
        # 0 times inf, if alpha' or beta' vanishes at the end where the weight is infinite.
        square = jnp.where(jnp.isnan(square), jnp.inf, square)
        return square if limit is None else jnp.minimum(square, jnp.asarray(limit, t.dtype))

    return weight


def minimum_snr_weight(
    path: GaussianPath | GeneralPath, prediction: Prediction, gamma: float | int | Float[Array, ""] = 5.0
) -> Weight:
    """The weight that makes the loss of any prediction min(SNR, gamma) |data_th - data|^2.

    With lambda = log SNR = 2 log(alpha / beta), it multiplies the squared error of

        data            min(e^lambda, gamma)
        noise, score    min(1, gamma e^-lambda), of the score beside its default weight beta^2
        v               min(e^lambda, gamma) / (e^lambda + 1) if alpha^2 + beta^2 = 1
        velocity        min(t^2, gamma (1 - t)^2) on the straight path

    that is min(n^2, gamma d^2), with n and d the errors of noise and data caused by one of the prediction.

    Raises:
        ValueError: gamma is not positive and finite, or prediction is unknown.
        TypeError: the path is not Gaussian.

    Source: Hang et al. 2303.09556.

    >>> from jaxflow import paths
    >>> minimum_snr_weight(paths.Linear(), "data")(jnp.array([0.0, 0.5, 1.0])).tolist()
    [0.0, 1.0, 5.0]
    """
    ranges.positive(gamma=gamma)
    squares = _squares(path, prediction)

    def weight(t: Array) -> Array:
        of_noise, of_data = squares(t)
        return jnp.minimum(of_noise, jnp.asarray(gamma, t.dtype) * of_data)

    return weight


def sigmoid_weight(
    path: GaussianPath | GeneralPath, prediction: Prediction, bias: float | int | Float[Array, ""] = 2.0
) -> Weight:
    """The weight that makes the loss of any prediction sigmoid(bias - lambda) |noise_th - noise|^2.

    With lambda = log SNR = 2 log(alpha / beta), it multiplies the squared error of

        noise, score    sigmoid(bias - lambda), of the score beside its default weight beta^2
        data            e^bias sigmoid(lambda - bias)
        v               sigmoid(bias - lambda) sigmoid(lambda) if alpha^2 + beta^2 = 1
        velocity        1 / (t^-2 + e^-bias (1 - t)^-2) on the straight path

    that is 1 / (1 / n^2 + 1 / (e^bias d^2)), with n and d as in `minimum_snr_weight`, which it smooths for
    gamma = e^bias.

    The papers weight an integral over lambda. As one over t it has the further factor dlambda / dt, which is
    infinite at both ends; here the time distribution takes its place.

    Raises:
        ValueError: bias is not finite, or prediction is unknown.
        TypeError: the path is not Gaussian.

    Source: Kingma and Gao 2303.00848, with bias 2; Hoogeboom et al. 2410.19324; as a soft minimum of the SNR
    Crowson et al. 2401.11605.

    >>> from jaxflow import paths
    >>> sigmoid_weight(paths.Linear(), "noise", bias=0.0)(jnp.array([0.0, 0.5, 1.0])).tolist()
    [1.0, 0.5, 0.0]
    """
    ranges.finite(bias=bias)
    squares = _squares(path, prediction)

    def weight(t: Array) -> Array:
        of_noise, of_data = squares(t)
        return 1 / (1 / of_noise + 1 / (jnp.exp(jnp.asarray(bias, t.dtype)) * of_data))

    return weight


def _squares(
    path: GaussianPath | GeneralPath, prediction: Prediction
) -> Callable[[Array], tuple[Array, Array]]:
    """The squared errors of noise and data that a unit error of the loss causes, at times t."""
    _check(prediction)
    source: Prediction = "noise" if prediction == "score" else prediction

    def squares(t: Array) -> tuple[Array, Array]:
        of_noise, of_data = (
            predictions.gain(path, t, source=source, target=target) ** 2 for target in ("noise", "data")
        )
        return of_noise, of_data

    return squares


def _check(prediction: str) -> None:
    if prediction not in get_args(Prediction):
        raise ValueError(f"prediction = {prediction!r}: must be one of {', '.join(get_args(Prediction))}")


def _error(
    value: Array,
    path: GaussianPath | GeneralPath,
    data: Array,
    noise: Array,
    t: Array,
    prediction: Prediction,
) -> Array:
    """The error whose square is the loss; for the score, beta times its error."""
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


def _times(
    keys: Array, time_distribution: Distribution, weight: Weight | None, dtype: jnp.dtype
) -> tuple[Array, Array]:
    """The time and loss weight of each example, (b,) each."""
    t, weights = time_distribution(jax.vmap(lambda key: jax.random.uniform(key, dtype=dtype))(keys))
    return t, weights if weight is None else weights * jnp.broadcast_to(weight(t), t.shape)
