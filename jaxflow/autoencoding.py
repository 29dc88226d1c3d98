"""The loss of an autoencoder: the distortion of an image x decoded from its latents z, and their divergence.

    l1    sum |decode(z) - x|            + beta KL(q(z | x) | N(0, I)),    z ~ q(z | x)
    l2    sum (decode(z) - x)^2 / 2      + beta KL(q(z | x) | N(0, I))

The squared one with beta = s^2 is s^2 times the negative evidence lower bound of a decoder with Gaussian
noise of variance s^2, up to a constant. A plain autoencoder, whose z is encode(x), has no second term.

Both blur what z does not determine. A perceptual term (`perceptual.Perceptual`) and an adversarial one,
against a discriminator D that is trained beside, do not:

    autoencoder      - D(decode(z))
    discriminator    (max(0, 1 - D(x)) + max(0, 1 + D(decode(z)))) / 2

each the mean over the patches that D judges.

Source: "Building an Image Generator", section on latent spaces; Kingma and Welling 1312.6114; Higgins et al.
2017 (beta-VAE); Esser et al. 2012.09841 for the last two terms.
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow.spaces import moments
from jaxflow.typing import Keys

Distortion = Literal["l1", "l2"]
Map = Callable[[jax.Array], jax.Array]
Params = Any


def loss(
    keys: Keys,
    encode: Map,
    decode: Map,
    images: Float[Array, "b *image"],
    *,
    beta: float | Float[Array, ""] | Float[Array, " b"],
    distortion: Distortion = "l2",
    variational: bool = True,
) -> tuple[Float[Array, " b"], Float[Array, "b *image"]]:
    """Distortion and divergence of each example, summed over its pixels and its latents; and the decoded.

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
    decoded = decode(moments.sample(keys, encoded) if variational else encoded)
    each = jnp.abs(decoded - images) if distortion == "l1" else (decoded - images) ** 2 / 2
    total = jnp.sum(each.reshape(len(images), -1), axis=1)
    return total + beta * moments.divergence(encoded) if variational else total, decoded


def adversarial(
    discriminate: Callable[[Params, jax.Array], jax.Array],
    params: Params,
    images: Float[Array, "b *image"],
    decoded: Float[Array, "b *image"],
    weight: float | Float[Array, " b"],
) -> Float[Array, " b"]:
    """The losses of both players, of which each gets only its own gradient.

    Args:
        discriminate: parameters, images -> a logit of each patch (b, ...).
        params: of the discriminator, which minimises its loss.
        images: real ones.
        decoded: from their latents, by the autoencoder, which minimises `weight` times its loss.
        weight: of the autoencoder's loss, for all or per example.
    """

    def mean(logits: jax.Array) -> Float[Array, " b"]:
        return jnp.mean(logits.reshape(len(images), -1), axis=1)

    fooled = -mean(discriminate(jax.lax.stop_gradient(params), decoded))
    real, false = (discriminate(params, x) for x in (images, jax.lax.stop_gradient(decoded)))
    return weight * fooled + (mean(jax.nn.relu(1 - real)) + mean(jax.nn.relu(1 + false))) / 2
