"""Exact networks of a Gaussian mixture for us and for the peers, and arrays converted between the two."""

import jax
import jax.numpy as jnp
import numpy as np
from conftest import Lazy, three_components

from jaxflow import mixtures
from jaxflow.per_example import expand

torch = Lazy("torch")


def to_torch(x):
    return torch.from_numpy(np.array(x))


def to_jax(x):
    return jnp.asarray(x.detach().numpy())


def points(n=8, seed=0):
    return jax.random.normal(jax.random.key(seed), (n, 2))


def velocity(path):
    """The marginal velocity, (x, t) -> (b, d)."""
    return lambda x, t: mixtures.velocity(three_components(), path, x, t)


def noise(path):
    return lambda x, t: -expand(path.beta(t), x) * mixtures.score(three_components(), path, x, t)


def v(path):
    """alpha noise - beta data, of Salimans and Ho."""

    def network(x, t):
        data = mixtures.denoise(three_components(), path, x, t)
        return expand(path.alpha(t), x) * noise(path)(x, t) - expand(path.beta(t), x) * data

    return network


def in_torch(network):
    """The network for a peer: (x, a single time of ours) -> its output, in torch."""
    compiled = jax.jit(network)
    return lambda x, t: to_torch(compiled(to_jax(x), jnp.full(len(x), float(t))))
