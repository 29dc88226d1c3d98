"""U-Net: an encoder that shrinks the image, a midcoder, a decoder that grows it back.

Each residual block of the encoder hands its output to the block of the decoder that stands
opposite to it. Time and condition modulate every block (scale and shift after its second
normalisation); the last layer of each block and of the network is zero at initialisation.

Where a pixel is too fine a unit, the stem groups patches of pixels into channels first, so that
all convolutions work at low resolution, where they cost least for what they learn.

Source: "Building an Image Generator", section on U-Nets; Ronneberger et al. 1505.04597;
Dhariwal and Nichol 2105.05233.
"""

import flax.linen as linen
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow.nn.attention import SelfAttention
from jaxflow.nn.embeddings import TimeEmbedding
from jaxflow.nn.patches import from_patches, to_patches
from jaxflow.typing import Condition, Times

Image = Float[Array, "b _ _ _"]
"""(b, h, w, c), of any resolution and number of channels."""
Embedding = Float[Array, "b d"]


def _convolution(channels: int, **options) -> linen.Conv:
    return linen.Conv(channels, (3, 3), **options)


class ResidualBlock(linen.Module):
    """x + f(x, embedding): two convolutions, the second modulated and zero at initialisation."""

    channels: int
    dropout: float

    @linen.compact
    def __call__(self, x: Image, embedding: Embedding, train: bool) -> Image:
        h = _convolution(self.channels)(linen.silu(linen.GroupNorm(num_groups=None, group_size=16)(x)))
        modulation = linen.Dense(2 * self.channels)(linen.silu(embedding))[:, None, None]
        scale, shift = jnp.split(modulation, 2, axis=-1)
        h = linen.silu(linen.GroupNorm(num_groups=None, group_size=16)(h) * (1 + scale) + shift)
        h = linen.Dropout(self.dropout, deterministic=not train)(h)
        h = _convolution(self.channels, kernel_init=linen.initializers.zeros)(h)
        return h + (x if x.shape[-1] == self.channels else linen.Dense(self.channels)(x))


class AttentionBlock(linen.Module):
    """x + attention over all places of the image, zero at initialisation."""

    heads: int = 4

    @linen.compact
    def __call__(self, x: Image) -> Image:
        tokens = linen.GroupNorm(num_groups=None, group_size=16)(x).reshape(x.shape[0], -1, x.shape[-1])
        return x + SelfAttention(self.heads, out_init=linen.initializers.zeros)(tokens).reshape(x.shape)


class Level(linen.Module):
    """One block at one resolution: a residual block, then attention where it is asked for."""

    channels: int
    attention: bool
    dropout: float

    @linen.compact
    def __call__(self, x: Image, embedding: Embedding, train: bool) -> Image:
        x = ResidualBlock(self.channels, self.dropout)(x, embedding, train)
        return AttentionBlock()(x) if self.attention else x


class Encoder(linen.Module):
    """Image -> its smallest form, and the outputs on the way for the decoder."""

    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    blocks: int
    dropout: float

    @linen.compact
    def __call__(self, x: Image, embedding: Embedding, train: bool) -> tuple[Image, list[Image]]:
        skips = []
        for i, (channels, attention) in enumerate(zip(self.channels, self.attention, strict=True)):
            if i:
                x = _convolution(channels, strides=2)(x)
            for _ in range(self.blocks):
                x = Level(channels, attention, self.dropout)(x, embedding, train)
                skips.append(x)
        return x, skips


class Midcoder(linen.Module):
    """Two blocks at the lowest resolution with attention between them."""

    channels: int
    dropout: float

    @linen.compact
    def __call__(self, x: Image, embedding: Embedding, train: bool) -> Image:
        x = Level(self.channels, True, self.dropout)(x, embedding, train)
        return ResidualBlock(self.channels, self.dropout)(x, embedding, train)


class Decoder(linen.Module):
    """The encoder backwards; each block sees the encoder's output opposite to it."""

    channels: tuple[int, ...]
    attention: tuple[bool, ...]
    blocks: int
    dropout: float

    @linen.compact
    def __call__(self, x: Image, skips: list[Image], embedding: Embedding, train: bool) -> Image:
        levels = list(zip(self.channels, self.attention, strict=True))
        skips = list(skips)
        for i, (channels, attention) in enumerate(reversed(levels)):
            if i:
                x = _enlarge(x, skips[-1].shape)
                x = _convolution(channels)(x)
            for _ in range(self.blocks):
                x = jnp.concatenate([x, skips.pop()], axis=-1)
                x = Level(channels, attention, self.dropout)(x, embedding, train)
        return x


def _enlarge(x: Image, shape: tuple[int, ...]) -> Image:
    """Nearest-neighbour interpolation to the height and width of `shape`."""
    return jax.image.resize(x, (*shape[:3], x.shape[-1]), "nearest")


class UNet(linen.Module):
    """U-Net (x, t, y) -> array of x's shape, zero at initialisation.

    Attributes:
        encode: module (y, width) -> (b, width), the encoder of the condition.
        channels: channels at each resolution, from the highest down; multiples of 16.
        attention: whether the blocks of that resolution have self-attention.
        blocks: residual blocks at each resolution, on the way down and on the way up.
        patch: side of the pixel groups that the stem makes into channels; divides the image size.
        embedding: width of the vector that carries time and condition.
        dropout: rate of dropout inside the residual blocks.
    """

    encode: linen.Module
    channels: tuple[int, ...] = (64, 128)
    attention: tuple[bool, ...] = (False, True)
    blocks: int = 2
    patch: int = 1
    embedding: int = 256
    dropout: float = 0.0

    @linen.compact
    def __call__(self, x: Image, t: Times, y: Condition, *, train: bool = False) -> Image:
        embedding = TimeEmbedding(self.embedding)(t) + self.encode(y, self.embedding)  # type: ignore[operator]
        options = (tuple(self.channels), tuple(self.attention), self.blocks, self.dropout)
        h = _convolution(self.channels[0])(to_patches(x, self.patch))
        stem = h
        h, skips = Encoder(*options)(h, embedding, train)
        h = Midcoder(self.channels[-1], self.dropout)(h, embedding, train)
        h = Decoder(*options)(h, skips, embedding, train)
        h = linen.silu(linen.GroupNorm(num_groups=None, group_size=16)(h + stem))
        out_channels = self.patch**2 * x.shape[-1]
        return from_patches(_convolution(out_channels, kernel_init=linen.initializers.zeros)(h), self.patch)
