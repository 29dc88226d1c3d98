"""The parts of U-Nets and autoencoders: residual and attention blocks, downsampling and upsampling.

    residual block    x + conv(silu(modulated(norm(conv(silu(norm(x)))))))
    attention block   x + attention(norm(x)), of all pixels to all pixels, or to the condition's tokens

Modulation, by the vector e of time and condition, is one of

    scale_shift       (1 + scale(e)) norm(h) + shift(e), with scale and shift linear in silu(e)
    pointwise         norm(h + MLP(e)), the same for all pixels
    linear            norm(h + linear(silu(e))), as in Stable Diffusion

A block that keeps the number of channels is the identity at initialisation. Norms and modulation are float32
in every compute type.

Source: "Building an Image Generator", section on U-Nets; Dhariwal and Nichol 2105.05233.
"""

from collections.abc import Callable
from functools import partial
from math import gcd

import flax.linen as linen
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow.nn.attention import Attention
from jaxflow.nn.attributes import Dtype
from jaxflow.nn.conditioning import Encoded
from jaxflow.nn.convolution import Convolution
from jaxflow.nn.embeddings import grid_positions
from jaxflow.nn.patches import from_tubes, to_tubes

Image = Float[Array, "b _ _ _"]
"""(b, h, w, c), of any resolution and number of channels."""
Frames = Float[Array, "_ _ _ _"]
"""(b f, h, w, c): images, or the frames of clips, of which a network may change the number."""


class GroupNorm(linen.Module):
    """Group norm in float32, with gcd(16, channels) channels per group if their number is not given.

    Equal to `linen.GroupNorm`, parameters included. It sums over pixels first, then over the few channels of
    a group, and reads x once to normalise it, which on a CPU takes less work and less memory.
    """

    groups: int | None = None
    epsilon: float = 1e-6

    @linen.compact
    def __call__(self, x: Image) -> Image:
        c = x.shape[-1]
        size = gcd(16, c) if self.groups is None else c // self.groups
        scale = self.param("scale", linen.initializers.ones, (c,))[None, None, None]
        bias = self.param("bias", linen.initializers.zeros, (c,))[None, None, None]
        return _normalised(size, self.epsilon, x, scale, bias)


@partial(jax.checkpoint, static_argnums=(0, 1))
def _normalised(size: int, epsilon: float, x: Image, scale: Array, bias: Array) -> Image:
    """Rematerialised, which keeps XLA from recomputing the gradients of all later blocks here."""
    x = x.astype(jnp.float32)
    mean = _group_mean(x, size)
    variance = jnp.maximum(_group_mean(x**2, size) - mean**2, 0)
    factor = jax.lax.rsqrt(variance + epsilon) * scale
    return x * factor + (bias - mean * factor)


