"""The autoencoder of Stable Diffusion: residual blocks at each resolution, attention at the lowest.

    encode    images (b, h, w, c) in [-1, 1] -> moments of the latents (b, h / f, w / f, 2 k)
    decode    latents (b, h / f, w / f, k) -> images (b, h, w, c), to be clipped to [-1, 1]

with f = patch * 2^(resolutions - 1) * fold. The moments are the mean and the log variance of each latent. A
plain autoencoder, `variational = False`, has no variance: its encoder returns the latents. Resolution is
halved by convolutions that pad on the right and below only.

Source: Rombach et al. 2112.10752, appendix E.1; Esser et al. 2012.09841.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import flax.linen as linen

from jaxflow.nn.attributes import Depth, Dtype, Patch, Width, Widths, check
from jaxflow.nn.convolution import Convolution
from jaxflow.nn.image_blocks import AttentionBlock, Down, Frames, GroupNorm, Image, ResidualBlock, Up
from jaxflow.nn.patches import from_channels, from_patches, to_channels, to_patches


class Layers(NamedTuple):
    """The layers that see other frames, where the images are frames of clips; for images they do not.

    Attributes:
        convolution: makes a layer, with the arguments of `Convolution`.
        in_time: changes the number of frames at the n-th change of resolution, (images, n) -> images.
    """

    convolution: Callable[..., linen.Module] = Convolution
    in_time: Callable[[Frames, int], Frames] = lambda x, n: x


class AutoencoderKL(linen.Module):
    """An encoder and a decoder, with the layers of `AutoencoderKL` in diffusers.

    Attributes:
        image_channels: channels c of the images.
        latent_channels: channels k of the latents.
        channels: channels per resolution, from the highest down.
        blocks: residual blocks per resolution in the encoder; the decoder has one more.
        groups: of the group norms; must divide the channels.
        attention: whether pixels attend to each other at the lowest resolution.
        quant: whether a 1 x 1 convolution follows the encoder and another one precedes the decoder.
        variational: whether the encoder returns moments.
        patch: side of the patches that the first layer sees as one pixel; 1 in Stable Diffusion.
        fold: side of the squares of the last layer's pixels that become one latent; 2 in FLUX.2.
        dtype: compute type.
    """

    image_channels: Width = 3
    latent_channels: Width = 4
    channels: Widths = (128, 256, 512, 512)
    blocks: Depth = 2
    groups: Width = 32
    attention: bool = True
    quant: bool = True
    variational: bool = True
    patch: Patch = 1
    fold: Patch = 1
    dtype: Dtype = "float32"

    @property
    def factor(self) -> int:
        """Pixels to a latent, along each side."""
        return self.patch * 2 ** (len(self.channels) - 1) * self.fold

    def setup(self) -> None:
        check(self)
        odd = next((width for width in self.channels if width % self.groups), None)
        if odd is not None:
            raise ValueError(f"groups = {self.groups}: must divide the channels, and {odd} is no multiple")
        inner, odd = divmod(self.latent_channels, self.fold**2)
        if odd:
            raise ValueError(
                f"latent_channels = {self.latent_channels}: must be a multiple of {self.fold**2} by fold"
            )
        moments = inner * (2 if self.variational else 1)
        options = (self.channels, self.blocks, self.groups, self.attention, self.dtype)
        self.encoder = Encoder(moments, *options)
        self.decoder = Decoder(self.patch**2 * self.image_channels, *options)
        if self.quant:
            self.quant_conv, self.post_quant_conv = linen.Dense(moments), linen.Dense(inner)

    def __call__(self, images: Image) -> Image:
        """The images decoded from the mean latents."""
        return self.decode(self.encode(images)[..., : self.latent_channels])

    def encode(self, images: Image) -> Image:
        """(b, h, w, c) -> (b, h / f, w / f, 2 k), or k if not variational.

        Raises:
            ValueError: f does not divide height and width.
        """
        return self._encode(images, Layers())

    def decode(self, latents: Image) -> Image:
        """(b, h / f, w / f, k) -> (b, h, w, c)."""
        return self._decode(latents, Layers())

    def _encode(self, images: Frames, layers: Layers) -> Frames:
        _, h, w, _ = images.shape
        if h % self.factor or w % self.factor:
            raise ValueError(f"images of {h} x {w}: both sides must be multiples of {self.factor}")
        moments = self.encoder(to_patches(images, self.patch), layers)
        return to_channels(self.quant_conv(moments) if self.quant else moments, self.fold)

    def _decode(self, latents: Frames, layers: Layers) -> Frames:
        latents = from_channels(latents, self.fold)
        latents = self.post_quant_conv(latents) if self.quant else latents
        return from_patches(self.decoder(latents, layers), self.patch)


class Encoder(linen.Module):
    """Images to `out` channels at the lowest resolution."""

    out: int
    channels: tuple[int, ...]
    blocks: int
    groups: int
    attention: bool
    dtype: Dtype

    @linen.compact
    def __call__(self, x: Frames, layers: Layers) -> Frames:
        conv = layers.convolution
        block = partial(ResidualBlock, groups=self.groups, dtype=self.dtype, convolution=conv)
        x = conv(self.channels[0], dtype=self.dtype, name="conv_in")(x)
        for i, width in enumerate(self.channels):
            if i:
                x = Down(self.channels[i - 1], "strided", self.dtype, name=f"down_{i - 1}")(x)
                x = layers.in_time(x, i - 1)
            for j in range(self.blocks):
                x = block(width, name=f"block_{i}_{j}")(x)
        x = Middle(self.groups, self.attention, self.dtype, name="middle")(x, conv)
        return _out(x, self.out, self.groups, conv)


class Decoder(linen.Module):
    """Latents to `out` channels at the highest resolution."""

    out: int
    channels: tuple[int, ...]
    blocks: int
    groups: int
    attention: bool
    dtype: Dtype

    @linen.compact
    def __call__(self, x: Frames, layers: Layers) -> Frames:
        conv = layers.convolution
        block = partial(ResidualBlock, groups=self.groups, dtype=self.dtype, convolution=conv)
        x = conv(self.channels[-1], dtype=self.dtype, name="conv_in")(x)
        x = Middle(self.groups, self.attention, self.dtype, name="middle")(x, conv)
        for i, width in enumerate(reversed(self.channels)):
            if i:
                x = layers.in_time(x, i - 1)
                x = Up(x.shape[-1], "nearest", self.dtype, name=f"up_{i - 1}")(x)
            for j in range(self.blocks + 1):
                x = block(width, name=f"block_{i}_{j}")(x)
        return _out(x, self.out, self.groups, conv)


class Middle(linen.Module):
    """Two residual blocks, with attention in between."""

    groups: int
    attention: bool
    dtype: Dtype

    @linen.compact
    def __call__(self, x: Image, conv: Callable[..., linen.Module]) -> Image:
        block = partial(ResidualBlock, x.shape[-1], groups=self.groups, dtype=self.dtype, convolution=conv)
        x = block(name="block_0")(x)
        if self.attention:
            x = AttentionBlock(1, dtype=self.dtype, groups=self.groups, name="attention")(x)
        return block(name="block_1")(x)


def _out(x: Image, channels: int, groups: int, conv: Callable[..., linen.Module]) -> Image:
    """The last layers of the calling module, in float32."""
    return conv(channels, name="conv_out")(linen.silu(GroupNorm(groups, name="norm_out")(x)))
