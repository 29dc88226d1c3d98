"""LPIPS: how different two images look, by the features of a frozen network.

    d(x, y) = sum_l mean_(i, j) sum_c weight_lc (f_lc(x) - f_lc(y))^2

over layers l, positions (i, j) and channels c; each vector f_l of features at a position has length 1.

Source: Zhang et al. 1801.03924.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow.nn.vgg import VGG16

MEAN, DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of the channels of ImageNet's images in [-1, 1]."""
SMALLEST = 16
"""Side of images in pixels, which is halved four times."""


@dataclass(frozen=True, eq=False)
class Perceptual:
    """The distance in the features of VGG16.

    Attributes:
        params: of the network.
        weights: (c,) for each layer.
    """

    params: Any
    weights: tuple[Float[Array, " _"], ...]

    def __call__(
        self, images: Float[Array, "b h w c"], others: Float[Array, "b h w c"]
    ) -> Float[Array, " b"]:
        """The distance of each pair.

        Args:
            images: in [-1, 1], grey or of three colours, of at least 16 x 16 pixels.
            others: of the same shape.

        Raises:
            ValueError: the images are too small, or have other channels.
        """
        _, h, w, c = images.shape
        if min(h, w) < SMALLEST or c not in (1, 3):
            raise ValueError(
                f"images of {h} x {w} x {c}: the perceptual term needs 1 or 3 channels and sides of at least"
                f" {SMALLEST} pixels"
            )
        layers = zip(self._features(images), self._features(others), self.weights, strict=True)
        each = [jnp.mean((f - g) ** 2 @ weight, axis=(1, 2)) for f, g, weight in layers]
        return jnp.sum(jnp.stack(each), axis=0)

    def _features(self, images: Float[Array, "b h w c"]) -> list[Float[Array, "b _ _ _"]]:
        coloured = jnp.broadcast_to(images, (*images.shape[:-1], 3))
        mean, deviation = (jnp.asarray(numbers)[None, None, None] for numbers in (MEAN, DEVIATION))
        features: Any = VGG16().apply({"params": self.params}, (coloured - mean) / deviation)
        # A position without any feature stays 0, and so does its gradient.
        return [f * jax.lax.rsqrt(jnp.sum(f**2, axis=-1, keepdims=True) + 1e-20) for f in features]
