"""Inception-v3 as the Frechet Inception distance uses it: the graph of 2015-12-05 with 1008 classes.

It differs from torchvision's Inception-v3: average pools leave out the padding, the last block has a maximum
pool instead, images are scaled by (x - 128) / 128, and they are resized to 299 x 299 as by the first
TensorFlow, bilinearly with corners at i n / 299 (not centres) and without antialiasing:

    y_i = (1 - f) x_j + f x_(j + 1),    i n / 299 = j + f,    x_n = x_(n - 1)

pytorch-fid resizes with centres and clean-fid with antialiasing, which gives other distances.

Source: Szegedy et al. 1512.00567; Heusel et al. 1706.08500 for the distance.
"""

from functools import partial

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from jaxflow.nn.convolution import Image

SIDE = 299
EPSILON = 1e-3
"""Of the batch normalisations."""
Unit = tuple[str, int, int, int]
"""Name, channels, and height and width of the kernel of a convolution."""
Chain = tuple[Unit | tuple[Unit, Unit], ...]
"""Convolutions in turn; two at the end see the same."""


class Convolved(linen.Module):
    """A convolution, batch normalisation by stored moments folded into it, and a rectifier.

    Attributes:
        channels: output channels.
        kernel: its height and width.
        stride: 1, or 2 to halve the resolution.
        padding: SAME or VALID.
    """

    channels: int
    kernel: tuple[int, int]
    stride: int = 1
    padding: str = "SAME"

    @linen.compact
    def __call__(self, x: Image) -> Image:
        c, ones, zeros = self.channels, linen.initializers.ones, linen.initializers.zeros
        kernel = self.param("kernel", linen.initializers.he_normal(), (*self.kernel, x.shape[-1], c))
        scale, bias = self.param("scale", ones, (c,)), self.param("bias", zeros, (c,))
        mean, variance = self.param("mean", zeros, (c,)), self.param("variance", ones, (c,))
        factor = scale / jnp.sqrt(variance + EPSILON)
        y = jax.lax.conv_general_dilated(
            *(x, kernel * factor[None, None, None], (self.stride, self.stride), self.padding),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        return linen.relu(y + (bias - mean * factor)[None, None, None])


class Mixed(linen.Module):
    """Branches of convolutions, and a pool of 3 x 3, side by side in the channels.

    Attributes:
        branches: chains of convolutions.
        pool: average or maximum.
        pooled: channels of a convolution after the pool; None for a block that halves the resolution.
    """

    branches: tuple[Chain, ...]
    pool: str
    pooled: int | None

    @linen.compact
    def __call__(self, x: Image) -> Image:
        outputs = [part for chain in self.branches for part in self._of(chain, x)]
        if self.pooled is None:
            return jnp.concatenate([*outputs, linen.max_pool(x, (3, 3), (2, 2))], axis=-1)
        average = partial(linen.avg_pool, count_include_pad=False)
        pooled = (average if self.pool == "average" else linen.max_pool)(x, (3, 3), (1, 1), "SAME")
        outputs.append(Convolved(self.pooled, (1, 1), name="branch_pool")(pooled))
        return jnp.concatenate(outputs, axis=-1)

    def _of(self, chain: Chain, x: Image) -> list[Image]:
        last = (2, "VALID") if self.pooled is None else (1, "SAME")
        for i, step in enumerate(chain):
            units = step if isinstance(step[0], tuple) else (step,)
            how = last if i == len(chain) - 1 else (1, "SAME")
            outputs = [Convolved(c, (h, w), *how, name=name)(x) for name, c, h, w in units]  # type: ignore
            x = outputs[0]
        return outputs


def _at_35(pooled: int) -> Mixed:
    return Mixed(
        (
            (("branch1x1", 64, 1, 1),),
            (("branch5x5_1", 48, 1, 1), ("branch5x5_2", 64, 5, 5)),
            (("branch3x3dbl_1", 64, 1, 1), ("branch3x3dbl_2", 96, 3, 3), ("branch3x3dbl_3", 96, 3, 3)),
        ),
        *("average", pooled),
    )


def _at_17(c: int) -> Mixed:
    return Mixed(
        (
            (("branch1x1", 192, 1, 1),),
            (("branch7x7_1", c, 1, 1), ("branch7x7_2", c, 1, 7), ("branch7x7_3", 192, 7, 1)),
            (
                *(("branch7x7dbl_1", c, 1, 1), ("branch7x7dbl_2", c, 7, 1), ("branch7x7dbl_3", c, 1, 7)),
                *(("branch7x7dbl_4", c, 7, 1), ("branch7x7dbl_5", 192, 1, 7)),
            ),
        ),
        *("average", 192),
    )


def _at_8(pool: str) -> Mixed:
    forks = [((f"branch3x3{name}a", 384, 1, 3), (f"branch3x3{name}b", 384, 3, 1)) for name in ("_2", "dbl_3")]
    return Mixed(
        (
            (("branch1x1", 320, 1, 1),),
            (("branch3x3_1", 384, 1, 1), forks[0]),
            (("branch3x3dbl_1", 448, 1, 1), ("branch3x3dbl_2", 384, 3, 3), forks[1]),
        ),
        *(pool, 192),
    )


BLOCKS = {
    "mixed_5b": _at_35(32),
    "mixed_5c": _at_35(64),
    "mixed_5d": _at_35(64),
    "mixed_6a": Mixed(
        (
            (("branch3x3", 384, 3, 3),),
            (("branch3x3dbl_1", 64, 1, 1), ("branch3x3dbl_2", 96, 3, 3), ("branch3x3dbl_3", 96, 3, 3)),
        ),
        *("maximum", None),
    ),
    "mixed_6b": _at_17(128),
    "mixed_6c": _at_17(160),
    "mixed_6d": _at_17(160),
    "mixed_6e": _at_17(192),
    "mixed_7a": Mixed(
        (
            (("branch3x3_1", 192, 1, 1), ("branch3x3_2", 320, 3, 3)),
            (
                *(("branch7x7x3_1", 192, 1, 1), ("branch7x7x3_2", 192, 1, 7)),
                *(("branch7x7x3_3", 192, 7, 1), ("branch7x7x3_4", 192, 3, 3)),
            ),
        ),
        *("maximum", None),
    ),
    "mixed_7b": _at_8("average"),
    "mixed_7c": _at_8("maximum"),
}
"""In turn, after the first convolutions."""


class Inception(linen.Module):
    """Images (b, h, w, 3) of numbers from 0 to 255 -> the 2048 features of the last pool."""

    @linen.compact
    def __call__(self, images: Num[Array, "b h w 3"]) -> Float[Array, "b 2048"]:
        x = (resized(images.astype(jnp.float32)) - 128) / 128
        x = Convolved(32, (3, 3), 2, "VALID", name="conv2d_1a_3x3")(x)
        x = Convolved(32, (3, 3), 1, "VALID", name="conv2d_2a_3x3")(x)
        x = Convolved(64, (3, 3), name="conv2d_2b_3x3")(x)
        x = linen.max_pool(x, (3, 3), (2, 2))
        x = Convolved(80, (1, 1), name="conv2d_3b_1x1")(x)
        x = Convolved(192, (3, 3), 1, "VALID", name="conv2d_4a_3x3")(x)
        x = linen.max_pool(x, (3, 3), (2, 2))
        for name, block in BLOCKS.items():
            x = block.copy(name=name)(x)
        return jnp.mean(x, axis=(1, 2))


def resized(images: Float[Array, "b h w c"]) -> Float[Array, "b side side c"]:
    """The images at 299 x 299, as by the first TensorFlow."""
    for axis in (2, 1):
        n = images.shape[axis]
        points = np.arange(SIDE, dtype=np.float32) * np.float32(n / SIDE)
        here = points.astype(int)
        near, far = (jnp.take(images, np.minimum(i, n - 1), axis=axis) for i in (here, here + 1))
        part = np.expand_dims(points - here, [i for i in range(4) if i != axis])
        images = near + (far - near) * part.astype(np.float32)
    return images
