"""A text encoder that is trained with the network, for captions without pretrained weights.

Words attend to all words of their caption, in pre-norm blocks. It gives a token per word and their mean
as one vector. The empty caption is the null condition: a learned token stands in its place.
"""

import flax.linen as linen
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxflow.nn.attention import Attention
from jaxflow.nn.conditioning import Encoded, NullToken
from jaxflow.nn.dense import Dense


class TextBlock(linen.Module):
    """Attention and MLP, each behind a normalisation and added."""

    heads: int

    @linen.compact
    def __call__(self, x: Float[Array, "b m c"], mask: Bool[Array, "b m"]) -> Float[Array, "b m c"]:
        x = x + Attention(self.heads)(linen.LayerNorm()(x), mask=mask)
        hidden = linen.gelu(Dense(4 * x.shape[-1])(linen.LayerNorm()(x)), approximate=True)
        return x + Dense(x.shape[-1])(hidden)


class TextEncoder(linen.Module):
    """y: words as numbers (b, m), of which 0 is none; null is a caption of zeros.

    Attributes:
        vocabulary: number of different numbers.
        channels: of a token.
        depth: number of blocks.
        heads: attention heads.
    """

    vocabulary: int
    channels: int = 128
    depth: int = 2
    heads: int = 4

    @linen.compact
    def __call__(self, y: Int[Array, "b m"], width: int) -> Encoded:
        init = linen.initializers.normal(1.0)  # as T5's: words are far apart from the first step on
        places = self.param("places", init, (y.shape[1], self.channels))
        tokens = linen.Embed(self.vocabulary, self.channels, embedding_init=init)(y) + places[None]
        tokens, mask = NullToken()(tokens, y != 0)
        for _ in range(self.depth):
            tokens = TextBlock(self.heads)(tokens, mask)
        tokens = linen.LayerNorm()(tokens)
        weights = mask.astype(tokens.dtype)[..., None]
        mean = jnp.sum(tokens * weights, axis=1) / jnp.sum(weights, axis=1)
        return Encoded(Dense(width)(mean), tokens, mask)
