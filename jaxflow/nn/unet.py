"""U-Net: an encoder that downsamples the image, a midcoder, and a decoder that upsamples it again.

Each encoder block has a skip connection to the corresponding decoder block. Time and condition enter as a
vector, which modulates the blocks, and as tokens, to which they attend.

For large images the stem can group patches of pixels into channels, so that all convolutions run at low
resolution, where compute is best spent. Of a clip it groups frames too, and so does each downsampling: what
happens is decided at the lowest resolution, where the whole clip is one image, and drawn at the highest, by
blocks that all groups of frames share.

Source: "Building an Image Generator", section on U-Nets; Ronneberger et al. 1505.04597;
Dhariwal and Nichol 2105.05233.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Literal

import flax.linen as linen
import jax.numpy as jnp
from annotated_types import Interval, Len
from jaxtyping import Array, Float

from jaxflow.nn.attention import Implementation
from jaxflow.nn.attributes import (
    Depth,
    Dtype,
    HeadCount,
    Patch,
    Rate,
    Switches,
    TimeFeatures,
    Width,
    Widths,
    check,
)
from jaxflow.nn.conditioning import Encoded
from jaxflow.nn.convolution import Convolution
from jaxflow.nn.embeddings import TimeEmbedding
from jaxflow.nn.image_blocks import Down, Frames, GroupNorm, Image, UNetBlock, Up
from jaxflow.nn.patches import from_tubes, to_tubes
from jaxflow.typing import Condition, Time

Levels = tuple[tuple[int, bool, bool], ...]
"""Channels, self-attention and cross-attention per resolution, from the highest down."""


class Encoder(linen.Module):
    """Image -> features at the lowest resolution, and the skip connections from all blocks."""

    levels: Levels
    folds: tuple[int, ...]
    blocks: int
    block: Callable[..., linen.Module]
    down: Callable[..., linen.Module]

    @linen.compact
    def __call__(self, x: Frames, condition: Encoded) -> tuple[Frames, list[Frames]]:
        skips = []
        for i, level in enumerate(self.levels):
            if i:
                x = self.down(level[0], fold=self.folds[i - 1], name=f"down_{i - 1}")(x)
            for j in range(self.blocks):
                x = self.block(*level, name=f"block_{i}_{j}")(x, condition)
                skips.append(x)
        return x, skips


class Midcoder(linen.Module):
    """Two blocks at the lowest resolution, with that resolution's attention in between."""

    level: tuple[int, bool, bool]
    block: Callable[..., linen.Module]

    @linen.compact
    def __call__(self, x: Image, condition: Encoded) -> Image:
        x = self.block(*self.level, name="block_0")(x, condition)
        return self.block(self.level[0], name="block_1")(x, condition)


class Decoder(linen.Module):
    """The encoder in reverse; each block takes the skip connection from its counterpart."""

    levels: Levels
    folds: tuple[int, ...]
    blocks: int
    block: Callable[..., linen.Module]
    up: Callable[..., linen.Module]
    skips: str

    @linen.compact
    def __call__(self, x: Frames, skips: list[Frames], condition: Encoded) -> Frames:
        skips = list(skips)
        for i, level in reversed(list(enumerate(self.levels))):
            if i < len(self.levels) - 1:
                x = self.up(level[0], fold=self.folds[i], name=f"up_{i}")(x)
            for j in range(self.blocks):
                skip = skips.pop()
                x = x + skip if self.skips == "add" else jnp.concatenate([x, skip], axis=-1)
                x = self.block(*level, name=f"block_{i}_{j}")(x, condition)
        return x


class Head(linen.Module):
    """Features to pixels, zero at initialisation: conv(silu(norm(x))) + linear(x).

    The linear branch passes the pixels of a patch on undistorted; norm and SiLU would need more channels.
    """

    pixels: int
    dtype: Dtype = "float32"

    @linen.compact
    def __call__(self, x: Image) -> Image:
        zeros = linen.initializers.zeros
        conv = Convolution(self.pixels, kernel_init=zeros, dtype=self.dtype, name="conv")
        linear = linen.Dense(self.pixels, use_bias=False, kernel_init=zeros, dtype=self.dtype, name="linear")
        return conv(linen.silu(GroupNorm(name="norm")(x))) + linear(x)


