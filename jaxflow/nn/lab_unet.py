"""The U-Net of the course's third lab, parameter for parameter: 1,233,325 with its ten digits.

    first        conv, norm, silu: 1 -> 32 channels
    encoder      at 32 and at 64 channels: 2 residual layers, a stride-2 convolution that doubles the channels
    midcoder     2 residual layers at 128 channels
    decoder      twice: the encoder's output added, bilinear interpolation, a convolution that halves the
                 channels, 2 residual layers
    last         conv: 32 -> 1 channels

A residual layer is x + conv(norm(silu(conv(norm(silu(x))) + time + condition))), with its own adapters for
time (learned Fourier features) and condition.

There is one difference. The lab uses batch norm, whose output for an image depends on the other images of the
batch, and which keeps running averages; here a network is a pure function of its parameters and one image,
and group norm replaces it, with the same parameters: a scale and a bias per channel.

With it, the lab's first step of Adam at the full 1e-3 raised the loss from 2.4 to 11.8 in PyTorch, which it
does not with batch norm, nor with a warm-up: train with one, as `experiments.train` does.

Source: MIT 6.S184, 2025, lab 3.
"""

from typing import Annotated

import flax.linen as linen
from annotated_types import MultipleOf
from jaxtyping import Array, Float

from jaxflow.nn.attributes import Depth, Width, Widths, check
from jaxflow.nn.convolution import Convolution
from jaxflow.nn.embeddings import Fourier
from jaxflow.nn.image_blocks import GroupNorm, Image, enlarge
from jaxflow.typing import Condition, Time

Vector = Float[Array, "b d"]


class Adapter(linen.Module):
    """MLP from a vector to a bias for every pixel of an image, (b, d) -> (b, 1, 1, channels)."""

    channels: int

    @linen.compact
    def __call__(self, vector: Vector) -> Float[Array, "b 1 1 c"]:
        hidden = linen.silu(linen.Dense(vector.shape[-1], name="hidden")(vector))
        return linen.Dense(self.channels, name="out")(hidden)[:, None, None]


class ResidualLayer(linen.Module):
    """x + f(x, t, y), (b, h, w, c) -> (b, h, w, c)."""

    @linen.compact
    def __call__(self, x: Image, t: Vector, y: Vector) -> Image:
        c = x.shape[-1]
        h = Convolution(c, name="conv1")(GroupNorm(name="norm1")(linen.silu(x)))
        h = h + Adapter(c, name="time")(t) + Adapter(c, name="condition")(y)
        return x + Convolution(c, name="conv2")(GroupNorm(name="norm2")(linen.silu(h)))


class LabUNet(linen.Module):
    """The lab's U-Net (x, t, y) -> array of x's shape.

    Attributes:
        encode: encoder of the condition, (y, width) -> `Encoded` with a vector; in the lab `ClassTable(10)`.
        channels: channels per resolution, from the highest down.
        layers: residual layers per resolution, in encoder and decoder each.
        width: length of the time and condition vectors.
    """

    encode: linen.Module
    channels: Widths = (32, 64, 128)
    layers: Depth = 2
    width: Annotated[Width, MultipleOf(2)] = 40

    @linen.compact
    def __call__(self, x: Image, t: Time, y: Condition, *, train: bool = False) -> Image:
        check(self)
        unit = 2 ** (len(self.channels) - 1)
        if x.shape[1] % unit or x.shape[2] % unit:
            raise ValueError(f"image size {x.shape[1]} x {x.shape[2]}: must be multiples of {unit}")
        vectors = Fourier(self.width, name="time")(t), self.encode(y, self.width).vector  # type: ignore[operator]
        first = self.channels[0]
        h = linen.silu(GroupNorm(name="norm")(Convolution(first, name="first")(x)))
        skips = []
        for i, channels in enumerate(self.channels[1:]):
            h = self._layers(f"encoder_{i}", h, *vectors)
            h = Convolution(channels, stride=2, name=f"down_{i}")(h)
            skips.append(h)
        h = self._layers("midcoder", h, *vectors)
        for i, channels in reversed(list(enumerate(self.channels[:-1]))):
            h = Convolution(channels, name=f"up_{i}")(enlarge(h + skips.pop(), "bilinear"))
            h = self._layers(f"decoder_{i}", h, *vectors)
        return Convolution(x.shape[-1], name="last")(h)

    def _layers(self, name: str, h: Image, *vectors: Vector) -> Image:
        for i in range(self.layers):
            h = ResidualLayer(name=f"{name}_{i}")(h, *vectors)
        return h
