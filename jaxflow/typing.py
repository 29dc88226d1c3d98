"""Types shared by the whole library.

Axis names in annotations: `b` examples, `*event` the shape of one example, `h w c`
an image (NHWC), `d` a vector, `k` the components of a mixture, `n` steps.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
from jaxtyping import Array, Float, Key

Time = Float[Array, " b"]
"""One time per example, in [0, 1]: 0 is noise, 1 is data."""

Condition = Any
"""The condition y, any pytree of arrays with a leading axis of examples. The null (unconditional) condition
has the same structure without that axis."""

Keys = Key[Array, ""] | Key[Array, " b"]
"""One random key, or one per example."""

VectorField = Callable[[jax.Array, jax.Array], jax.Array]
"""(x, t) -> dx/dt, with x (b, *event) and t (b,)."""

GuidedField = Callable[[jax.Array, jax.Array, Condition], jax.Array]
"""(x, t, y) -> dx/dt given the condition y."""

PairedField = Callable[[jax.Array, jax.Array, Condition], tuple[jax.Array, jax.Array]]
"""(x, t, y) -> the auxiliary and the final dx/dt given y, of one call of a network with an auxiliary head."""

AverageVelocity = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
"""(x, t, s) -> the average velocity from time t to time s of the ODE through x at t; t and s are (b,)."""

GuidedAverage = Callable[[jax.Array, jax.Array, jax.Array, Condition], jax.Array]
"""(x, t, s, y) -> the average velocity given the condition y."""


class StatefulField(NamedTuple):
    """A field with memory, which the sampler carries from one call to the next."""

    name: str
    """Shown in error messages of functions that cannot take a stateful field."""

    start: Callable[[jax.Array], Any]
    """x -> the memory before the first call, a pytree of arrays."""
    call: Callable[[jax.Array, jax.Array, Any], tuple[jax.Array, Any]]
    """(x, t, memory) -> (dx/dt, memory)."""


Scale = float | int | Float[Array, "..."] | Callable[[jax.Array], jax.Array]
"""A guidance scale w: a number, one number per example (b,), or a function of t (b,)."""


Rule = Callable[[GuidedField, Condition, Condition, Scale], VectorField | StatefulField]
"""A guidance rule with its options bound: (field, y, null, w) -> the guided field."""


@runtime_checkable
class GaussianPath(Protocol):
    """A Gaussian probability path x_t = alpha(t) data + beta(t) noise."""

    def alpha(self, t: jax.Array) -> jax.Array:
        """Weight of the data: 0 at t = 0 and 1 at t = 1."""
        ...

    def beta(self, t: jax.Array) -> jax.Array:
        """Weight of the noise: 1 at t = 0 and 0 at t = 1."""
        ...


@runtime_checkable
class GeneralPath(Protocol):
    """Any path from a noise sample to a data point; it has a velocity and, in general, no score."""

    def psi(self, noise: jax.Array, data: jax.Array, t: jax.Array) -> jax.Array:
        """The point of one example at scalar time t: noise at t = 0, data at t = 1."""
        ...
