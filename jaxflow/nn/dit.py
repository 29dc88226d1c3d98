"""Diffusion transformer: the image as a sequence of patches, all of which attend to all.

Each block is modulated by time and condition through adaLN-Zero: scale and shift after each
normalisation, and a gate before each addition that is zero at initialisation, so that a block
begins as the identity and the network as zero.

Source: "Building an Image Generator", section on diffusion transformers; Peebles and Xie 2212.09748.
"""

import flax.linen as linen
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow.nn.attention import SelfAttention
from jaxflow.nn.embeddings import TimeEmbedding, grid_positions
from jaxflow.nn.patches import from_patches, to_patches
from jaxflow.typing import Condition, Times

Tokens = Float[Array, "b n c"]
Embedding = Float[Array, "b d"]


class Modulation(linen.Module):
    """`parts` vectors of `channels` numbers per example, (b, 1, channels) each; zero at initialisation."""

    parts: int
    channels: int

    @linen.compact
    def __call__(self, embedding: Embedding) -> list[Float[Array, "b 1 c"]]:
        dense = linen.Dense(self.parts * self.channels, kernel_init=linen.initializers.zeros)
        return jnp.split(dense(linen.silu(embedding))[:, None], self.parts, axis=-1)


def _modulate(x: Tokens, shift: Float[Array, "b 1 c"], scale: Float[Array, "b 1 c"]) -> Tokens:
    return linen.LayerNorm(use_scale=False, use_bias=False)(x) * (1 + scale) + shift


class Block(linen.Module):
    """Attention and MLP with adaLN-Zero; the identity at initialisation."""

    heads: int
    mlp_ratio: int
    dropout: float

    @linen.compact
    def __call__(self, x: Tokens, embedding: Embedding, train: bool) -> Tokens:
        c = x.shape[-1]
        shift1, scale1, gate1, shift2, scale2, gate2 = Modulation(6, c)(embedding)
        x = x + gate1 * SelfAttention(self.heads)(_modulate(x, shift1, scale1))
        init = linen.initializers.xavier_uniform()
        h = linen.Dense(self.mlp_ratio * c, kernel_init=init)(_modulate(x, shift2, scale2))
        h = linen.Dropout(self.dropout, deterministic=not train)(linen.gelu(h, approximate=True))
        return x + gate2 * linen.Dense(c, kernel_init=init)(h)


class DiT(linen.Module):
    """Diffusion transformer (x, t, y) -> array of x's shape, zero at initialisation.

    Attributes:
        encode: module (y, width) -> (b, width), the encoder of the condition.
        patch: side of a patch in pixels; divides the image size.
        width: channels of a token; a multiple of 4 and of `heads`.
        depth: number of blocks.
        heads: attention heads.
        mlp_ratio: width of the hidden layer of each block's MLP, in units of `width`.
        dropout: rate of dropout inside the MLPs.
    """

    encode: linen.Module
    patch: int = 2
    width: int = 256
    depth: int = 6
    heads: int = 4
    mlp_ratio: int = 4
    dropout: float = 0.0

    @linen.compact
    def __call__(
        self, x: Float[Array, "b h w c"], t: Times, y: Condition, *, train: bool = False
    ) -> Float[Array, "b h w c"]:
        embedding = TimeEmbedding(self.width)(t) + self.encode(y, self.width)  # type: ignore[operator]
        patches = to_patches(x, self.patch)
        b, rows, columns, d = patches.shape
        tokens = linen.Dense(self.width)(patches.reshape(b, rows * columns, d))
        tokens = tokens + grid_positions(rows, columns, self.width)[None]
        for _ in range(self.depth):
            tokens = Block(self.heads, self.mlp_ratio, self.dropout)(tokens, embedding, train)
        shift, scale = Modulation(2, self.width)(embedding)
        out = linen.Dense(d, kernel_init=linen.initializers.zeros)(_modulate(tokens, shift, scale))
        return from_patches(out.reshape(b, rows, columns, d), self.patch)
