"""Fields: a network with its parameters as a plain function, and a field seen as another one."""

from typing import Any

import flax.linen as linen
import jax.numpy as jnp
from jaxtyping import Array

from jaxflow.paths import time_of
from jaxflow.per_example import expand
from jaxflow.predictions import Prediction, convert, parts, velocity
from jaxflow.typing import Condition, GaussianPath, GuidedField, VectorField


def from_network(
    network: linen.Module, params: Any, path: GaussianPath, *, prediction: Prediction = "velocity"
) -> GuidedField:
    """The velocity (x, t, y) -> (b, *event) of a trained network, without dropout.

    Where the network predicts something else than the velocity, its answer is converted; a
    network of the noise has no velocity at t = 0, one of the data none at t = 1.
    """

    def field(x: Array, t: Array, y: Condition) -> Array:
        value = network.apply({"params": params}, x, t, y, train=False)
        return convert(path, x, t, value, source=prediction, target="velocity")  # type: ignore[arg-type]

    return field


def condition(field: GuidedField, y: Condition) -> VectorField:
    """The guided field with its condition filled in: the field at w = 1."""
    return lambda x, t: field(x, t, y)


def score(field: VectorField, path: GaussianPath) -> VectorField:
    """The score grad log p_t(x) of a velocity field on a Gaussian path; none at t = 1."""
    return lambda x, t: convert(path, x, t, field(x, t), source="velocity", target="score")


def change_path(field: VectorField, trained: GaussianPath, sampled: GaussianPath) -> VectorField:
    """The field on the path `sampled` of a field trained on the path `trained`; the data stay the same.

    Where the two mix data and noise in the same ratio their points are the same but for a factor, and
    so the predicted data and noise are. Guidance commutes with it: change the guided field.

    Source: Karras et al. 2206.00364, section 4; Pokle et al. 2310.04432, lemma 2.

    >>> from jaxflow import paths
    >>> falling = lambda x, t: -x / jnp.maximum(1 - t, 0.1)[:, None]  # all data are 0
    >>> changed = change_path(falling, paths.Linear(), paths.Cosine())
    >>> round(changed(jnp.ones((1, 1)), jnp.array([0.5])).item(), 4)  # beta' / beta on the cosine path
    -1.5708
    """

    def changed(x: Array, t: Array) -> Array:
        alpha, beta = sampled.alpha(t), sampled.beta(t)
        s = time_of(trained, alpha, beta)
        size = jnp.sqrt((trained.alpha(s) ** 2 + trained.beta(s) ** 2) / (alpha**2 + beta**2))
        same = expand(size, x) * x
        return velocity(sampled, parts(trained, same, s, field(same, s)), t).astype(x.dtype)

    return changed
