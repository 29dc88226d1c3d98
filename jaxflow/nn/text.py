"""A text encoder trained jointly with the network, for captions without pretrained weights.

Words attend to all words of their caption, in pre-norm blocks. The outputs are one token per word, and their
mean as the vector. The empty caption is the null condition, encoded as a learned token.
"""

import flax.linen as linen
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxflow.nn.attention import Attention
from jaxflow.nn.attributes import Count, Depth, HeadCount, Width, check
from jaxflow.nn.conditioning import Encoded, NullToken
from jaxflow.nn.dense import Dense


class TextBlock(linen.Module):
    """Pre-norm attention and MLP, each in a residual branch."""

    heads: int

    @linen.compact
    def __call__(self, x: Float[Array, "b m c"], mask: Bool[Array, "b m"]) -> Float[Array, "b m c"]:
        c = x.shape[-1]
        x = x + Attention(self.heads, name="attention")(linen.LayerNorm(name="norm1")(x), mask=mask)
        hidden = linen.gelu(Dense(4 * c, name="up")(linen.LayerNorm(name="norm2")(x)), approximate=True)
        return x + Dense(c, name="down")(hidden)


class TextEncoder(linen.Module):
    """y: word ids (b, m), 0 for padding; the null condition is all zeros.

    Attributes:
        vocabulary: number of ids, padding included.
        width: channels per token.
        depth: number of blocks.
        heads: attention heads.
    """

    vocabulary: Count
    width: Width = 128
    depth: Depth = 2
    heads: HeadCount = 4

    @linen.compact
    def __call__(self, y: Int[Array, "b m"], width: int) -> Encoded:
        check(self)
        normal = (
            linen.initializers.normal
        )  # as in T5 words are far apart from the start, and louder than positions
        positions = self.param("position_embedding", normal(0.1), (y.shape[1], self.width))
        words = linen.Embed(self.vocabulary, self.width, embedding_init=normal(1.0), name="token_embedding")
        tokens, mask = NullToken(name="null_token")(words(y) + positions[None], y != 0)
        for i in range(self.depth):
            tokens = TextBlock(self.heads, name=f"block_{i}")(tokens, mask)
        tokens = linen.LayerNorm(name="final_norm")(tokens)
        weights = mask.astype(tokens.dtype)[..., None]
        mean = jnp.sum(tokens * weights, axis=1) / jnp.sum(weights, axis=1)
        return Encoded(Dense(width, name="pooled")(mean), tokens, mask)
