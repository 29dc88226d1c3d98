"""Image classifier: the independent judge of generated images, trained on real ones only."""

import flax.linen as linen
import jax.numpy as jnp
from jaxtyping import Array, Float


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
