"""A residual depthwise 3 x 3 convolution over the tokens of a grid.

It gives a transformer the locality that it would otherwise have to learn from data. Programs for CPUs compute
it as a sum of shifted grids, others as XLA's grouped convolution; `experiments.benchmarks.workarounds` tells
whether that still pays.

Source: Chu et al. 2102.10882 (conditional positional encodings); Xie et al. 2410.10629 (mix-FFN).
"""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Grid = Float[Array, "b h w c"]
Kernel = Float[Array, "3 3 1 c"]


class DepthwiseConvolution(linen.Module):
    """x plus its channel-wise 3 x 3 convolution, (b, n, c) -> (b, n, c); the identity at initialisation.

    Attributes:
        grid: rows and columns; n tokens are one such grid, or several, as the frames of a clip.
    """

    grid: tuple[int, int]

    @linen.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        weights = self.param("weights", linen.initializers.zeros, (3, 3, x.shape[-1]))
        grid = x.reshape(-1, *self.grid, x.shape[-1])
        kernel = weights.astype(x.dtype)[:, :, None]
        y = jax.lax.platform_dependent(grid, kernel, cpu=shifted, default=grouped)
        return x + y.reshape(x.shape)


def grouped(x: Grid, kernel: Kernel) -> Grid:
    """A 3 x 3 convolution of each channel with zero padding."""
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=x.shape[-1]
    )


@jax.checkpoint
def shifted(x: Grid, kernel: Kernel) -> Grid:
    """Equal to `grouped`, as a sum of shifted grids."""
    h, w = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    terms = [padded[:, i : i + h, j : j + w] * kernel[None, None, None, i, j, 0] for i, j in np.ndindex(3, 3)]
    return sum(terms[1:], start=terms[0])
