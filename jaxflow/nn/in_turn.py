"""A CPU workaround: the weights of a block are converted only when the block is computed.

XLA for CPUs multiplies 16-bit matrices in float32, and converts the weights of all blocks before the first
one runs, which takes twice the memory of the whole network again (JAX 0.10.2, T5-XXL: 17 GiB). It cannot do
so across a branch. Delete this module when the bound in `tests/nn/test_in_turn.py` holds without it.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import flax.linen as linen
import jax
import jax.numpy as jnp

from jaxflow.devices import mesh
from jaxflow.nn.attributes import Dtype

X = TypeVar("X")


def in_turn(apply: Callable[[Any, X], X], block: linen.Module, x: X, dtype: Dtype | str) -> X:
    """`apply(block, x)`; on a CPU in bfloat16 behind a branch that is taken while x is finite."""
    if dtype != "bfloat16" or mesh.platform() != "cpu" or block.is_initializing():
        return apply(block, x)
    first = jax.tree.leaves(x)[0].reshape(-1)[0]
    return linen.cond(jnp.isfinite(first), apply, lambda block, x: x, block, x)
