"""The condition of a network that is a flow map: beside y, how far it jumps, and how it is guided.

Every network that takes a condition so becomes one of average velocities: length and guidance are added to
the vector that modulates its blocks. They add nothing at initialisation, so that the parameters of a field
are a start for its map (`as_jumps`).

Source: Geng et al. 2505.13447, whose network takes t and s - t, and 2512.02012, with the scale and the
interval of guidance as inputs.
"""

from functools import partial
from typing import Annotated, Any, NamedTuple

import flax.linen as linen
import jax.numpy as jnp
from annotated_types import Gt
from jaxtyping import Array, Float

from jaxflow.nn.attributes import check
from jaxflow.nn.conditioning import Encoded
from jaxflow.nn.embeddings import TimeEmbedding
from jaxflow.typing import Condition


class Guidance(NamedTuple):
    """Classifier-free guidance of scale w at times from `start` to `end`, and of scale 1 elsewhere."""

    w: Float[Array, "*b"]
    start: Float[Array, "*b"]
    end: Float[Array, "*b"]


class Jump(NamedTuple):
    """A condition y, the length s - t of the jump, and the guidance of the field; None for none."""

    y: Condition
    length: Float[Array, "*b"]
    guidance: Guidance | None = None


def unguided(b: int) -> Guidance:
    """No guidance, for b examples: w = 1 at all times."""
    return Guidance(jnp.ones(b), jnp.zeros(b), jnp.ones(b))


class JumpEncoder(linen.Module):
    """y: `Jump`. The encoding of its condition, with embeddings of length and guidance added to the vector.

    Attributes:
        encode: encoder of the condition; None for a network that ignores it.
        most: largest guidance scale w, which lies in [1, most]; None to ignore the guidance.
    """

    encode: linen.Module | None
    most: Annotated[float, Gt(1)] | None = None

    @linen.compact
    def __call__(self, y: Jump, width: int) -> Encoded:
        check(self)
        encoded = Encoded() if self.encode is None else self.encode(y.y, width)  # type: ignore[operator]
        numbers = {"length": y.length}
        if self.most is not None:
            if y.guidance is None:
                raise ValueError("guidance = None: must be given to a network with guidance inside")
            w, start, end = y.guidance
            numbers |= {"w": w / (1 + w), "start": start, "end": end}
        # Slow in all their numbers, since losses of maps differentiate in them.
        embed = partial(TimeEmbedding, width, learned=True, zero=True)
        parts = [embed(name=f"{name}_embedding")(number) for name, number in numbers.items()]
        vector = sum(parts[1:], start=parts[0])
        return encoded._replace(vector=vector if encoded.vector is None else encoded.vector + vector)


def as_jumps(field: Any, initial: Any) -> Any:
    """The parameters of a network's field as those of its map, with `initial` where only the map has any.

    Args:
        field: parameters of the network with its encoder.
        initial: parameters of the network with `JumpEncoder` around it.
    """
    encode = initial["encode"] | ({"encode": field["encode"]} if "encode" in field else {})
    return field | {"encode": encode}
