"""Fields: a network with its parameters as a plain function, and a field seen as another one."""

from typing import Any

import flax.linen as linen
from jaxtyping import Array

from jaxflow.predictions import Prediction, convert
from jaxflow.typing import Condition, GuidedField, Path, VectorField


def from_network(
    network: linen.Module, params: Any, path: Path, *, prediction: Prediction = "velocity"
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


def score(field: VectorField, path: Path) -> VectorField:
    """The score grad log p_t(x) of a velocity field on a Gaussian path; none at t = 1."""
    return lambda x, t: convert(path, x, t, field(x, t), source="velocity", target="score")
