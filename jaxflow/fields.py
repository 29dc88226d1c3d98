"""Fields: a network with its parameters as a plain function, and a field seen as another one.

Published networks count time and sign in their own ways. With their sigma = 1 - t on the straight path, and
DDPM's step k, of n, at our t = 1 - (k + 1) / n:

    network              prediction    path            time                      sign
    SD3, Flux            velocity      Linear          1 - t (or 1000 times it)  -1: data to noise
    DDPM of n = 1000     noise         DDPM(betas)     1000 (1 - t) - 1           1
    v-prediction         v             DDPM(betas)     the same                   1
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import flax.linen as linen
import jax.numpy as jnp
from jaxtyping import Array, Key

from jaxflow.paths import time_of
from jaxflow.per_example import answer, expand
from jaxflow.predictions import Prediction, convert, parts, velocity
from jaxflow.typing import Condition, GaussianPath, GuidedField, StatefulField, VectorField

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
) -> GuidedField:
    """The velocity (x, t, y) -> (b, *event) of a network with its parameters.

    Where the network predicts something else than the velocity, its answer is converted: a network of the
    noise or the score has no velocity at t = 0, one of the data none at t = 1. A network in training needs no
    conversion: with `prediction` left out the field is what the network says, which is what
    `losses.flow_matching` compares.

    Args:
        network: a Flax module (x, t, y, *, train), or any function (params, x, t, y).
        params: its parameters.
        path: the Gaussian path that it was trained on.
        prediction: what it predicts.
        time: from our t (b,) to the network's time; t itself if left out.
        sign: of what it predicts, 1 or -1.
        train: whether a Flax module is in training, with dropout.
        rngs: the keys of a Flax module in training, by name.

    Raises:
        ValueError: sign is neither 1 nor -1; train or rngs for a plain function; or, while tracing, the
            network's answer has another shape than x.

    >>> from jaxflow import paths
    >>> network = lambda params, x, sigma, y: params * expand(sigma, x)
    >>> field = from_network(network, jnp.array(3.0), paths.Linear(), time=lambda t: 1 - t, sign=-1)
    >>> field(jnp.ones((1, 1)), jnp.array([0.75]), None).item()
    -0.75
    """
    if sign not in (1, -1):
        raise ValueError(f"sign = {sign}: 1 or -1 is needed")
    apply = _apply(network, train=train, rngs=rngs)

    def field(x: Array, t: Array, y: Condition) -> Array:
        value = answer(apply(params, x, t if time is None else time(t), y), x)
        return convert(path, x, t, sign * value, source=prediction, target="velocity")

    return field


def _apply(network: linen.Module | Apply, *, train: bool, rngs: dict[str, Array] | None) -> Apply:
    if isinstance(network, linen.Module):
        module = network
        return lambda params, *inputs: cast(
            Array, module.apply({"params": params}, *inputs, train=train, rngs=rngs)
        )
    if train or rngs:
        raise ValueError(
            f"train = {train}, rngs of {list(rngs or ())}: network is a plain function (params, x, t, y), "
            "which takes neither; fill them in there"
        )
    return network


def given(field: GuidedField, y: Condition) -> VectorField:
    """The guided field with its condition filled in: the field at w = 1.

    >>> toward = lambda x, t, y: expand(y, x) - x
    >>> given(toward, jnp.array([2.0]))(jnp.zeros((1, 1)), jnp.zeros(1)).item()
    2.0
    """
    return lambda x, t: field(x, t, y)


def score(field: AnyField, path: GaussianPath) -> AnyField:
    """The score grad log p_t(x) of a velocity field on a Gaussian path; none at t = 1.

    A field with memory has a score with memory.

    >>> from jaxflow import paths
    >>> falling = lambda x, t: -x / expand(1 - t, x)  # all data are 0: p_t = N(0, (1 - t)^2)
    >>> score(falling, paths.Linear())(jnp.ones((1, 1)), jnp.array([0.5])).item()
    -4.0
    """

    def seen(look: _Look, x: Array, t: Array) -> tuple[Array, Any]:
        value, memory = look(x, t)
        return convert(path, x, t, value, source="velocity", target="score"), memory

    return _through(seen, field)


def change_path(field: AnyField, trained: GaussianPath, sampled: GaussianPath) -> AnyField:
    """The field on the path `sampled` of a field trained on the path `trained`; the data stay the same.

    Where the two mix data and noise in the same ratio their points are the same but for a factor, and
    so the predicted data and noise are. Guidance commutes with it: change the guided field, with memory or
    without. What is noisier than `trained` ever is it sees at t = 0, where flow_matching goes on to t < 0.

    Source: Karras et al. 2206.00364, section 4; Pokle et al. 2310.04432, lemma 2.

    >>> from jaxflow import paths
    >>> falling = lambda x, t: -x / jnp.maximum(1 - t, 0.1)[:, None]  # all data are 0
    >>> changed = change_path(falling, paths.Linear(), paths.Cosine())
    >>> round(changed(jnp.ones((1, 1)), jnp.array([0.5])).item(), 4)  # beta' / beta on the cosine path
    -1.5708
    """

    def seen(look: _Look, x: Array, t: Array) -> tuple[Array, Any]:
        alpha, beta = sampled.alpha(t), sampled.beta(t)
        s = time_of(trained, alpha, beta)
        size = jnp.sqrt((trained.alpha(s) ** 2 + trained.beta(s) ** 2) / (alpha**2 + beta**2))
        same = expand(size, x) * x
        value, memory = look(same, s)
        return velocity(sampled, parts(trained, same, s, value), t).astype(x.dtype), memory

    return _through(seen, field)


_Look = Callable[[Array, Array], tuple[Array, Any]]
"""(x, t) -> (velocity, memory)."""


def _through(seen: Callable[[_Look, Array, Array], tuple[Array, Any]], field: AnyField) -> AnyField:
    """A field seen through (look, x, t) -> (value, memory), with memory where it has one itself."""
    if isinstance(field, StatefulField):
        inner = field
        return StatefulField(
            inner.name,
            inner.start,
            lambda x, t, memory: seen(lambda x, t: inner.call(x, t, memory), x, t),
        )
    return lambda x, t: seen(lambda x, t: (field(x, t), ()), x, t)[0]
