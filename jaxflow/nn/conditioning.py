"""The first step of conditioning: encoders that map y to a vector, a sequence of tokens, or both.

The second step is the network's: it adds the vector to the time embedding that modulates its blocks, and its
tokens attend to the sequence. The encoder is an attribute of the network, so that the kind of condition and
the way in which it enters a block are chosen separately.

Each encoder has its own null condition, distinct from every real one.

Source: "Building an Image Generator", sections on encoding and embedding the condition.
"""

from typing import NamedTuple

import flax.linen as linen
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxflow.nn.attributes import Count, Modules, Width, check
from jaxflow.typing import Condition


class Encoded(NamedTuple):
    """The encoding of b conditions; None where the encoder has no such output."""

    vector: Float[Array, "b width"] | None = None
    tokens: Float[Array, "b m c"] | None = None
    mask: Bool[Array, "b m"] | None = None
    """Which tokens are attended to; None means all."""

    def repeated(self, n: int) -> "Encoded":
        """Those of n examples: each for as many in a row."""
        repeat = lambda part: part if part is None else jnp.repeat(part, n // len(part), axis=0)  # noqa: E731
        return Encoded(*map(repeat, self))


class ClassTable(linen.Module):
    """y: class indices (b,). A learned vector per class, and one for the null class, with index `classes`."""

    classes: Count

    @property
    def null(self) -> int:
        """Index of the null class."""
        return self.classes

    @linen.compact
    def __call__(self, y: Int[Array, " b"], width: int) -> Encoded:
        check(self)
        init = linen.initializers.normal(0.02)
        table = linen.Embed(self.classes + 1, width, embedding_init=init, name="table")
        return Encoded(vector=table(y))


class OptionalVector(NamedTuple):
    """An optional vector as condition; where it is not given, its value has no influence."""

    value: Float[Array, "*b size"]
    given: Bool[Array, "*b"]


class VectorMLP(linen.Module):
    """y: `OptionalVector`, (b, size). A two-layer MLP of the vector; a learned vector where none is given."""

    size: Width

    @property
    def null(self) -> OptionalVector:
        """Not given."""
        return OptionalVector(jnp.zeros(self.size), jnp.array(False))

    @linen.compact
    def __call__(self, y: OptionalVector, width: int) -> Encoded:
        check(self)
        # Masked before and after the MLP: a nan in a missing vector reaches neither output nor gradient.
        value = jnp.where(y.given[:, None], y.value, 0)
        hidden = linen.silu(linen.Dense(width, name="hidden")(value))
        vector = linen.Dense(width, name="out")(hidden)
        null = self.param("null", linen.initializers.normal(0.02), (width,))
        return Encoded(vector=jnp.where(y.given[:, None], vector, null[None]))


class TokenSequence(NamedTuple):
    """A token sequence as condition, such as the embeddings of a frozen text encoder."""

    tokens: Float[Array, "*b m c"]
    mask: Bool[Array, "*b m"]
    """Which tokens are real; all False is the null condition, for which a learned token is used."""
    pooled: Float[Array, "*b d"]
    """One vector for the whole sequence."""


class TokenProjection(linen.Module):
    """y: `TokenSequence`. The tokens, normalised and projected to the width; an MLP of the pooled vector."""

    @linen.compact
    def __call__(self, y: TokenSequence, width: int) -> Encoded:
        tokens = linen.LayerNorm(name="tokens_norm")(y.tokens.astype(jnp.float32))
        tokens = linen.Dense(width, name="tokens")(tokens)
        pooled = linen.LayerNorm(name="pooled_norm")(y.pooled.astype(jnp.float32))
        hidden = linen.silu(linen.Dense(width, name="hidden")(pooled))
        vector = linen.Dense(width, name="out")(hidden)
        empty = ~jnp.any(y.mask, axis=1)
        null = self.param("null", linen.initializers.normal(0.02), (width,))
        vector = jnp.where(empty[:, None], null[None], vector)
        return Encoded(vector, *NullToken(name="null_token")(tokens, y.mask))


class PooledMLP(linen.Module):
    """y: `TokenSequence`. The tokens as they are, padding too; a two-layer MLP of the pooled vector.

    As in Stable Diffusion 3, whose null is the encoding of the empty prompt.
    """

    @linen.compact
    def __call__(self, y: TokenSequence, width: int) -> Encoded:
        hidden = linen.silu(linen.Dense(width, name="hidden")(y.pooled))
        return Encoded(linen.Dense(width, name="out")(hidden), y.tokens)


class NullToken(linen.Module):
    """Puts a learned token in the first place of each sequence that is masked entirely."""

    @linen.compact
    def __call__(
        self, tokens: Float[Array, "b m c"], mask: Bool[Array, "b m"]
    ) -> tuple[Float[Array, "b m c"], Bool[Array, "b m"]]:
        null = self.param("null", linen.initializers.normal(0.02), (tokens.shape[-1],))
        first = jnp.arange(mask.shape[1]) == 0
        filled = ~jnp.any(mask, axis=1, keepdims=True) & first[None]
        return jnp.where(filled[..., None], null[None, None], tokens), mask | filled


class CompositeEncoder(linen.Module):
    """y: a tuple of conditions, one per encoder. Their vectors are added, their tokens concatenated."""

    encoders: Modules

    @linen.compact
    def __call__(self, y: tuple[Condition, ...], width: int) -> Encoded:
        check(self)
        if len(y) != len(self.encoders):
            raise ValueError(
                f"y has {len(y)} conditions for {len(self.encoders)} encoders: expected one per encoder"
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
