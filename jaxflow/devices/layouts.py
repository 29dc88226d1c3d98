"""How arrays lie over devices, of one process or of many: a mesh of two axes, and rules that see only shapes.

    examples   a batch is split over it, and when a state is fully sharded each of its large arrays
    tensor     the inputs or the outputs of each kernel are split over it: widths that one device cannot hold

Of a kernel the longer side is split over `tensor`, so that in an MLP the hidden layer is (Shoeybi et al.
1909.08053), and of a square one the outputs, the heads of an attention. The compiler adds the exchanges.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

EXAMPLES, TENSOR = "examples", "tensor"
SMALL = 2**14
"""Arrays of fewer numbers are not worth the exchange that splitting them costs."""


def over_examples(devices: Sequence[jax.Device] | None = None, tensor: int = 1) -> NamedSharding:
    """The first axis of a batch split over the mesh of the devices, all if left out.

    Raises:
        ValueError: the number of devices is not a multiple of `tensor`.
    """
    devices = jax.devices() if devices is None else devices
    if tensor < 1 or len(devices) % tensor:
        raise ValueError(f"tensor = {tensor}: it must divide the number of devices, {len(devices)}")
    shape = (len(devices) // tensor, tensor)
    mesh = jax.make_mesh(shape, (EXAMPLES, TENSOR), axis_types=(AxisType.Auto,) * 2, devices=devices)
    return NamedSharding(mesh, PartitionSpec(EXAMPLES))


def on_one_device() -> NamedSharding:
    """All examples on the first device of this process."""
    return over_examples(jax.local_devices()[:1])


def replicated(sharding: NamedSharding) -> NamedSharding:
    """A full copy on each device of `sharding`."""
    return NamedSharding(sharding.mesh, PartitionSpec())


def split(shape: tuple[int, ...], sharding: NamedSharding, *, fully: bool) -> NamedSharding:
    """A parameter, moment or average split over `tensor`, and over `examples` too when `fully`.

    Args:
        shape: of the array; small ones are replicated, and so is what does not divide evenly.
        sharding: of a batch.
        fully: split the longest axis that is left over `examples`.
    """
    names: list[str | None] = [None] * len(shape)

    def give(name: str, axes: Iterable[int]) -> None:
        parts = sharding.mesh.shape[name]
        free = [axis for axis in axes if names[axis] is None and shape[axis] % parts == 0]
        if parts > 1 and free:
            names[max(free, key=lambda axis: (shape[axis], axis))] = name

    if math.prod(shape) >= SMALL:
        every = range(len(shape))
        give(TENSOR, every[-2:] if len(shape) > 1 else ())
        give(EXAMPLES, every if fully else ())
    return NamedSharding(sharding.mesh, PartitionSpec(*names))


def rows_here(sharding: NamedSharding, size: int) -> Int[np.ndarray, " n"]:
    """Places of the examples, of `size`, that devices of this process hold, in their order."""
    parts = sharding.addressable_devices_indices_map((size,)).values()
    return np.unique(np.concatenate([np.arange(size)[index] for index in parts]))


def lay(part: Any, sharding: NamedSharding, size: int, rows: Int[np.ndarray, " n"]) -> Any:
    """`size` examples over the devices of `sharding`, from those at `rows`, which this process has.

    Args:
        part: a tree of arrays (n, ...) on the host.
        sharding: of the axis of examples, over devices of this and of other processes.
        size: examples of all processes together.
        rows: those of `part`; all that devices of this process hold.
    """

    def place(leaf: np.ndarray) -> Array:
        def part_at(index: Any) -> np.ndarray:
            whole = len(rows) == size
            return leaf[index[0] if whole else np.searchsorted(rows, np.arange(size)[index[0]])]

        return jax.make_array_from_callback((size, *leaf.shape[1:]), sharding, part_at)

    return jax.tree.map(place, part)


def on_host(tree: Any) -> Any:
    """Arrays that lie over the devices of all processes, whole, in each process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)
