"""Whether a checkpoint, read back, is what was saved: by fingerprints of its arrays.

The fingerprint of an array is the sum modulo 2^32, over its shards, of the CRC-32 of a shard and its offsets.
Arrays are read back onto the host, a few at a time, and need no device memory. Each of several processes
reads all arrays and compares the shards that it wrote. Orbax numbers the reads of a process: all read alike.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

LIMIT = 2**28
"""Bytes that are read at a time, or one array if that is larger."""


def fingerprints(tree: Any) -> np.ndarray:
    """One number for each array, over the shards that this process writes."""
    return np.array([_of_shards(leaf) for leaf in jax.tree.leaves(tree)], np.uint32)


def check(load: Callable[[list[bool]], list[Any]], like: Any, expected: np.ndarray) -> None:
    """Read all arrays and compare their fingerprints with those of the state.

    Args:
        load: which of the leaves to read -> the leaves, of which those that are read are NumPy arrays.
        like: the leaves' shapes, types and shardings as they were saved.
        expected: of `fingerprints`.

    Raises:
        ValueError: an array is not what was saved.
    """
    leaves, differing = jax.tree.leaves_with_path(like), []
    for group in _groups([leaf for _, leaf in leaves]):
        read = load([i in group for i in range(len(leaves))])
        differing += [i for i in group if _of_indices(read[i], leaves[i][1]) != expected[i]]
    if differing:
        name = jax.tree_util.keystr(leaves[differing[0]][0], simple=True, separator="/")
        raise ValueError(f"read back, {name} is not what was saved")


def _groups(leaves: list[Any]) -> Iterator[range]:
    start = size = 0
    for i, leaf in enumerate(leaves):
        bytes_of = leaf.size * leaf.dtype.itemsize
        if i > start and size + bytes_of > LIMIT:
            yield range(start, i)
            start, size = i, 0
        size += bytes_of
    yield range(start, len(leaves))


def _of_shards(leaf: jax.Array) -> int:
    shards = (shard for shard in leaf.addressable_shards if shard.replica_id == 0)
    return sum(_crc(np.asarray(shard.data), shard.index) for shard in shards) % 2**32


def _of_indices(array: Any, leaf: jax.ShapeDtypeStruct) -> int:
    if array.shape != leaf.shape or array.dtype != leaf.dtype:
        return -1
    assert leaf.sharding is not None
    written = _written_here(leaf.sharding.devices_indices_map(leaf.shape))
    return sum(_crc(np.asarray(array[index]), index) for index in written) % 2**32


def _written_here(indices: Mapping[jax.Device, Any]) -> list[Any]:
    """The indices of the shards of which this process holds the first copy."""
    first: dict[tuple[int, ...], jax.Device] = {}
    for device, index in indices.items():
        first.setdefault(_place(index), device)
    return [indices[device] for device in first.values() if device.process_index == jax.process_index()]


def _crc(part: np.ndarray, index: tuple[slice, ...]) -> int:
    content = np.ascontiguousarray(part).reshape(-1).view(np.uint8).data
    return zlib.crc32(content, zlib.crc32(repr(_place(index)).encode()))


def _place(index: tuple[slice, ...]) -> tuple[int, ...]:
    return tuple(each.start or 0 for each in index)
