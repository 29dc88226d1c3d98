"""Where a step runs: all devices, with the examples of a batch laid over them.

The same jitted step serves one device and many: random bits and batches do not depend on how
arrays are laid out.
"""

from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec


def over_examples() -> NamedSharding:
    """The first axis split over all devices."""
    devices = jax.devices()
    mesh = jax.make_mesh((len(devices),), ("examples",), axis_types=(AxisType.Auto,), devices=devices)
    return NamedSharding(mesh, PartitionSpec("examples"))


def replicated(sharding: NamedSharding) -> NamedSharding:
    """A full copy on each device of `sharding`."""
    return NamedSharding(sharding.mesh, PartitionSpec())


def laid_out(shapes: Any, sharding: jax.sharding.Sharding) -> Any:
    """Shapes of arrays with this sharding."""
    return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=sharding), shapes)


def check_divides(sharding: NamedSharding, batch_size: int) -> None:
    """Raise a ValueError where a batch does not split evenly over the devices."""
    devices = sharding.mesh.size
    if batch_size % devices:
        raise ValueError(f"batch_size = {batch_size}: a multiple of the {devices} devices is needed")