def _group_mean(x: Image, size: int) -> Float[Array, "b 1 1 c"]:
    """The mean over all pixels and channels of a group of this size, per channel."""
    b, c = x.shape[0], x.shape[-1]
    means = jnp.mean(jnp.mean(x.reshape(b, -1, c), axis=1).reshape(b, c // size, size), axis=-1)
    return jnp.repeat(means, size, axis=-1)[:, None, None]


class ResidualBlock(linen.Module):
    """x + f(x, vector): two convolutions, the second modulated (unless vector is None) and initially zero.

    Attributes:
        channels: output channels.
        modulation: scale_shift, pointwise or linear.
        dropout: dropout rate before the second convolution.
        dtype: compute type.
        train: whether dropout is active.
        groups: of the group norms; if None, of up to 16 channels.
        epsilon: of the group norms.
        convolution: makes the two layers, with the arguments of `Convolution`.
    """

    channels: int
    modulation: str = "scale_shift"
    dropout: float = 0.0
    dtype: Dtype = "float32"
    train: bool = False
    groups: int | None = None
    epsilon: float = 1e-6
    convolution: Callable[..., linen.Module] = Convolution

    @linen.compact
    def __call__(self, x: Image, vector: Float[Array, "b d"] | None = None) -> Image:
        conv = partial(self.convolution, self.channels, dtype=self.dtype)
        h = conv(name="conv1")(linen.silu(GroupNorm(self.groups, self.epsilon, name="norm1")(x)))
        h = linen.silu(self._modulated(h, vector))
        h = linen.Dropout(self.dropout, deterministic=not self.train, name="dropout")(h)
        h = conv(kernel_init=linen.initializers.zeros, name="conv2")(h)
        if x.shape[-1] != self.channels:
            x = linen.Dense(self.channels, dtype=self.dtype, name="shortcut")(x)
        return h + x

    def _modulated(self, h: Image, vector: Array | None) -> Image:
        norm = GroupNorm(self.groups, self.epsilon, name="norm2")
        if vector is None:
            return norm(h)
        if self.modulation == "pointwise":
            hidden = linen.silu(linen.Dense(self.channels, name="modulation_hidden")(vector))
            added = linen.Dense(self.channels, name="modulation_out")(hidden)[:, None, None]
            return norm(h.astype(jnp.float32) + added)
        if self.modulation == "linear":
            added = linen.Dense(self.channels, name="modulation")(linen.silu(vector))[:, None, None]
            return norm(h.astype(jnp.float32) + added)
        parts = linen.Dense(2 * self.channels, name="modulation")(linen.silu(vector))[:, None, None]
        scale, shift = jnp.split(parts, 2, axis=-1)
        return norm(h) * (1 + scale) + shift


class AttentionBlock(linen.Module):
    """x + attention over all pixels of the image, or to `others`; the identity at initialisation."""

    heads: int
    positions: bool = False
    dtype: Dtype = "float32"
    implementation: str = "auto"
    groups: int | None = None

    @linen.compact
    def __call__(self, x: Image, others: Array | None = None, mask: Array | None = None) -> Image:
        b, rows, columns, c = x.shape
        tokens = GroupNorm(self.groups, name="norm")(x).reshape(b, rows * columns, c)
        if self.positions:
            tokens = tokens + grid_positions(rows, columns, c)[None]
        attention = Attention(
            self.heads,
            out_init=linen.initializers.zeros,
            dtype=self.dtype,
            implementation=self.implementation,
            name="attention",
        )
        return x + attention(tokens.astype(x.dtype), others, mask).reshape(x.shape)


class UNetBlock(linen.Module):
    """A residual block, then self-attention and cross-attention if enabled.

    If there are more images than conditions, each condition is that of as many in a row: of the frames of a
    clip.

    Attributes are those of `ResidualBlock`, and:
        attention: self-attention.
        cross_attention: attention to the condition's tokens.
        heads: attention heads.
        positions: whether sinusoidal position embeddings are added to the image tokens.
        implementation: that of `attention.attend`.
    """

    channels: int
    attention: bool = False
    cross_attention: bool = False
    modulation: str = "scale_shift"
    heads: int = 4
    positions: bool = False
    dropout: float = 0.0
    dtype: Dtype = "float32"
    implementation: str = "auto"
    train: bool = False

    @linen.compact
    def __call__(self, x: Image, condition: Encoded) -> Image:
        residual = ResidualBlock(
            self.channels, self.modulation, self.dropout, self.dtype, self.train, name="residual"
        )
        condition = condition.repeated(len(x))
        x = residual(x, condition.vector)
        attention = partial(AttentionBlock, self.heads, self.positions, self.dtype, self.implementation)
        if self.attention:
            x = attention(name="self_attention")(x)
        if self.cross_attention:
            x = attention(name="cross_attention")(x, condition.tokens, condition.mask)
        return x


class Down(linen.Module):
    """Downsample by 2.

    Attributes:
        channels: output channels of a convolution.
        method: strided, a convolution that pads on the right and below only; centred, one that pads on all
            sides; average or max, pooling of 2 x 2 pixels; patches, a dense layer of these pixels.
        dtype: compute type.
        fold: frames in a row that become one, by patches.
    """

    channels: int
    method: str
    dtype: Dtype = "float32"
    fold: int = 1

    @linen.compact
    def __call__(self, x: Frames) -> Frames:
        if self.method == "patches":
            tubes = to_tubes(x.reshape(-1, self.fold, *x.shape[1:]), 2, self.fold)[:, 0]
            return linen.Dense(self.channels, dtype=self.dtype, name="patches")(tubes)
        if self.method == "strided":
            return Convolution(self.channels, stride=2, dtype=self.dtype, name="conv")(x)
        if self.method == "centred":
            return linen.Conv(self.channels, (3, 3), strides=2, padding=1, dtype=self.dtype, name="conv")(x)
        b, h, w, c = x.shape
        pool = jnp.mean if self.method == "average" else jnp.max
        return pool(x.reshape(b, h // 2, 2, w // 2, 2, c), axis=(2, 4))


class Up(linen.Module):
    """Upsample by 2 to `channels`: interpolation and a convolution, or a transposed convolution.

    The transposed convolution has 2 x 2 kernels at stride 2, which do not overlap: each pixel becomes a patch
    of four, in each of `fold` frames.
    """

    channels: int
    method: str
    dtype: Dtype = "float32"
    fold: int = 1

    @linen.compact
    def __call__(self, x: Frames) -> Frames:
        if self.method == "transposed":
            transposed = linen.Dense(
                4 * self.fold * self.channels, use_bias=False, dtype=self.dtype, name="conv_transpose"
            )
            b, h, w, _ = x.shape
            shape = (b, self.fold, 2 * h, 2 * w, self.channels)
            return from_tubes(transposed(x)[:, None], 2, self.fold, shape).reshape(-1, *shape[2:])
        return Convolution(self.channels, dtype=self.dtype, name="conv")(enlarge(x, self.method))


def enlarge(x: Image, method: str) -> Image:
    """Upsample by 2, by nearest or bilinear interpolation."""
    b, h, w, c = x.shape
    if method == "bilinear":
        return jax.image.resize(x, (b, 2 * h, 2 * w, c), "bilinear")
    return jnp.broadcast_to(x[:, :, None, :, None], (b, h, 2, w, 2, c)).reshape(b, 2 * h, 2 * w, c)
