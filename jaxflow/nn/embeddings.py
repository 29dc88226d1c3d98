"""Embeddings of time and of place: numbers as vectors that a network can tell apart."""

import flax.linen as linen
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped


def sinusoidal(position: Shaped[Array, " n"], width: int, *, longest: float) -> Float[Array, "n width"]:
    """Cosines and sines of `position` at width / 2 geometric frequencies, from 1 down to 1 / longest.

    Source: Vaswani et al. 1706.03762, section 3.5.
    """
    frequencies = jnp.exp(-np.log(longest) * jnp.arange(width // 2, dtype=jnp.float32) / (width // 2))
    angles = position[:, None].astype(jnp.float32) * frequencies[None]
    return jnp.concatenate([jnp.cos(angles), jnp.sin(angles)], axis=-1)


def grid_positions(height: int, width: int, channels: int) -> Float[Array, "tokens channels"]:
    """Sinusoidal embedding of the places of a grid, row by row: half the channels each for row and column."""
    rows, columns = jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij")
    halves = [sinusoidal(axis.ravel(), channels // 2, longest=1e4) for axis in (rows, columns)]
    return jnp.concatenate(halves, axis=-1)


class TimeEmbedding(linen.Module):
    """t in [0, 1] as a vector: sinusoids of 1000 t, then a two-layer MLP. Always float32 inside."""

    width: int
    frequencies: int = 128

    @linen.compact
    def __call__(self, t: Float[Array, " b"]) -> Float[Array, "b width"]:
        features = sinusoidal(1000 * t, self.frequencies, longest=1e4)
        hidden = linen.silu(linen.Dense(self.width)(features))
        return linen.Dense(self.width)(hidden)
