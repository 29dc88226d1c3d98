"""Encoders of the condition: y -> one vector per example.

A network takes its encoder as an attribute, so that what y is (a class, a vector, a text) and
how it enters a block are chosen apart.
"""

import flax.linen as linen
from jaxtyping import Array, Float, Int


class ClassTable(linen.Module):
    """A learned vector per class, and one for the null class, whose index is `classes`."""

    classes: int

    @property
    def null(self) -> int:
        """Index of the class that says nothing."""
        return self.classes

    @linen.compact
    def __call__(self, y: Int[Array, " b"], width: int) -> Float[Array, "b width"]:
        return linen.Embed(self.classes + 1, width, embedding_init=linen.initializers.normal(0.02))(y)
