"""Image classifiers: of clean images, the independent judge; of noisy ones, for classifier guidance."""

import flax.linen as linen
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow.nn.embeddings import TimeEmbedding


class Classifier(linen.Module):
    """Small residual convolutional network, (b, h, w, c) -> logits (b, classes) and features (b, features).

    The features are the global average before the last layer.
    """

    classes: int
    channels: tuple[int, ...] = (16, 32, 64)
    dropout: float = 0.1

    @linen.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b classes"], Float[Array, "b features"]]:
        for i, channels in enumerate(self.channels):
            x = linen.Conv(channels, (3, 3), strides=2 if i else 1)(x)
            h = linen.Conv(channels, (3, 3))(linen.silu(linen.GroupNorm(num_groups=None, group_size=16)(x)))
            x = x + linen.Conv(channels, (3, 3))(
                linen.silu(linen.GroupNorm(num_groups=None, group_size=16)(h))
            )
        features = jnp.mean(linen.silu(linen.GroupNorm(num_groups=None, group_size=16)(x)), axis=(1, 2))
        hidden = linen.Dropout(self.dropout, deterministic=not train)(features)
        return linen.Dense(self.classes)(hidden), features


class NoisyClassifier(linen.Module):
    """Residual perceptron on all pixels and t, (b, h, w, c), (b,) -> log p_t(y | x) in nats, (b, classes)."""

    classes: int
    width: int = 384
    depth: int = 3

    @linen.compact
    def __call__(self, x: Float[Array, "b h w c"], t: Float[Array, " b"]) -> Float[Array, "b classes"]:
        h = linen.Dense(self.width)(x.reshape(x.shape[0], -1)) + TimeEmbedding(self.width)(t)
        for _ in range(self.depth):
            h = h + linen.Dense(self.width)(linen.silu(linen.LayerNorm()(h)))
        return linen.log_softmax(linen.Dense(self.classes)(linen.LayerNorm()(h)))
