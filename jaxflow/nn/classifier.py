"""Image classifiers: of clean images, as the independent judge; of noisy ones, for classifier guidance."""

from functools import partial

import flax.linen as linen
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow.nn.embeddings import TimeEmbedding


class Classifier(linen.Module):
    """Small residual convolutional network, (b, h, w, c) -> logits (b, classes) and features (b, features).

    The features are the global average pool before the last layer.
    """

    classes: int
    channels: tuple[int, ...] = (16, 32, 64)
    dropout: float = 0.1

    @linen.compact
    def __call__(
        self, x: Float[Array, "b h w c"], *, train: bool = False
    ) -> tuple[Float[Array, "b classes"], Float[Array, "b features"]]:
        norm = partial(linen.GroupNorm, num_groups=None, group_size=16)
        for i, channels in enumerate(self.channels):
            conv = partial(linen.Conv, channels, (3, 3))
            x = conv(strides=2 if i else 1, name=f"down_{i}" if i else "stem")(x)
            h = conv(name=f"conv1_{i}")(linen.silu(norm(name=f"norm1_{i}")(x)))
            x = x + conv(name=f"conv2_{i}")(linen.silu(norm(name=f"norm2_{i}")(h)))
        features = jnp.mean(linen.silu(norm(name="final_norm")(x)), axis=(1, 2))
        hidden = linen.Dropout(self.dropout, deterministic=not train, name="dropout")(features)
        return linen.Dense(self.classes, name="logits")(hidden), features


class NoisyClassifier(linen.Module):
    """Residual MLP on all pixels and t, (b, h, w, c), (b,) -> log p_t(y | x) in nats, (b, classes)."""

    classes: int
    width: int = 384
    depth: int = 3

    @linen.compact
    def __call__(self, x: Float[Array, "b h w c"], t: Float[Array, " b"]) -> Float[Array, "b classes"]:
        h = linen.Dense(self.width, name="pixels")(x.reshape(x.shape[0], -1))
        h = h + TimeEmbedding(self.width, name="time_embedding")(t)
        for i in range(self.depth):
            normed = linen.LayerNorm(name=f"norm_{i}")(h)
            h = h + linen.Dense(self.width, name=f"dense_{i}")(linen.silu(normed))
        normed = linen.LayerNorm(name="final_norm")(h)
        return linen.log_softmax(linen.Dense(self.classes, name="logits")(normed))
