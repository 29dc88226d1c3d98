"""How arrays lie over devices: a mesh of two axes, and rules that see nothing but shapes.

    examples   a batch is split over it, and when a state is fully sharded each of its large arrays
    tensor     the inputs or the outputs of each kernel are split over it: widths that one device cannot hold

Of a kernel the longer side is split over `tensor`, so that in an MLP the hidden layer is (Shoeybi et al.
1909.08053), and of a square one the outputs, the heads of an attention. The compiler adds the exchanges.
"""

import math
from collections.abc import Iterable, Sequence

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

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
        raise ValueError(f"tensor = {tensor}: it divides the number of devices, which are {len(devices)}")
    shape = (len(devices) // tensor, tensor)
    mesh = jax.make_mesh(shape, (EXAMPLES, TENSOR), axis_types=(AxisType.Auto,) * 2, devices=devices)
    return NamedSharding(mesh, PartitionSpec(EXAMPLES))


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
