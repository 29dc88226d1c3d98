"""Layers that are causal in time: a frame depends on itself and on earlier frames only.

    convolution    y[t] = sum_(i = 0, 1, 2) kernel[i] * x[t - 2 + i] + bias,    x[t] = 0 for t < 0
    half           y[j] = x[2 j] + linear(x[2 j - 2], x[2 j - 1], x[2 j])
    double         (y[2 j - 1], y[2 j]) = (x[j], x[j]) + linear(x[j - 2], x[j - 1], x[j])

where * is a 3 x 3 convolution of images. The linear maps are zero at initialisation: of 1 + 2 k frames, half
keeps the first and then every second one, and double repeats these. Frames are examples of a batch,
(b f, h, w, c), so that layers of images apply between.

A clip may come in chunks. If the collection "past" is mutable, each layer leaves its last two frames there;
with that collection, the next chunk continues the clip. Without it, a chunk is the beginning.

The convolution is the sum of three convolutions of images: on a CPU that is 2 to 10 times as fast as XLA's
3-D convolution (float32, JAX 0.10.2, one core, 3 to 128 channels), and a kernel that is zero in the past does
to each frame what its last tap does to an image.
"""

import flax.linen as linen
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow.devices import mesh
from jaxflow.nn.attributes import Dtype
from jaxflow.nn.convolution import convolve
from jaxflow.nn.dense import Dense
from jaxflow.nn.image_blocks import Frames

Clip = Float[Array, "b _ _ _ _"]
"""(b, f, h, w, c)."""

PAST = "past"
"""The collection of the frames before a chunk."""


class CausalConvolution(linen.Module):
    """3 x 3 x 3 convolution with bias, padded with zeros in space and in the past, (b f, h, w, c).

    Attributes:
        channels: output channels.
        clips: b, of which the batch has the frames.
        kernel_init: initialiser of the kernel (3, 3, 3, c, channels), time first.
        dtype: compute type, float32 or bfloat16.
    """

    channels: int
    clips: int
    kernel_init: linen.initializers.Initializer = linen.initializers.lecun_normal()
    dtype: Dtype = "float32"

    @linen.compact
    def __call__(self, x: Frames) -> Frames:
        kernel = self.param("kernel", self.kernel_init, (3, 3, 3, x.shape[-1], self.channels))
        bias = self.param("bias", linen.initializers.zeros, (self.channels,))
        x, kernel, bias = (a.astype(self.dtype) for a in (x, kernel, bias))
        image = len(x) == self.clips and not continues(self)
        frames = after_past(self, x, self.clips)
        y = _convolve(frames[:, 2:], kernel[2:]) if image else _convolve(frames, kernel)
        return mesh.shard_examples(y + bias[None, None, None])


def _convolve(frames: Clip, kernel: Float[Array, "taps 3 3 c o"]) -> Frames:
    """Of every window of as many frames as the kernel has taps."""
    f = frames.shape[1] - len(kernel) + 1
    taps = [convolve(_folded(frames[:, i : i + f]), kernel[i]) for i in range(len(kernel))]
    return sum(taps[1:], start=taps[0])


class HalfTime(linen.Module):
    """1 + 2 k frames -> 1 + k; in a later chunk 2 k -> k.

    Attributes:
        clips: b, of which the batch has the frames.
        dtype: compute type.
    """

    clips: int
    dtype: Dtype = "float32"

    @linen.compact
    def __call__(self, x: Frames) -> Frames:
        frames = after_past(self, x, self.clips)
        windows = _folded(_windows(frames, 2))
        last = windows[..., -x.shape[-1] :]
        return last + _linear(x.shape[-1], self.dtype)(windows)


class DoubleTime(linen.Module):
    """1 + k frames -> 1 + 2 k; in a later chunk k -> 2 k.

    Attributes:
        clips: b, of which the batch has the frames.
        dtype: compute type.
    """

    clips: int
    dtype: Dtype = "float32"

    @linen.compact
    def __call__(self, x: Frames) -> Frames:
        f, c, skip = len(x) // self.clips, x.shape[-1], 0 if continues(self) else 1
        windows = _windows(after_past(self, x, self.clips), 1)
        b, _, h, w, _ = windows.shape
        added = _linear(2 * c, self.dtype)(windows).reshape(b, f, h, w, 2, c)
        pairs = x.reshape(b, f, h, w, 1, c) + added
        return _folded(pairs.transpose(0, 1, 4, 2, 3, 5).reshape(b, 2 * f, h, w, c)[:, skip:])


def continues(module: linen.Module) -> bool:
    """Whether the layer has seen an earlier chunk of the clips."""
    return module.has_variable(PAST, "frames")


def after_past(module: linen.Module, x: Frames, clips: int) -> Clip:
    """(b f, h, w, c) -> (b, 2 + f, h, w, c), with the two frames before, which at first are zero."""
    x = x.reshape(clips, -1, *x.shape[1:])
    zeros = jnp.zeros_like(x, shape=(clips, 2, *x.shape[2:]))
    frames = jnp.concatenate([module.get_variable(PAST, "frames", zeros), x], axis=1)
    if module.is_mutable_collection(PAST) and not module.is_initializing():
        module.put_variable(PAST, "frames", frames[:, -2:])
    return frames


def _windows(frames: Clip, stride: int) -> Clip:
    """Windows of three frames, along the channels: all, or every second one, up to the last."""
    n = frames.shape[1] - 2
    start = (n - 1) % stride
    return jnp.concatenate([frames[:, start + i : n + i : stride] for i in range(3)], axis=-1)


def _folded(clips: Clip) -> Frames:
    return clips.reshape(-1, *clips.shape[2:])


def _linear(channels: int, dtype: Dtype) -> Dense:
    return Dense(channels, kernel_init=linen.initializers.zeros, dtype=dtype, name="linear")
