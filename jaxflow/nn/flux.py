"""The transformer of FLUX.1: blocks of two streams, image and text, then blocks of one.

Source: Black Forest Labs, FLUX.1, 2024; Dehghani et al. 2302.05442 for attention and MLP side by side.
"""

from functools import partial
from typing import Any

import flax.linen as linen
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow.nn.adaln import MMDiTBlock, Modulation, Tokens, gelu, modulate
from jaxflow.nn.attention import Rotation, attend, project_heads
from jaxflow.nn.attributes import Depth, Dtype, HeadCount, Width, check
from jaxflow.nn.conditioning import PooledMLP, TokenSequence
from jaxflow.nn.dense import Dense
from jaxflow.nn.embeddings import TimeEmbedding, rotate_pairs
from jaxflow.nn.in_turn import in_turn
from jaxflow.nn.patches import from_channels, to_channels
from jaxflow.typing import Time

FREQUENCIES, PATCH, RATIO = 256, 2, 4


class Flux(linen.Module):
    """(x, t, y) -> array of x's shape; y is a `TokenSequence`. The defaults are those of FLUX.1-schnell.

    Attributes:
        width: channels per token.
        heads: attention heads.
        depth: blocks of two streams.
        single_depth: blocks of one.
        axes: channels per head that belong to none, the rows and the columns of the image.
        distilled_scale: guidance scale that a guidance-distilled network is given, as FLUX.1-dev; or None.
        dtype: compute type.
    """

    width: Width = 3072
    heads: HeadCount = 24
    depth: Depth = 19
    single_depth: Depth = 38
    axes: tuple[int, int, int] = (16, 56, 56)
    distilled_scale: float | None = None
    dtype: Dtype = "float32"

    @linen.compact
    def __call__(
        self, x: Float[Array, "b h w c"], t: Time, y: TokenSequence, *, train: bool = False
    ) -> Float[Array, "b h w c"]:
        check(self)
        if sum(self.axes) * self.heads != self.width or any(d % 2 for d in self.axes):
            raise ValueError(f"axes = {self.axes}: must be even, and their sum width / heads")
        embed = partial(TimeEmbedding, self.width, FREQUENCIES)
        encoded: Any = PooledMLP(name="encode")(y, self.width)
        embedding = embed(name="time_embedding")(t) + encoded.vector
        if self.distilled_scale is not None:
            scale = jnp.full_like(t, self.distilled_scale)
            embedding = embedding + embed(name="guidance_embedding")(scale)
        patches = to_channels(x, PATCH)
        b, rows, columns, d = patches.shape
        n = rows * columns
        dense = partial(Dense, dtype=self.dtype)
        image = dense(self.width, name="patch_embedding")(patches.reshape(b, n, d))
        text = dense(self.width, name="text_embedding")(encoded.tokens)
        turn = partial(rotate_pairs, height=rows, width=columns, axes=self.axes)
        for i in range(self.depth):
            block = MMDiTBlock(
                self.heads, RATIO, qk_norm=True, turn=turn, dtype=self.dtype, name=f"block_{i}"
            )
            call = lambda block, streams: block(streams[0], embedding, streams[1], None)  # noqa: E731
            image, text = in_turn(call, block, (image, text), self.dtype)
        both = jnp.concatenate([image, text], axis=1)
        for i in range(self.single_depth):
            single = SingleBlock(self.heads, turn, n, self.dtype, name=f"single_{i}")
            both = in_turn(lambda block, x: block(x, embedding), single, both, self.dtype)
        shift, scale = Modulation(2, self.width, name="final_modulation")(embedding)
        out = dense(d, name="final")(modulate(both[:, :n], shift, scale))
        return from_channels(out.reshape(patches.shape), PATCH).astype(x.dtype)


class SingleBlock(linen.Module):
    """Attention and MLP side by side, of image tokens followed by text tokens.

    Attributes:
        heads: attention heads.
        turn: rotates queries and keys of the image by their positions.
        image_tokens: how many of the tokens are the image's.
        dtype: compute type.
    """

    heads: int
    turn: Rotation
    image_tokens: int
    dtype: Dtype

    @linen.compact
    def __call__(self, x: Tokens, embedding: Float[Array, "b d"]) -> Tokens:
        c, n = x.shape[-1], self.image_tokens
        shift, scale, gate = Modulation(3, c, name="modulation")(embedding)
        own = modulate(x, shift, scale)
        project = partial(project_heads, own, heads=self.heads, channels=c, dtype=self.dtype)
        query, key = (
            jnp.concatenate([self.turn(both[:, :n]), both[:, n:]], axis=1)
            for both in (project("query", norm=True), project("key", norm=True))
        )
        mixed = attend(query, key, project("value")).reshape(x.shape)
        hidden = gelu(Dense(RATIO * c, dtype=self.dtype, name="up")(own))
        change = Dense(c, dtype=self.dtype, name="out")(jnp.concatenate([mixed, hidden], axis=-1))
        return x + (gate * change.astype(gate.dtype)).astype(x.dtype)
