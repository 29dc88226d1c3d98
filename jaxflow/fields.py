"""Fields: a network and its parameters as a plain function, and fields made from other fields.

Published networks have their own conventions of time and sign. Their sigma is 1 - t on the straight path, and
step k of a DDPM with n steps is at our t = 1 - (k + 1) / n:

    network              prediction    path            time                      sign
    SD3, Flux            velocity      Linear          1 - t (or 1000 times it)  -1: data to noise
    DDPM of n = 1000     noise         DDPM(betas)     1000 (1 - t) - 1           1
    v-prediction         v             DDPM(betas)     the same                   1
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import flax.linen as linen
import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from jaxflow import ranges
from jaxflow.nn.changes import Change, changed
from jaxflow.paths import time_of
from jaxflow.per_example import check_shape, expand
from jaxflow.predictions import Prediction, convert, gain, parts, velocity
from jaxflow.times import Number
from jaxflow.typing import Condition, GaussianPath, GuidedField, PairedField, StatefulField, VectorField

Apply = Callable[[Any, Array, Array, Condition], Array]
"""(params, x, t, y) -> the prediction, (b, *event)."""

AnyField = TypeVar("AnyField", VectorField, StatefulField)


def from_network(
    network: linen.Module | Apply,
    params: Any,
    path: GaussianPath,
    *,
    prediction: Prediction = "velocity",
    time: Callable[[Array], Array] | None = None,
    sign: int = 1,
    train: bool = False,
    rngs: dict[str, Key[Array, ""]] | None = None,
    change: Change | None = None,
) -> GuidedField:
    """The velocity field (x, t, y) -> (b, *event) of a network and its parameters.

    Any other prediction is converted to the velocity, which a network predicting the noise or the score does
    not determine at t = 0, nor one predicting the data at t = 1. Training needs no conversion: without
    `prediction` the field returns the network's output as is, which `losses.flow_matching` compares with its
    target.

    Args:
        network: a Flax module (x, t, y, *, train), or any function (params, x, t, y).
        params: its parameters.
        path: the Gaussian path on which it was trained.
        prediction: what it predicts.
        time: maps our t (b,) to the network's time; the identity by default.
        sign: sign of its output, 1 or -1.
        train: whether a Flax module runs in training mode, with dropout.
        rngs: random keys of a Flax module in training mode, by name.
        change: of its attention or depth, for a worse field to guide away from (`guidance.autoguidance`).

    Raises:
        ValueError: sign is neither 1 nor -1; train or rngs is given for a plain function; or, while tracing,
            the network's output does not have the shape of x, or it has no such block to change.

    >>> from jaxflow import paths
    >>> network = lambda params, x, sigma, y: params * expand(sigma, x)
    >>> field = from_network(network, jnp.array(3.0), paths.Linear(), time=lambda t: 1 - t, sign=-1)
    >>> field(jnp.ones((1, 1)), jnp.array([0.75]), None).item()
    -0.75
    """
    if sign not in (1, -1):
        raise ValueError(f"sign = {sign}: must be 1 or -1")
    apply = _apply(network, train=train, rngs=rngs)
    if change is not None:
        apply = changed(apply, change)

    def field(x: Array, t: Array, y: Condition) -> Array:
        value = check_shape(apply(params, x, t if time is None else time(t), y), x)
        return convert(path, x, t, sign * value, source=prediction, target="velocity")

    return field


def with_auxiliary(
    network: linen.Module,
    params: Any,
    path: GaussianPath,
    *,
    prediction: Prediction = "velocity",
    train: bool = False,
    rngs: dict[str, Key[Array, ""]] | None = None,
) -> PairedField:
    """The velocities (x, t, y) -> (auxiliary, final) of a network with an auxiliary head, by one call.

    The final one is that of `from_network`, whose arguments these are. In training, without `prediction`,
    both are the network's outputs as they are, which `losses.flow_matching` takes with an `auxiliary_weight`.

    Raises:
        ValueError: the network has no auxiliary head; or, while tracing, an output does not have the shape
            of x.
    """
    if not has_auxiliary(network):
        raise ValueError(
            f"network: {type(network).__name__} has no auxiliary head, as nn.DiT(auxiliary=2) has"
        )

    def both(x: Array, t: Array, y: Condition) -> tuple[Array, Array]:
        variables = {"params": params}
        final, sown = network.apply(variables, x, t, y, train=train, rngs=rngs, mutable=["intermediates"])
        (auxiliary,) = sown["intermediates"]["auxiliary_output"]
        first, last = (
            convert(path, x, t, check_shape(value, x), source=prediction, target="velocity")
            for value in (auxiliary, cast(Array, final))
        )
        return first, last

    return both


def has_auxiliary(network: Any) -> bool:
    """Whether a network has an auxiliary head.

    >>> from jaxflow import nn
    >>> has_auxiliary(nn.DiT(encode=None)), has_auxiliary(nn.DiT(encode=None, auxiliary=2))
    (False, True)
    """
    return isinstance(network, linen.Module) and getattr(network, "auxiliary", 0) > 0


def _apply(network: linen.Module | Apply, *, train: bool, rngs: dict[str, Array] | None) -> Apply:
    if isinstance(network, linen.Module):
        module = network
        return lambda params, *inputs: cast(
            Array, module.apply({"params": params}, *inputs, train=train, rngs=rngs)
        )
    if train or rngs:
        raise ValueError(
            f"train = {train}, rngs = {list(rngs or ())}: a plain function (params, x, t, y) takes neither; "
            "bind them in the function"
        )
    return network


def bind(field: GuidedField, y: Condition) -> VectorField:
    """The guided field with its condition bound: the field at w = 1.

    >>> toward = lambda x, t, y: expand(y, x) - x
    >>> bind(toward, jnp.array([2.0]))(jnp.zeros((1, 1)), jnp.zeros(1)).item()
    2.0
    """
    return lambda x, t: field(x, t, y)


def score(field: AnyField, path: GaussianPath) -> AnyField:
    """The score grad log p_t(x) of a velocity field on a Gaussian path; undefined at t = 1.

    The score of a stateful field is stateful.

    >>> from jaxflow import paths
    >>> falling = lambda x, t: -x / expand(1 - t, x)  # all data are 0: p_t = N(0, (1 - t)^2)
    >>> score(falling, paths.Linear())(jnp.ones((1, 1)), jnp.array([0.5])).item()
    -4.0
    """

    def to_score(evaluate: _Evaluate, x: Array, t: Array) -> tuple[Array, Any]:
        value, memory = evaluate(x, t)
        return convert(path, x, t, value, source="velocity", target="score"), memory

    return _transformed(to_score, field)


def change_path(field: AnyField, trained: GaussianPath, sampled: GaussianPath) -> AnyField:
    """The field on the path `sampled`, from a field trained on the path `trained`; the data stay the same.

    Where the two paths mix data and noise in the same ratio, their points are equal up to scale and the
    predicted data and noise are equal. It commutes with guidance: apply it to the guided field, stateful or
    not. Points noisier than `trained` ever is are evaluated at t = 0; flow_matching extrapolates to t < 0.

    Source: Karras et al. 2206.00364, section 4; Pokle et al. 2310.04432, lemma 2.

    >>> from jaxflow import paths
    >>> falling = lambda x, t: -x / jnp.maximum(1 - t, 0.1)[:, None]  # all data are 0
    >>> changed = change_path(falling, paths.Linear(), paths.Cosine())
    >>> round(changed(jnp.ones((1, 1)), jnp.array([0.5])).item(), 4)  # beta' / beta on the cosine path
    -1.5708
    """

    def on_other_path(evaluate: _Evaluate, x: Array, t: Array) -> tuple[Array, Any]:
        alpha, beta = sampled.alpha(t), sampled.beta(t)
        s = time_of(trained, alpha, beta)
        scale = jnp.sqrt((trained.alpha(s) ** 2 + trained.beta(s) ** 2) / (alpha**2 + beta**2))
        scaled = expand(scale, x) * x
        value, memory = evaluate(scaled, s)
        return velocity(sampled, parts(trained, scaled, s, value), t).astype(x.dtype), memory

    return _transformed(on_other_path, field)


def clipped(field: AnyField, path: GaussianPath, low: Number = -1.0, high: Number = 1.0) -> AnyField:
    """The field whose predicted data are clipped to [low, high], the range of the pixels.

    The noise is what is left of x, (x - alpha data) / beta, so that x itself is unchanged. There is no such
    field at t = 1, where the data are x, if they leave the range, nor where the path's velocity does not
    determine the data. Apply it to the guided field, stateful or not.

    `clip_sample` of diffusers' DDPM. Its DDIM keeps the noise as predicted by default.

    Raises:
        ValueError: low is not less than high.

    >>> from jaxflow import paths
    >>> to_three = lambda x, t: (3 - x) / expand(1 - t, x)
    >>> clipped(to_three, paths.Linear())(jnp.zeros((1, 1)), jnp.array([0.5])).item()
    2.0
    """
    if not isinstance(high, jax.core.Tracer):
        ranges.check(lambda v: v < high, f"must be less than high = {high}", low=low)

    def limit(data: Array) -> Array:
        return jnp.clip(data, jnp.asarray(low, data.dtype), jnp.asarray(high, data.dtype))

    return _with_data(field, path, limit)


def dynamically_thresholded(
    field: AnyField, path: GaussianPath, ratio: Number = 0.995, most: Number = float("inf")
) -> AnyField:
    """The field whose predicted data are clipped at a quantile of their sizes, and scaled back to [-1, 1].

    data -> clip(data, -s, s) / s, with s the quantile at `ratio` of the |data| of the example, at least 1 and
    at most `most`. With most = 1 it is `clipped`, and what is said there holds.

    `thresholding` of diffusers, whose `sample_max_value` is 1 by default.

    Raises:
        ValueError: ratio is outside [0, 1], or most is less than 1.

    Source: Saharia et al. 2205.11487, section 2.3.

    >>> from jaxflow import paths
    >>> there = lambda x, t: (jnp.array([[4.0, -2.0, 1.0]]) - x) / expand(1 - t, x)
    >>> thresholded = dynamically_thresholded(there, paths.Linear(), ratio=0.5)
    >>> thresholded(jnp.zeros((1, 3)), jnp.zeros(1)).tolist()
    [[1.0, -1.0, 0.5]]
    """
    ranges.fraction(ratio=ratio)
    ranges.check(lambda v: v >= 1, "must be at least 1", most=most)

    def limit(data: Array) -> Array:
        sizes = jnp.abs(data).reshape(len(data), -1)
        quantile = jnp.quantile(sizes, jnp.asarray(ratio, data.dtype), axis=1)
        s = expand(jnp.clip(quantile, 1, jnp.asarray(most, data.dtype)), data)
        return jnp.clip(data, -s, s) / s

    return _with_data(field, path, limit)


def _with_data(field: AnyField, path: GaussianPath, limit: Callable[[Array], Array]) -> AnyField:
    def limited(evaluate: _Evaluate, x: Array, t: Array) -> tuple[Array, Any]:
        value, memory = evaluate(x, t)
        data = parts(path, x, t, value).data
        target, factor = limit(data), expand(gain(path, t, source="data", target="velocity"), data)
        # The factor is infinite at t = 1.
        change = jnp.where(target == data, 0, factor * (target - data))
        return value + change.astype(value.dtype), memory

    return _transformed(limited, field)


def observe(field: AnyField, seen: Callable[[Any], None]) -> AnyField:
    """The same field; each evaluation calls `seen` on the host with the time of the first example.

    >>> times = []
    >>> observed = observe(lambda x, t: -x, lambda t: times.append(float(t)))
    >>> _ = observed(jnp.ones((1, 1)), jnp.array([0.5]))
    >>> jax.effects_barrier()
    >>> times
    [0.5]
    """

    def watched(evaluate: _Evaluate, x: Array, t: Array) -> tuple[Array, Any]:
        jax.debug.callback(seen, t[0])
        return evaluate(x, t)

    return _transformed(watched, field)


_Evaluate = Callable[[Array, Array], tuple[Array, Any]]
"""(x, t) -> (velocity, memory)."""


_Transform = Callable[[_Evaluate, Array, Array], tuple[Array, Any]]
"""(evaluate, x, t) -> (value, memory)."""


def _transformed(transform: _Transform, field: AnyField) -> AnyField:
    """The field (x, t) -> transform(evaluate, x, t), where `evaluate` calls `field`; stateful if that is."""
    if isinstance(field, StatefulField):
        inner = field
        return StatefulField(
            inner.name,
            inner.start,
            lambda x, t, memory: transform(lambda x, t: inner.call(x, t, memory), x, t),
        )
    return lambda x, t: transform(lambda x, t: (field(x, t), ()), x, t)[0]
