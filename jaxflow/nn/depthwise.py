"""A residual depthwise 3 x 3 convolution over the tokens of a grid.

It gives a transformer the locality that it would otherwise have to learn from data. Computed as a sum of
shifted grids.

Source: Chu et al. 2102.10882 (conditional positional encodings); Xie et al. 2410.10629 (mix-FFN).
"""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class DepthwiseConvolution(linen.Module):
    """x plus its channel-wise 3 x 3 convolution, (b, n, c) -> (b, n, c); the identity at initialisation.

    Attributes:
        grid: rows and columns; their product is n.
    """

    grid: tuple[int, int]

    @linen.compact
    def __call__(self, x: Float[Array, "b n c"]) -> Float[Array, "b n c"]:
        weights = self.param("weights", linen.initializers.zeros, (3, 3, x.shape[-1]))
        return x + _depthwise(x.reshape(x.shape[0], *self.grid, -1), weights.astype(x.dtype)).reshape(x.shape)


@jax.checkpoint
def _depthwise(x: Float[Array, "b h w c"], weights: Float[Array, "3 3 c"]) -> Float[Array, "b h w c"]:
    h, w = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    terms = [padded[:, i : i + h, j : j + w] * weights[i, j][None, None, None] for i, j in np.ndindex(3, 3)]
    return sum(terms[1:], start=terms[0])
