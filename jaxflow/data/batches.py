"""Batches of images and their conditions on the device; batch n is a pure function of (seed, n).

The order is Grain's: all examples are reshuffled each epoch, and the epochs are concatenated and cut into
batches. To resume at step n is to start at batch n, on any machine.

A small data set is decoded once and kept on the devices, so that a batch is a gather. The images of a larger
one are read and decoded ahead by Grain's threads, in each process those of its shard of the batch. Both give
the same batches.
"""

from collections.abc import Iterator
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Int

from jaxflow.data.checks import stack_checked
from jaxflow.data.dataset import BLOCK, RESIDENT_BYTES, Dataset
from jaxflow.devices import mesh

Batch = dict[str, Any]
"""{"image": uint8 (b, h, w, c), "y": condition, a pytree with a leading axis, "number": int32 (b,)}.

In place of images there may be "moments" of their latents.
`number` is the index of an example in its batch, 0 to b - 1, which fixes its random keys on any device.
"""


def order(size: int, seed: int, batch_size: int) -> grain.MapDataset:
    """The batches as positions in a data set of `size` examples: entry n is (batch_size,) int64.

    Raises:
        ValueError: batch_size below 1 or above `size`, or a negative seed.
    """
    if not 1 <= batch_size <= size:
        raise ValueError(
            f"batch_size = {batch_size}: must be from 1 to {size}, the number of examples in the data set"
        )
    if seed < 0:
        raise ValueError(f"seed = {seed}: must be at least 0")
    epochs = 2**62 // size  # without a number, Grain's length overflows in batches of one
    return grain.MapDataset.range(size).seed(seed).shuffle().repeat(epochs).batch(batch_size)


def batches(
    dataset: Dataset,
    *,
    seed: int,
    batch_size: int,
    start: int = 0,
    sharding: NamedSharding | None = None,
    resident: bool | None = None,
) -> Iterator[Batch]:
    """Batches `start`, `start` + 1, ... without end; a process reads the examples of its devices only.

    Args:
        dataset: images and their conditions.
        seed: of the order.
        batch_size: examples in a batch.
        start: number of the first batch, for resuming.
        sharding: of the axis of examples over devices, also of several processes; if None, on the default
            device.
        resident: keep the decoded data set on the devices; if None, where it is small.
    """
    if sharding is None:
        sharding = mesh.on_one_device()
    size = len(dataset)
    if resident is None:
        resident = (
            size * sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(dataset.like)) <= RESIDENT_BYTES
        )
    rows = mesh.rows_here(sharding, batch_size)
    positions = order(size, seed, batch_size)[start:].map(lambda batch: batch[rows])

    def distribute(part: Any) -> Any:
        """This process's examples as its part of the batch."""
        return mesh.distribute(part, sharding, batch_size, rows)

    number = {"number": distribute(rows.astype(np.int32))}
    if not resident:
        read = positions.map(lambda part: _read(dataset, part))
        return (distribute(part) | number for part in _read_ahead(read))
    everywhere = mesh.replicated(sharding)
    everything = mesh.distribute(load(dataset), everywhere, size, np.arange(size))
    gather = jax.jit(_gather, out_shardings=sharding)
    return (gather(everything, distribute(part.astype(np.int32))) | number for part in _read_ahead(positions))


def load(dataset: Dataset, positions: Int[np.ndarray, " n"] | None = None) -> Batch:
    """Decoded examples on the host, without `number`; the memory for it is that of the result and one block.

    Args:
        dataset: images and their conditions.
        positions: of the examples to load; if None, all in their order.
    """
    positions = np.arange(len(dataset)) if positions is None else positions
    first = _read(dataset, positions[:BLOCK])
    loaded = jax.tree.map(lambda leaf: np.empty((len(positions), *leaf.shape[1:]), leaf.dtype), first)
    for start in range(0, len(positions), BLOCK):
        block = slice(start, start + BLOCK)
        part = _read(dataset, positions[block]) if start else first
        jax.tree.map(lambda leaf, values, block=block: leaf.__setitem__(block, values), loaded, part)
    return loaded


def _read(dataset: Dataset, positions: np.ndarray) -> Batch:
    return stack_checked(dataset, positions, dataset.examples(positions.tolist()))


def _read_ahead(dataset: grain.MapDataset) -> Iterator:
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=16)))


def _gather(everything: Batch, positions: Int[Array, " b"]) -> Batch:
    return jax.tree.map(lambda leaf: leaf[positions], everything)
