"""The U-Net of Stable Diffusion 1, 2 and XL: residual blocks, and transformers that attend to the prompt.

It has the layers of `UNet2DConditionModel` in diffusers. Unlike `UNet` it has several residual blocks and
transformers per resolution, each with a skip connection of its own, and the decoder has one more of each.

Source: Rombach et al. 2112.10752, section 3.3 and appendix E; Podell et al. 2307.01952, section 2.
"""

from functools import partial
from typing import Annotated

import flax.linen as linen
import jax
import jax.numpy as jnp
from annotated_types import Len
from jaxtyping import Array, Float

from jaxflow.nn.attention import Attention
from jaxflow.nn.attributes import Depth, Dtype, HeadCount, Switches, Width, Widths, check
from jaxflow.nn.convolution import Convolution
from jaxflow.nn.dense import Dense
from jaxflow.nn.embeddings import TimeEmbedding
from jaxflow.nn.image_blocks import Down, GroupNorm, Image, ResidualBlock, Up
from jaxflow.nn.in_turn import in_turn
from jaxflow.typing import Time

Tokens = Float[Array, "b m d"]
HeadCounts = Annotated[tuple[HeadCount, ...], Len(1, 16)]
Depths = Annotated[tuple[Depth, ...], Len(1, 16)]
EPSILON = 1e-5
"""Of the norms, but for that before a transformer."""


class StableUNet(linen.Module):
    """(x, t, tokens, vector) -> array of x's shape; the attributes' defaults are those of Stable Diffusion 1.

    XL has the vector, of the prompt and the size of the image: an MLP of it is added to the time's embedding.

    Attributes:
        channels: per resolution, from the highest down.
        attention: whether a resolution has transformers.
        heads: attention heads per resolution.
        blocks: residual blocks per resolution in the encoder; the decoder has one more.
        depths: blocks of a transformer per resolution.
        groups: of the group norms; must divide the channels.
        dtype: compute type.
    """

    channels: Widths = (320, 640, 1280, 1280)
    attention: Switches = (True, True, True, False)
    heads: HeadCounts = (8, 8, 8, 8)
    blocks: Depth = 2
    depths: Depths = (1, 1, 1, 1)
    groups: Width = 32
    dtype: Dtype = "float32"

    @linen.compact
    def __call__(
        self,
        x: Float[Array, "b h w c"],
        t: Time,
        tokens: Tokens,
        vector: Float[Array, "b v"] | None = None,
        *,
        train: bool = False,
    ) -> Float[Array, "b h w c"]:
        check(self)
        self._check_lengths()
        width, n = self.channels[0], len(self.channels)
        embedding = TimeEmbedding(4 * width, width, name="time_embedding")(t)
        if vector is not None:
            embedding = embedding + VectorEmbedding(4 * width, name="vector_embedding")(vector)
        residual = partial(
            ResidualBlock, modulation="linear", dtype=self.dtype, groups=self.groups, epsilon=EPSILON
        )
        kind = partial(SpatialTransformer, groups=self.groups, dtype=self.dtype)
        attend = lambda level, name: kind(self.heads[level], self.depths[level], name=name)  # noqa: E731
        h = Convolution(width, dtype=self.dtype, name="conv_in")(x)
        skips = [h]
        for i, width in enumerate(self.channels):
            for j in range(self.blocks):
                h = residual(width, name=f"down_{i}_residual_{j}")(h, embedding)
                if self.attention[i]:
                    h = attend(i, name=f"down_{i}_attention_{j}")(h, tokens)
                skips.append(h)
            if i < n - 1:
                h = Down(width, "centred", self.dtype, name=f"down_{i}_sample")(h)
                skips.append(h)
        h = residual(width, name="middle_residual_0")(h, embedding)
        h = attend(-1, name="middle_attention")(h, tokens)
        h = residual(width, name="middle_residual_1")(h, embedding)
        for i, level in enumerate(reversed(range(n))):
            width = self.channels[level]
            for j in range(self.blocks + 1):
                h = jnp.concatenate([h, skips.pop()], axis=-1)
                h = residual(width, name=f"up_{i}_residual_{j}")(h, embedding)
                if self.attention[level]:
                    h = attend(level, name=f"up_{i}_attention_{j}")(h, tokens)
            if level:
                h = Up(width, "nearest", self.dtype, name=f"up_{i}_sample")(h)
        h = linen.silu(GroupNorm(self.groups, EPSILON, name="norm_out")(h))
        return Convolution(x.shape[-1], name="conv_out")(h).astype(x.dtype)

    def _check_lengths(self) -> None:
        for name in ("attention", "heads", "depths"):
            given = len(getattr(self, name))
            if given != len(self.channels):
                raise ValueError(
                    f"{name} has {given} entries: expected one for each of {len(self.channels)} channels"
                )


class VectorEmbedding(linen.Module):
    """A two-layer MLP of a vector, computed in float32."""

    width: int

    @linen.compact
    def __call__(self, vector: Float[Array, "b v"]) -> Float[Array, "b width"]:
        return linen.Dense(self.width, name="out")(linen.silu(linen.Dense(self.width, name="hidden")(vector)))


class SpatialTransformer(linen.Module):
    """x + transformer(norm(x)), whose tokens are the pixels."""

    heads: int
    depth: int
    groups: int
    dtype: Dtype

    @linen.compact
    def __call__(self, x: Image, others: Tokens) -> Image:
        b, rows, columns, c = x.shape
        h = GroupNorm(self.groups, name="norm")(x).reshape(b, rows * columns, c)
        h = Dense(c, dtype=self.dtype, name="proj_in")(h)
        for k in range(self.depth):
            block = TransformerBlock(self.heads, self.dtype, name=f"block_{k}")
            h = in_turn(lambda block, h: block(h, others), block, h, self.dtype)
        return x + Dense(c, dtype=self.dtype, name="proj_out")(h).reshape(x.shape)


class TransformerBlock(linen.Module):
    """Self-attention, cross-attention and a gated MLP, each in a residual branch behind a norm."""

    heads: int
    dtype: Dtype

    @linen.compact
    def __call__(self, x: Float[Array, "b n c"], others: Tokens) -> Float[Array, "b n c"]:
        attention = partial(Attention, self.heads, use_bias=False, dtype=self.dtype)
        norm = partial(linen.LayerNorm, epsilon=EPSILON, dtype=jnp.float32)
        x = x + attention(name="self_attention")(norm(name="norm1")(x).astype(x.dtype))
        x = x + attention(name="cross_attention")(norm(name="norm2")(x).astype(x.dtype), others)
        h = Dense(8 * x.shape[-1], dtype=self.dtype, name="up")(norm(name="norm3")(x).astype(x.dtype))
        h, gate = jnp.split(h, 2, axis=-1)
        return x + Dense(x.shape[-1], dtype=self.dtype, name="down")(h * jax.nn.gelu(gate, approximate=False))
