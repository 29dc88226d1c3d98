"""Moments of the latents of a variational autoencoder: their means and log variances, along the last axis.

    sample        z = mean + exp(log variance / 2) e,    e ~ N(0, I)
    divergence    KL(N(mean, variance) | N(0, 1)) = (mean^2 + variance - log variance - 1) / 2, summed

A data set is stored as moments, so that each step of training draws latents of its own.

Source: Kingma and Welling 1312.6114, appendix B.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxflow import per_example
from jaxflow.typing import Keys

BOUNDS = -30.0, 20.0
"""Of a log variance, as in Stable Diffusion: an untrained encoder may exceed the range of exp."""


def split(moments: Float[Array, "*b k2"]) -> tuple[Float[Array, "*b k"], Float[Array, "*b k"]]:
    """Means and log variances."""
    mean, log_variance = jnp.split(moments, 2, axis=-1)
    return mean, jnp.clip(log_variance, *BOUNDS)


def sample(keys: Keys, moments: Float[Array, "b *event k2"]) -> Float[Array, "b *event k"]:
    """Latents with these moments, from one key or one per example."""
    mean, log_variance = split(moments)
    keys = per_example.keys(keys, len(mean))
    return mean + jnp.exp(log_variance / 2) * per_example.normal(keys, mean.shape[1:])


def divergence(moments: Float[Array, "b *event k2"]) -> Float[Array, " b"]:
    """The divergence from N(0, I), in nats per example."""
    mean, log_variance = split(moments)
    terms = mean**2 + jnp.exp(log_variance) - log_variance - 1
    return jnp.sum(terms.reshape(len(terms), -1), axis=1) / 2
