"""TAESD, the tiny autoencoder of Stable Diffusion's latents, and its version for those of FLUX.2.

    encode    images (b, h, w, c) in [-1, 1] -> latents (b, h / 8, w / 8, k)
    decode    latents -> images, to be clipped to [-1, 1]

Both are sequences of convolutions and residual blocks without normalisation; `layer_3` has the number that it
has in the published sequence, where activations count too. In FLUX.2's version the blocks at the lowest
resolution have a global branch, whose group norm sees the whole image: a tile of an image is not encoded as
in the image.

Source: https://github.com/madebyollin/taesd.
"""

from functools import partial

import flax.linen as linen
import jax.numpy as jnp

from jaxflow.nn.attributes import Width, check
from jaxflow.nn.image_blocks import Image, enlarge

WIDTH = 64
"""Channels of all layers but the first and the last."""

_convolution = partial(linen.Conv, kernel_size=(3, 3), padding=1)


class AutoencoderTiny(linen.Module):
    """An encoder and a decoder of 1.2 million parameters each.

    Attributes:
        image_channels: channels of the images.
        latent_channels: channels of the latents: 4, 16, or 32 for FLUX.2.
        pooled: whether the blocks at the lowest resolution have the global branch, as for FLUX.2.
    """

    image_channels: Width = 3
    latent_channels: Width = 4
    pooled: bool = False
    variational = False
    factor = 8
    """Pixels to a latent, along each side."""

    def setup(self) -> None:
        check(self)
        self.encoder = Encoder(self.latent_channels, self.pooled)
        self.decoder = Decoder(self.image_channels, self.pooled)

    def __call__(self, images: Image) -> Image:
        """The images decoded from their latents."""
        return self.decode(self.encode(images))

    def encode(self, images: Image) -> Image:
        """(b, h, w, c) -> (b, h / 8, w / 8, k).

        Raises:
            ValueError: 8 does not divide height and width.
        """
        _, h, w, _ = images.shape
        if h % self.factor or w % self.factor:
            raise ValueError(f"images of {h} x {w}: both sides must be multiples of {self.factor}")
        return self.encoder(images)

    def decode(self, latents: Image) -> Image:
        """(b, h / 8, w / 8, k) -> (b, h, w, c)."""
        return self.decoder(latents)


class Encoder(linen.Module):
    """Images to latents."""

    latents: int
    pooled: bool

    @linen.compact
    def __call__(self, images: Image) -> Image:
        x = _convolution(WIDTH, name="layer_0")((images + 1) / 2)
        x = Block(name="layer_1")(x)
        for i in (2, 6, 10):
            x = _convolution(WIDTH, strides=2, use_bias=False, name=f"layer_{i}")(x)
            for j in range(i + 1, i + 4):
                x = Block(self.pooled and i == 10, name=f"layer_{j}")(x)
        return _convolution(self.latents, name="layer_14")(x)


class Decoder(linen.Module):
    """Latents to images."""

    channels: int
    pooled: bool

    @linen.compact
    def __call__(self, latents: Image) -> Image:
        x = linen.relu(_convolution(WIDTH, name="layer_1")(3 * jnp.tanh(latents / 3)))
        for j in (3, 4, 5):
            x = Block(self.pooled, name=f"layer_{j}")(x)
        for i, blocks in ((7, 3), (12, 3), (17, 1)):
            x = _convolution(WIDTH, use_bias=False, name=f"layer_{i}")(enlarge(x, "nearest"))
            for j in range(i + 1, i + 1 + blocks):
                x = Block(name=f"layer_{j}")(x)
        return 2 * _convolution(self.channels, name="layer_19")(x) - 1


class Block(linen.Module):
    """relu(x + three convolutions of x); before it, if `pooled`, x + two 1 x 1 convolutions of x."""

    pooled: bool = False

    @linen.compact
    def __call__(self, x: Image) -> Image:
        if self.pooled:
            h = linen.Dense(4 * WIDTH, use_bias=False, name="widen")(x)
            h = linen.relu(linen.GroupNorm(4, epsilon=1e-5, name="norm")(h))
            x = x + linen.Dense(WIDTH, use_bias=False, name="narrow")(h)
        h = linen.relu(_convolution(WIDTH, name="conv_0")(x))
        h = linen.relu(_convolution(WIDTH, name="conv_2")(h))
        return linen.relu(x + _convolution(WIDTH, name="conv_4")(h))
