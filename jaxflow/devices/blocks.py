"""Many examples go through a compiled function block by block, over the devices of all processes.

All blocks have one size, so that one program serves them; the last is filled up with examples that come
again, whose results are dropped.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Int
from tqdm import tqdm

from jaxflow.devices import layouts


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
        function: compiled, of a tree of arrays (block, ...) to another one.
        examples: a tree of arrays (n, ...) on the host.
        size: of a block; made a multiple of the devices, and no more than there are examples.
        sharding: over devices; one device if left out.
        name: of the progress bar; none if left out.

    >>> in_blocks(lambda x: x + 1, np.arange(5), size=2).tolist()
    [1, 2, 3, 4, 5]
    """
    sharding = layouts.on_one_device() if sharding is None else sharding
    n = len(jax.tree.leaves(examples)[0])
    shares = sharding.mesh.shape[layouts.EXAMPLES]
    size = -(-min(size, n) // shares) * shares
    rows = layouts.rows_here(sharding, size)
    results = []
    silent = name is None or jax.process_index() > 0
    for start in tqdm(range(0, n, size), name, unit="block", leave=False, disable=silent):
        block = _rows(examples, (start + rows) % n)
        results.append(layouts.on_host(function(layouts.lay(block, sharding, size, rows))))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:n], *results)


def _rows(examples: Any, rows: Int[np.ndarray, " n"]) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], examples)
