"""Images are uint8 outside and floats in [-1, 1] inside."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, UInt8


def to_float(images: UInt8[Array, "..."]) -> Float[Array, "..."]:
    """0..255 -> [-1, 1], float32.

    >>> to_float(jnp.array([0, 255], jnp.uint8)).tolist()
    [-1.0, 1.0]
    """
    return images.astype(jnp.float32) / 127.5 - 1


def to_uint8(images: Float[Array, "..."]) -> UInt8[Array, "..."]:
    """[-1, 1] -> 0..255, rounded; what lies outside is clipped. The inverse of `to_float`.

    >>> to_uint8(jnp.array([-1.2, 0.0, 1.0])).tolist()
    [0, 128, 255]
    """
    return jax.lax.round(
        jnp.clip(images * 127.5 + 127.5, 0, 255), jax.lax.RoundingMethod.TO_NEAREST_EVEN
    ).astype(jnp.uint8)
