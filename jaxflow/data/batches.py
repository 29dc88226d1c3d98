"""Batches of images and their conditions on the device; batch n is a pure function of (seed, n).

The order is Grain's: all examples shuffled anew in each epoch, epochs end to end, cut into batches.
Resuming at step n is starting at batch n, on any machine.

A data set that is small enough is decoded once and stays on the devices, so that a batch is a
gather; of a larger one the images are read and decoded ahead by Grain's threads, in each process those of its
share of the batch. Both give the same batches.
"""

from collections.abc import Iterator
from typing import Any

import grain
import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Int

from jaxflow.data.checks import stack_checked
from jaxflow.data.dataset import RESIDENT_BYTES, Dataset
from jaxflow.devices import layouts

Batch = dict[str, Any]
"""{"image": uint8 (b, h, w, c), "y": condition, a pytree with a leading axis, "number": int32 (b,)}.

`number` is that of an example in its batch, 0 to b - 1, and so of its random keys, on whichever device it is.
"""


def order(size: int, seed: int, batch_size: int) -> grain.MapDataset:
    """The batches as positions in a data set of `size` examples: entry n is (batch_size,) int64.

    Raises:
        ValueError: batch_size below 1 or above `size`, or a negative seed.
    """
    if not 1 <= batch_size <= size:
        raise ValueError(
            f"batch_size = {batch_size}: the data set has {size} examples, allowed are 1 to {size}"
        )
    if seed < 0:
        raise ValueError(f"seed = {seed}: a number from 0 is needed")
    return grain.MapDataset.range(size).seed(seed).shuffle().repeat().batch(batch_size)


def batches(
    dataset: Dataset,
    *,
    seed: int,
    batch_size: int,
    start: int = 0,
    sharding: NamedSharding | None = None,
    resident: bool | None = None,
) -> Iterator[Batch]:
    """Batch `start`, `start` + 1, ... without end; a process reads the examples of its devices only.

    Args:
        dataset: images and their conditions.
        seed: of the order.
        batch_size: examples in a batch.
        start: number of the first batch, for resuming.
        sharding: how the axis of examples is laid over devices, of several processes too; the default
            device if left out.
        resident: keep the decoded data set on the devices; by its size if left out.
    """
    if sharding is None:
        sharding = layouts.on_one_device()
    size = len(dataset)
    if resident is None:
        condition_bytes = sum(np.asarray(leaf).nbytes for leaf in jax.tree.leaves(dataset.codec.null))
        resident = size * (int(np.prod(dataset.image_shape)) + condition_bytes) <= RESIDENT_BYTES
    rows = layouts.rows_here(sharding, batch_size)
    positions = order(size, seed, batch_size)[start:].map(lambda batch: batch[rows])

    def lay(part: Any) -> Any:
        """The examples of this process as its part of the batch."""
        return layouts.lay(part, sharding, batch_size, rows)

    number = {"number": lay(rows.astype(np.int32))}
    if not resident:
        return (lay(part) | number for part in _read_ahead(positions.map(lambda part: _read(dataset, part))))
    everywhere = layouts.replicated(sharding)
    everything = layouts.lay(_read(dataset, np.arange(size)), everywhere, size, np.arange(size))
    gather = jax.jit(_gather, out_shardings=sharding)
    return (gather(everything, lay(part.astype(np.int32))) | number for part in _read_ahead(positions))


def load(dataset: Dataset) -> Batch:
    """The whole data set, decoded, in its own order, on the host; there is no `number`."""
    return _read(dataset, np.arange(len(dataset)))


def _read(dataset: Dataset, positions: np.ndarray) -> Batch:
    return stack_checked(dataset, positions, dataset.examples(positions.tolist()))


def _read_ahead(dataset: grain.MapDataset) -> Iterator:
    return iter(dataset.to_iter_dataset(grain.ReadOptions(num_threads=2, prefetch_buffer_size=16)))


def _gather(everything: Batch, positions: Int[Array, " b"]) -> Batch:
    return jax.tree.map(lambda leaf: leaf[positions], everything)
