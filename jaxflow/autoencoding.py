"""The loss of an autoencoder: the distortion of an image decoded from its latents z, and their divergence.

    l1    sum |decode(z) - x|            + beta KL(q(z | x) | N(0, I)),    z ~ q(z | x)
    l2    sum (decode(z) - x)^2 / 2      + beta KL(q(z | x) | N(0, I))

The squared one with beta = s^2 is s^2 times the negative evidence lower bound of a decoder with Gaussian
noise of variance s^2, up to a constant. A plain autoencoder, whose z is encode(x), has no second term.

Source: "Building an Image Generator", section on latent spaces; Kingma and Welling 1312.6114; Higgins et al.
2017 (beta-VAE).
"""

from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow.spaces import moments
from jaxflow.typing import Keys

Distortion = Literal["l1", "l2"]
Map = Callable[[jax.Array], jax.Array]


def loss(
    keys: Keys,
    encode: Map,
    decode: Map,
    images: Float[Array, "b *image"],
    *,
    beta: float | Float[Array, ""] | Float[Array, " b"],
    distortion: Distortion = "l2",
    variational: bool = True,
) -> Float[Array, " b"]:
    """Distortion and divergence of each example, summed over its pixels and its latents.

    Args:
        keys: of the latents, one or one per example.
        encode: images -> moments, or latents if not variational.
        decode: latents -> images.
        images: in [-1, 1].
        beta: weight of the divergence, for all or per example.
        distortion: l1 or l2.
        variational: whether the encoder returns moments.
    """
    encoded = encode(images)
    error = decode(moments.sample(keys, encoded) if variational else encoded) - images
    each = jnp.abs(error) if distortion == "l1" else error**2 / 2
    total = jnp.sum(each.reshape(len(images), -1), axis=1)
    return total + beta * moments.divergence(encoded) if variational else total
