"""Apply a compiled function to many examples block by block, over the devices of all processes.

All blocks have one size, so that one program serves them; the last is padded with examples that occur again,
and their results are dropped.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Int

from jaxflow import progress
from jaxflow.devices import mesh, processes


def in_blocks(
    function: Callable[[Any], Any],
    examples: Any,
    *,
    size: int,
    sharding: NamedSharding | None = None,
    name: str | None = None,
) -> Any:
    """`function` of all examples, a block at a time: a tree of arrays (n, ...) on the host, in each process.

    Args:
        function: compiled, from a tree of arrays (block, ...) to another one.
        examples: a tree of arrays (n, ...) on the host.
        size: examples in a block, at most n; rounded up to a multiple of the devices.
        sharding: of the examples, over devices; if None, one device.
        name: of the progress bar; if None, there is none.

    >>> in_blocks(lambda x: x + 1, np.arange(5), size=2).tolist()
    [1, 2, 3, 4, 5]
    """
    sharding = mesh.on_one_device() if sharding is None else sharding
    n = len(jax.tree.leaves(examples)[0])
    shares = sharding.mesh.shape[mesh.EXAMPLES]
    size = -(-min(size, n) // shares) * shares
    rows = mesh.rows_here(sharding, size)
    starts, results = range(0, n, size), []
    silent = name is None or not processes.is_first()
    for start in starts if silent else progress.over(starts, str(name), unit="block"):
        block = mesh.distribute(_rows(examples, (start + rows) % n), sharding, size, rows)
        with mesh.use(sharding):
            result = function(block)
        results.append(mesh.on_host(result))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:n], *results)


def _rows(examples: Any, rows: Int[np.ndarray, " n"]) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], examples)