class UNet(linen.Module):
    """U-Net (x, t, y) -> array of x's shape, zero at initialisation.

    x are images (b, h, w, c) or clips (b, f, h, w, c), whose height and width must be multiples of
    patch 2^(len(channels) - 1), and whose frames tube times all folds.

    Attributes:
        encode: encoder of the condition, (y, width) -> `Encoded`; None for a network that ignores y.
        channels: channels per resolution, from the highest down.
        attention: whether blocks have self-attention, per resolution; () for none. The midcoder follows the
            lowest resolution.
        cross_attention: whether blocks attend to the encoder's tokens, per resolution; () for none.
        blocks: residual blocks per resolution, in encoder and decoder each.
        patch: side of the pixel patches that the stem folds into channels.
        tube: frames that it folds into channels; an image is a clip whose frames are equal.
        folds: frames that each downsampling folds into one; () for none, otherwise `down` must be patches and
            `up` transposed.
        width: length of the vector of time and condition.
        heads: attention heads.
        positions: position embedding in the attention; without it, only zero padding reveals positions.
        down: downsample by a strided convolution, average or max pooling, or a dense layer of patches.
        up: upsample by nearest or bilinear interpolation, or a transposed convolution.
        skips: whether skip connections are concatenated or added.
        modulation: scale and shift after the second norm of each block, or a pointwise term added before it.
        modulated: blocks that the vector modulates: all, or only those of the midcoder.
        time: sinusoidal or learned Fourier features of t.
        dropout: dropout rate in the residual blocks.
        remat: recompute the blocks in the backward pass instead of storing their activations.
        dtype: compute type, float32 or bfloat16; parameters, norms, modulation, softmax and t are float32.
        attention_implementation: that of `attention.attend`.
    """

    encode: linen.Module | None
    channels: Widths = (64, 128)
    attention: Switches = (False, True)
    cross_attention: Switches = ()
    blocks: Depth = 2
    patch: Patch = 1
    tube: Annotated[int, Interval(ge=1, le=64)] = 1
    folds: Annotated[tuple[Annotated[int, Interval(ge=1, le=64)], ...], Len(0, 15)] = ()
    width: Width = 256
    heads: HeadCount = 4
    positions: Literal["none", "sinusoidal"] = "none"
    down: Literal["strided", "average", "max", "patches"] = "strided"
    up: Literal["nearest", "bilinear", "transposed"] = "nearest"
    skips: Literal["concatenate", "add"] = "concatenate"
    modulation: Literal["scale_shift", "pointwise"] = "scale_shift"
    modulated: Literal["blocks", "midcoder"] = "blocks"
    time: TimeFeatures = "sinusoidal"
    dropout: Rate = 0.0
    remat: bool = False
    dtype: Dtype = "float32"
    attention_implementation: Implementation = "auto"

    @linen.compact
    def __call__(
        self, x: Float[Array, "b *f h w c"], t: Time, y: Condition, *, train: bool = False
    ) -> Float[Array, "b *f h w c"]:
        levels, folds = self._levels(*x.shape[-3:-1]), self.folds or (1,) * (len(self.channels) - 1)
        clip = self._clip(x, self.tube * math.prod(folds))
        tubes = to_tubes(clip, self.patch, self.tube)
        patches = tubes.reshape(-1, *tubes.shape[2:])
        condition = self._condition(t, y)
        outside = condition._replace(vector=None) if self.modulated == "midcoder" else condition
        block, down, up = self._parts(train)
        stem = Convolution(self.channels[0], dtype=self.dtype, name="stem")(patches)
        h, skips = Encoder(levels, folds, self.blocks, block, down, name="encoder")(stem, outside)
        h = Midcoder(levels[-1], block, name="midcoder")(h, condition)
        h = Decoder(levels, folds, self.blocks, block, up, self.skips, name="decoder")(h, skips, outside)
        pixels = Head(patches.shape[-1], self.dtype, name="head")(h + stem).reshape(tubes.shape)
        out = from_tubes(pixels, self.patch, self.tube, clip.shape).astype(x.dtype)
        return out if x.shape == clip.shape else jnp.mean(out, axis=1).reshape(x.shape)

    def _clip(self, x: Array, frames: int) -> Float[Array, "b f h w c"]:
        """Clips with this number of frames: images are repeated."""
        clip = x.reshape(len(x), -1, *x.shape[-3:])
        if clip.shape[1] not in (1, frames):
            product = f"tube = {self.tube}, folds = {self.folds}: their product must be"
            raise ValueError(f"{product} the number of frames of a clip, {clip.shape[1]}")
        return jnp.broadcast_to(clip, (len(x), frames, *x.shape[-3:]))

    def _condition(self, t: Time, y: Condition) -> Encoded:
        """The encoded condition, with the time embedding added to its vector."""
        encoded = Encoded() if self.encode is None else self.encode(y, self.width)  # type: ignore[operator]
        tokens = encoded.tokens is not None
        if any(self.cross_attention) != tokens and (not tokens or encoded.vector is None):
            expected = "must be True at some resolution" if tokens else "must be False everywhere"
            reason = f"{type(self.encode).__name__} outputs {'only' if tokens else 'no'} tokens"
            raise ValueError(f"cross_attention = {self.cross_attention}: {expected}, since {reason}")
        embedding = TimeEmbedding(self.width, learned=self.time == "fourier", name="time_embedding")(t)
        return encoded._replace(vector=embedding if encoded.vector is None else embedding + encoded.vector)

    def _parts(self, train: bool) -> tuple[Callable[..., linen.Module], ...]:
        """Factories of blocks, downsampling and upsampling."""
        block = partial(
            linen.remat(UNetBlock) if self.remat else UNetBlock,
            modulation=self.modulation,
            heads=self.heads,
            positions=self.positions == "sinusoidal",
            dropout=self.dropout,
            dtype=self.dtype,
            implementation=self.attention_implementation,
            train=train,
        )
        down = partial(Down, method=self.down, dtype=self.dtype)
        return block, down, partial(Up, method=self.up, dtype=self.dtype)

    def _levels(self, height: int, width: int) -> Levels:
        """The resolutions; a ValueError if attributes or image size do not fit together."""
        check(self)
        n = len(self.channels)
        for name in ("attention", "cross_attention"):
            if len(getattr(self, name)) not in (0, n):
                raise ValueError(f"{name} = {getattr(self, name)}: expected one per resolution, {n}, or ()")
        if self.positions == "sinusoidal" and any(channels % 4 for channels in self.channels):
            raise ValueError(f"channels = {self.channels}: must be multiples of 4 for sinusoidal positions")
        if len(self.folds) not in (0, n - 1):
            raise ValueError(f"folds = {self.folds}: expected one per downsampling, {n - 1}, or ()")
        if self.folds and (self.down, self.up) != ("patches", "transposed"):
            raise ValueError(
                f"folds = {self.folds}: need down = 'patches' and up = 'transposed', which fold frames"
            )
        unit = self.patch * 2 ** (n - 1)
        if height % unit or width % unit:
            expected = f"must be multiples of {unit} for {n} resolutions with patch = {self.patch}"
            raise ValueError(f"image size {height} x {width}: {expected}")
        own, cross = (switches or (False,) * n for switches in (self.attention, self.cross_attention))
        return tuple(zip(self.channels, own, cross, strict=True))


def unet_32(encode: linen.Module, **options: Any) -> UNet:
    """U-Net for 28 or 32 pixels, close to Ho et al. 2006.11239 for CIFAR-10; `options` as in `UNet`."""
    sizes = {"channels": (128, 256, 256), "attention": (False, True, True), "width": 512, "dropout": 0.1}
    return UNet(encode=encode, **{**sizes, **options})


def unet_64(encode: linen.Module, **options: Any) -> UNet:
    """U-Net for 64 pixels, close to Dhariwal and Nichol 2105.05233; `options` as in `UNet`."""
    sizes = {
        "channels": (192, 384, 576, 768),
        "attention": (False, True, True, True),
        "blocks": 3,
        "width": 768,
        "heads": 8,
        "dropout": 0.1,
    }
    return UNet(encode=encode, **{**sizes, **options})


def unet_256(encode: linen.Module, **options: Any) -> UNet:
    """U-Net of the chapter: 256 x 256 x 3 -> 32 x 32 x 512 -> 32 x 32 x 512 -> 256 x 256 x 3."""
    sizes = {
        "channels": (64, 128, 256, 512),
        "attention": (False, False, False, True),
        "width": 512,
        "heads": 8,
    }
    return UNet(encode=encode, **{**sizes, **options})
