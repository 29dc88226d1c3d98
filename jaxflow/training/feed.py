"""The batches of a training, on the devices, each like the first."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding

Batches = Callable[[int], Iterator[Any]]
"""n -> the batches of steps n + 1, n + 2, ...: trees of arrays with a leading axis of examples."""


class Feed:
    """Batches from a step on; arrays of NumPy are laid out over the devices.

    Args:
        batches: from a step on.
        start: steps done before.
        sharding: of the examples.

    Raises:
        ValueError: there is no batch, or it is no tree of arrays with one leading axis, of 1 at least.
    """

    def __init__(self, batches: Batches, start: int, sharding: NamedSharding):
        self._sharding, self._step = sharding, start
        self._stream = iter(batches(start))
        first = next(self._stream, None)
        if first is None:
            raise ValueError(f"batches({start}) has no batch: they have to go on to the last step")
        self.size = _examples(first)
        """Examples of a batch."""
        self._like = _kinds(first)
        self.first = self._laid(first)

    def next(self) -> Any | None:
        """The next batch; None where they end.

        Raises:
            ValueError: its arrays are not like those of the first.
        """
        self._step += 1
        batch = next(self._stream, None)
        if batch is None:
            return None
        if _kinds(batch) != self._like:
            raise ValueError(
                f"batch of step {self._step + 1} is {_kinds(batch)}: as the first, {self._like}, is needed"
            )
        return self._laid(batch)

    def _laid(self, batch: Any) -> Any:
        if all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(batch)):
            return batch
        if jax.process_count() > 1:
            raise ValueError(
                "batches of NumPy arrays are those of one process: lay them out over all devices"
            )
        return jax.device_put(batch, self._sharding)


def _examples(batch: Any) -> int:
    lengths = {np.shape(leaf)[0] if np.ndim(leaf) else 0 for leaf in jax.tree.leaves(batch)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"a batch has arrays of lengths {sorted(lengths)}: one leading axis of examples is needed, in all"
        )
    return lengths.pop()


def _kinds(batch: Any) -> dict[str, str]:
    named = jax.tree.leaves_with_path(batch)
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): f"{leaf.dtype} {tuple(leaf.shape)}"
        for path, leaf in named
    }
