"""The batches of a training on its devices, all of one shape."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

Batches = Callable[[int], Iterator[Any]]
"""n -> the batches of steps n + 1, n + 2, ...: trees of arrays with a leading axis of examples."""


class Feed:
    """Batches from a step on; NumPy arrays are sharded over the devices.

    Args:
        batches: from a step on.
        start: steps done before.
        sharding: of the examples.

    Raises:
        ValueError: there is no batch, or it is not a tree of arrays with a common, non-empty leading axis.
    """

    def __init__(self, batches: Batches, start: int, sharding: NamedSharding):
        self._sharding, self._step = sharding, start
        self._stream = iter(batches(start))
        first = next(self._stream, None)
        if first is None:
            raise ValueError(f"batches({start}) yields no batch: it must last to the last step")
        self.size = _examples(first)
        """Examples of a batch."""
        self._like = _kinds(first)
        self.first = self._placed(first)

    def next(self) -> Any | None:
        """The next batch; None at the end.

        Raises:
            ValueError: its shapes or dtypes differ from those of the first.
        """
        self._step += 1
        batch = next(self._stream, None)
        if batch is None:
            return None
        if _kinds(batch) != self._like:
            raise ValueError(
                f"batch of step {self._step + 1} is {_kinds(batch)}: expected {self._like}, as the first"
            )
        return self._placed(batch)

    def _placed(self, batch: Any) -> Any:
        if all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(batch)):
            return batch
        if jax.process_count() > 1:
            raise ValueError("batches of NumPy arrays work in one process only: shard them over all devices")
        return jax.device_put(batch, self._sharding)


def _examples(batch: Any) -> int:
    lengths = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in jax.tree.leaves(batch)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"a batch has arrays of lengths {sorted(lengths)}: expected one leading axis of examples in all"
        )
    return lengths.pop()


def _kinds(batch: Any) -> dict[str, str]:
    named = jax.tree.leaves_with_path(batch)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): f"{leaf.dtype} {tuple(leaf.shape)}"
        for path, leaf in named
    }
