"""Examples on the host and examples over devices, of one process or of many.

Many examples go through a compiled function block by block. All blocks have one size, so that one program
serves them; the last is filled up with examples that come again, whose results are dropped.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Int
from tqdm import tqdm


def on_one_device() -> NamedSharding:
    """All examples on the first device of this process."""
    devices = jax.local_devices()[:1]
    mesh = jax.make_mesh((1,), ("examples",), axis_types=(AxisType.Auto,), devices=devices)
    return NamedSharding(mesh, PartitionSpec("examples"))


def places_here(sharding: NamedSharding, size: int) -> Int[np.ndarray, " n"]:
    """Places of the examples, of `size`, that devices of this process hold, in their order."""
    parts = sharding.addressable_devices_indices_map((size,)).values()
    return np.unique(np.concatenate([np.arange(size)[index] for index in parts]))


def lay(part: Any, sharding: NamedSharding, size: int, places: Int[np.ndarray, " n"]) -> Any:
    """`size` examples over the devices of `sharding`, from those at `places`, which this process has.

    Args:
        part: a tree of arrays (n, ...) on the host.
        sharding: of the axis of examples, over devices of this and of other processes.
        size: examples of all processes together.
        places: those of `part`; all that devices of this process hold.
    """

    def place(leaf: np.ndarray) -> Array:
        def rows(index: Any) -> np.ndarray:
            whole = len(places) == size
            return leaf[index[0] if whole else np.searchsorted(places, np.arange(size)[index[0]])]

        return jax.make_array_from_callback((size, *leaf.shape[1:]), sharding, rows)

    return jax.tree.map(place, part)


def on_host(tree: Any) -> Any:
    """Arrays that lie over the devices of all processes, whole, in each process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)


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
    sharding = on_one_device() if sharding is None else sharding
    n = len(jax.tree.leaves(examples)[0])
    shares = sharding.num_devices // sharding.shard_shape((sharding.num_devices,))[0]
    size = -(-min(size, n) // shares) * shares
    places = places_here(sharding, size)
    results = []
    silent = name is None or jax.process_index() > 0
    for start in tqdm(range(0, n, size), name, unit="block", leave=False, disable=silent):
        block = _rows(examples, (start + places) % n)
        results.append(on_host(function(lay(block, sharding, size, places))))
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:n], *results)


def _rows(examples: Any, rows: Int[np.ndarray, " n"]) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf)[rows], examples)
