"""The first of two steps of conditioning: y is encoded, as one vector, a sequence of tokens, or both.

The second step is the network's: it adds the vector to the embedding of time, by which its blocks are
modulated, and its tokens attend to the sequence. A network takes its encoder as an attribute, so that what
y is and how it enters a block are chosen apart.

Each encoder has a null condition of its own, distinct from every real one.

Source: "Building an Image Generator", sections on encoding and embedding the condition.
"""

from typing import NamedTuple

import flax.linen as linen
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxflow.nn.attributes import Count, Modules, Width, check
from jaxflow.typing import Condition


class Encoded(NamedTuple):
    """What an encoder makes of b conditions; None is what it does not give."""

    vector: Float[Array, "b width"] | None = None
    tokens: Float[Array, "b m c"] | None = None
    mask: Bool[Array, "b m"] | None = None
    """Which tokens count; all, where it is None."""


class ClassTable(linen.Module):
    """y: classes (b,). A learned vector per class, and one for the null class, whose index is `classes`."""

    classes: Count

    @property
    def null(self) -> int:
        """Index of the class that says nothing."""
        return self.classes

    @linen.compact
    def __call__(self, y: Int[Array, " b"], width: int) -> Encoded:
        check(self)
        init = linen.initializers.normal(0.02)
        table = linen.Embed(self.classes + 1, width, embedding_init=init, name="table")
        return Encoded(vector=table(y))


class GivenVector(NamedTuple):
    """A vector as condition, which may be missing: then its numbers have no influence."""

    value: Float[Array, "*b size"]
    given: Bool[Array, "*b"]


class VectorMLP(linen.Module):
    """y: `GivenVector`, (b, size). A two-layer MLP of it, or a learned vector where none is given."""

    size: Width

    @property
    def null(self) -> GivenVector:
        """No vector."""
        return GivenVector(jnp.zeros(self.size), jnp.array(False))

    @linen.compact
    def __call__(self, y: GivenVector, width: int) -> Encoded:
        check(self)
        # Selected before and after: a nan that is not given reaches neither output nor gradient.
        value = jnp.where(y.given[:, None], y.value, 0)
        hidden = linen.silu(linen.Dense(width, name="hidden")(value))
        vector = linen.Dense(width, name="out")(hidden)
        nothing = self.param("null", linen.initializers.normal(0.02), (width,))
        return Encoded(vector=jnp.where(y.given[:, None], vector, nothing[None]))


class GivenTokens(NamedTuple):
    """Tokens as condition: embeddings of words, say, of a frozen text encoder."""

    tokens: Float[Array, "*b m c"]
    mask: Bool[Array, "*b m"]
    """Which of them count; where none does, a learned token stands for the null condition."""
    pooled: Float[Array, "*b d"]
    """All of them as one vector."""


class TokenProjection(linen.Module):
    """y: `GivenTokens`. The tokens, normalised and mapped to the width, and the pooled vector by an MLP."""

    @linen.compact
    def __call__(self, y: GivenTokens, width: int) -> Encoded:
        tokens = linen.LayerNorm(name="tokens_norm")(y.tokens.astype(jnp.float32))
        tokens = linen.Dense(width, name="tokens")(tokens)
        pooled = linen.LayerNorm(name="pooled_norm")(y.pooled.astype(jnp.float32))
        hidden = linen.silu(linen.Dense(width, name="hidden")(pooled))
        vector = linen.Dense(width, name="out")(hidden)
        empty = ~jnp.any(y.mask, axis=1)
        nothing = self.param("null", linen.initializers.normal(0.02), (width,))
        vector = jnp.where(empty[:, None], nothing[None], vector)
        return Encoded(vector, *NullToken(name="null_token")(tokens, y.mask))


class NullToken(linen.Module):
    """Gives a sequence of which nothing counts a learned token in the first place."""

    @linen.compact
    def __call__(
        self, tokens: Float[Array, "b m c"], mask: Bool[Array, "b m"]
    ) -> tuple[Float[Array, "b m c"], Bool[Array, "b m"]]:
        nothing = self.param("null", linen.initializers.normal(0.02), (tokens.shape[-1],))
        first = jnp.arange(mask.shape[1]) == 0
        filled = ~jnp.any(mask, axis=1, keepdims=True) & first[None]
        return jnp.where(filled[..., None], nothing[None, None], tokens), mask | filled


class Several(linen.Module):
    """y: a tuple, a condition for each encoder. Their vectors are added, their tokens joined end to end."""

    encoders: Modules

    @linen.compact
    def __call__(self, y: tuple[Condition, ...], width: int) -> Encoded:
        check(self)
        if len(y) != len(self.encoders):
            raise ValueError(
                f"y has {len(y)} conditions for {len(self.encoders)} encoders: one for each is needed"
            )
        parts = [encode(part, width) for encode, part in zip(self.encoders, y, strict=True)]  # type: ignore[operator]
        vectors = [part.vector for part in parts if part.vector is not None]
        sequences = {i: part for i, part in enumerate(parts) if part.tokens is not None}
        vector = sum(vectors[1:], start=vectors[0]) if vectors else None
        if not sequences:
            return Encoded(vector)
        tokens = [linen.Dense(width, name=f"tokens_{i}")(part.tokens) for i, part in sequences.items()]
        masks = [jnp.ones(p.tokens.shape[:2], bool) if p.mask is None else p.mask for p in sequences.values()]
        return Encoded(vector, jnp.concatenate(tokens, axis=1), jnp.concatenate(masks, axis=1))
