"""The vision transformer of CLIP and DINOv2: patches and a class token, whose final state is the feature.

Positions are learned for one image size. Images of another size get positions between these, by bicubic
interpolation with half-pixel centres, the parameter a = -0.75 and no antialiasing, as in `transformers`; the
original DINOv2 shifts the grid by a tenth of a patch.

Source: Dosovitskiy et al. 2010.11929; Radford et al. 2103.00020; Oquab et al. 2304.07193.
"""

import flax.linen as linen
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxflow.nn.attributes import Depth, HeadCount, Patch, Width
from jaxflow.nn.patches import to_patches
from jaxflow.nn.pre_norm import ACTIVATIONS, PreNormBlock, norm


class VisionTransformer(linen.Module):
    """Images (b, h, w, 3) -> features (b, d); the defaults are those of CLIP ViT-B/32.

    Attributes:
        width: channels per token; a multiple of `heads`.
        depth: number of blocks.
        heads: attention heads.
        hidden: width of the hidden layer of each block's MLP.
        patch: side of a patch in pixels.
        grid: patches on a side of the images that the positions are learned for.
        activation: quick_gelu or gelu.
        epsilon: of the normalisations.
        first_norm: whether the tokens are normalised before the first block, as in CLIP.
        patch_bias: whether the embedding of the patches has a bias, as in DINOv2.
        branch_scales: whether each branch of a block has a scale per channel, as in DINOv2.
        projection: width of the features, that of CLIP's joint space of texts and images; None for `width`.
    """

    width: Width = 768
    depth: Depth = 12
    heads: HeadCount = 12
    hidden: Width = 3072
    patch: Patch = 32
    grid: Patch = 7
    activation: str = "quick_gelu"
    epsilon: float = 1e-5
    first_norm: bool = True
    patch_bias: bool = False
    branch_scales: bool = False
    projection: Width | None = None

    @linen.compact
    def __call__(self, images: Float[Array, "b h w 3"]) -> Float[Array, "b d"]:
        self._check()
        b, c = len(images), self.width
        patches = to_patches(images, self.patch)
        embed = linen.Dense(c, use_bias=self.patch_bias, name="patch_embedding")
        x = embed(patches.reshape(b, -1, patches.shape[-1]))
        init = linen.initializers.normal(0.02)
        first = self.param("class_embedding", init, (c,))
        x = jnp.concatenate([jnp.broadcast_to(first[None, None], (b, 1, c)), x], axis=1)
        positions = self.param("position_embedding", init, (self.grid**2 + 1, c))
        x = x + self._positions(positions, *patches.shape[1:3])[None]
        x = norm(self.epsilon, "first_norm")(x) if self.first_norm else x
        for i in range(self.depth):
            block = PreNormBlock(
                *(self.heads, self.hidden, self.activation, self.epsilon, "float32"),
                branch_scales=self.branch_scales,
                name=f"block_{i}",
            )
            x = block(x)
        features = norm(self.epsilon, "final_norm")(x[:, 0])
        if self.projection is None:
            return features
        return linen.Dense(self.projection, use_bias=False, name="projection")(features)

    def _positions(self, learned: Float[Array, "n c"], rows: int, columns: int) -> Float[Array, "m c"]:
        if rows == columns == self.grid:
            return learned
        down, across = (jnp.asarray(bicubic(self.grid, n), learned.dtype) for n in (rows, columns))
        between = jnp.einsum(
            "ia,jb,abc->ijc", down, across, learned[1:].reshape(self.grid, self.grid, self.width)
        )
        return jnp.concatenate([learned[:1], between.reshape(-1, self.width)])

    def _check(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"heads = {self.heads}: must divide width = {self.width}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation = {self.activation!r}: must be one of {', '.join(ACTIVATIONS)}")


def bicubic(n: int, m: int) -> Float[np.ndarray, "m n"]:
    """The matrix that interpolates n numbers at m points; the first and the last are repeated outwards.

    >>> bicubic(3, 3).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    points = (np.arange(m) + 0.5) * n / m - 0.5
    matrix = np.zeros((m, n))
    for tap in np.floor(points)[:, None].T + np.arange(-1, 3)[:, None]:
        np.add.at(matrix, (np.arange(m), np.clip(tap, 0, n - 1).astype(int)), _cubic(np.abs(points - tap)))
    return matrix


def _cubic(d: Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """The kernel of cubic convolution (Keys 1981) with a = -0.75, at distances up to 2."""
    a = -0.75
    near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * (d**3 - 5 * d**2 + 8 * d - 4)
    return np.where(d <= 1, near, far)
