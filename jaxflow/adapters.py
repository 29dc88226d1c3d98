"""Low-rank adapters: small changes of a network's kernels, trained while the network itself is frozen.

    kernel + scale (down @ up),    down (in, rank), up (rank, out)

An adapter acts on parameters, not on layers: the adapted network is the network at other parameters, and
costs nothing when it is sampled. Several are added at their scales.

Source: Hu et al. 2106.09685, section 4.1.
"""

import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import traverse_util
from jaxtyping import Array, Float, PRNGKeyArray

from jaxflow import ranges
from jaxflow.ranges import quoted

Params = Any


class Factors(NamedTuple):
    """The two factors of the change of a kernel."""

    down: Float[Array, "n rank"]
    up: Float[Array, "rank m"]


Adapter = dict[str, Factors]
"""By the path of the kernel in the parameters, joined by slashes."""
ATTENTION = r"(attention/|image_|text_)(query|key|value|out)/kernel$"
"""Paths of the kernels of attention."""


def initial(key: PRNGKeyArray, params: Params, rank: int, kernels: str = ATTENTION) -> Adapter:
    """An adapter that changes nothing yet: `up` is zero.

    Args:
        key: of `down`.
        params: of the network, or their shapes.
        rank: of the changes.
        kernels: regular expression that the paths of the adapted kernels contain; of matrices only.

    Raises:
        ValueError: the rank is below 1, or no kernel has such a path.

    >>> params = {"query": {"kernel": jnp.ones((4, 3)), "bias": jnp.ones(3)}}
    >>> jax.tree.map(jnp.shape, initial(jax.random.key(0), params, 2, "query"))
    {'query/kernel': Factors(down=(4, 2), up=(2, 3))}
    """
    ranges.at_least(1, 4096, rank=rank)
    named = traverse_util.flatten_dict(params, sep="/")
    shapes = {name: leaf.shape for name, leaf in named.items() if leaf.ndim == 2 and re.search(kernels, name)}
    if not shapes:
        raise ValueError(f"kernels = {quoted(kernels)}: no path of a matrix contains it")
    keys = jax.random.split(key, len(shapes))
    return {
        name: Factors(jax.random.normal(each, (n, rank)) / math.sqrt(n), jnp.zeros((rank, m)))
        for each, (name, (n, m)) in zip(keys, shapes.items(), strict=True)
    }


def merge(params: Params, adapters: Iterable[tuple[Adapter, float | Array]]) -> Params:
    """The parameters of the adapted network, of the same types.

    Args:
        params: of the network.
        adapters: with their scales.

    Raises:
        ValueError: an adapter is of another network; the message names the kernel.

    >>> adapter = {"kernel": Factors(jnp.ones((2, 1)), jnp.ones((1, 2)))}
    >>> merge({"kernel": jnp.zeros((2, 2))}, [(adapter, 0.5), (adapter, 1.0)])["kernel"].tolist()
    [[1.5, 1.5], [1.5, 1.5]]
    """
    named = traverse_util.flatten_dict(params, sep="/")
    for adapter, scale in adapters:
        for name, (down, up) in adapter.items():
            shape = (down.shape[0], up.shape[1])
            if name not in named or named[name].shape != shape:
                found = named[name].shape if name in named else "none"
                raise ValueError(f"adapter: it changes {name} of the shape {shape}; the network has {found}")
            kernel = named[name]
            change = jnp.matmul(down, up, preferred_element_type=jnp.float32)
            named[name] = (kernel.astype(jnp.float32) + scale * change).astype(kernel.dtype)
    return traverse_util.unflatten_dict(named, sep="/")
