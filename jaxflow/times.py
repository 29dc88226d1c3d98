"""Times: the grids that samplers walk along, and the laws that training draws from.

A grid is an increasing array from 0 (noise) to 1 (data); its length less one is the number of
steps. A law is given by its quantile function, from uniform numbers in [0, 1) to times: the
uniform law is the identity.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri
from jaxtyping import Array, Float

Quantile = Callable[[jax.Array], jax.Array]
"""Uniform numbers in [0, 1) -> times in [0, 1], same shape."""


def precision(dtype: jnp.dtype) -> jnp.dtype:
    """The dtype of times beside data of `dtype`: float32 at least, since 1 - t vanishes in bfloat16.

    >>> precision(jnp.dtype("bfloat16")), precision(jnp.dtype("float64"))
    (dtype('float32'), dtype('float64'))
    """
    return jnp.dtype(dtype if jnp.finfo(dtype).bits >= 32 else jnp.float32)


def uniform(n: int) -> Float[Array, " steps"]:
    """Grid of n equal steps from 0 to 1, (n + 1,).

    >>> uniform(4).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    if n < 1:
        raise ValueError(f"n = {n}: a grid of times needs at least 1 step")
    return jnp.linspace(0.0, 1.0, n + 1)


def uniform_law(u: Float[Array, "..."]) -> Float[Array, "..."]:
    """Quantile function of the uniform law: t = u."""
    return u


def logit_normal_law(mean: float = 0.0, deviation: float = 1.0) -> Quantile:
    """Quantile function of t = sigmoid(mean + deviation z), z standard normal.

    Source: Esser et al. 2403.03206, section 3.1.

    >>> logit_normal_law()(jnp.array([0.5])).tolist()
    [0.5]
    """
    return lambda u: jax.nn.sigmoid(mean + deviation * ndtri(jnp.maximum(u, jnp.finfo(u.dtype).tiny)))
