"""A mesh of devices with two axes, and how parameters, batches and activations are sharded over it.

    examples   a batch is sharded over it, and under `fsdp` each large array of the state
    tensor     each kernel is sharded over it by its inputs or outputs, for layers too wide for one device

Over `tensor` the longer side of a kernel is sharded: the hidden layer of an MLP (Shoeybi et al. 1909.08053),
and the outputs of a square kernel, which are the heads of an attention. Parameters are sharded by shape
alone, and the compiler adds the collectives.

For a sharded kernel the compiler gathers either the kernel or the activations of the whole batch. By itself
it does the latter, which under `fsdp` moves far more. So layers constrain their activations: by
`shard_examples`, or, where the kernel is larger than its input, by `replicate` and `shard_features`. These
return their argument, and have an effect only in a program traced under `use`, as by `parallel`.
"""

import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils, multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jaxtyping import Array, Int

EXAMPLES, TENSOR = "examples", "tensor"
SMALL = 2**14
"""Arrays with fewer elements are replicated: a collective would cost more than the memory it saves."""


def over_examples(devices: Sequence[jax.Device] | None = None, tensor: int = 1) -> NamedSharding:
    """Shards the first axis of a batch over these devices; if None, over all.

    Raises:
        ValueError: the number of devices, in each slice of a pod, is not a multiple of `tensor`.
    """
    devices = jax.devices() if devices is None else devices
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    if tensor < 1 or len(devices) % (tensor * slices):
        each = f" / {slices} slices" if slices > 1 else ""
        raise ValueError(f"tensor = {tensor}: must divide the number of devices, {len(devices)}{each}")
    shape = (len(devices) // (tensor * slices), tensor)
    # `jax.make_mesh` splits no axis of a torus, such as 4 x 4 chips of v6e into 8 x 2, and has one slice.
    if slices == 1:
        grid = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    else:
        grid = mesh_utils.create_hybrid_device_mesh(
            shape, (slices, 1), devices, allow_split_physical_axes=True
        )
    mesh = jax.sharding.Mesh(grid, (EXAMPLES, TENSOR), axis_types=(AxisType.Auto,) * 2)
    return NamedSharding(mesh, PartitionSpec(EXAMPLES))


def on_one_device() -> NamedSharding:
    """All examples on the first device of this process."""
    return over_examples(jax.local_devices()[:1])


def replicated(sharding: NamedSharding) -> NamedSharding:
    """A full copy on each device of `sharding`."""
    return NamedSharding(sharding.mesh, PartitionSpec())


def of_parameter(shape: tuple[int, ...], sharding: NamedSharding, *, fully: bool) -> NamedSharding:
    """Sharding of a parameter, moment or average: over `tensor`, and over `examples` too if `fully`.

    Args:
        shape: of the array; it is replicated if small, or if no axis divides evenly.
        sharding: of a batch.
        fully: shard the longest remaining axis over `examples`.
    """
    names: list[str | None] = [None] * len(shape)
    if math.prod(shape) >= SMALL:
        every = range(len(shape))
        of_tensor, of_examples = every[-2:] if len(shape) > 1 else (), every if fully else ()
        for name, axes in ((TENSOR, of_tensor), (EXAMPLES, of_examples)):
            parts = sharding.mesh.shape[name]
            free = [axis for axis in axes if names[axis] is None and shape[axis] % parts == 0]
            if parts > 1 and free:
                names[max(free, key=lambda axis: (shape[axis], axis))] = name
    return NamedSharding(sharding.mesh, PartitionSpec(*names))


def use(sharding: NamedSharding) -> Any:
    """A context in which programs are traced for these devices, so that the constraints take effect."""
    assert isinstance(sharding.mesh, jax.sharding.Mesh)
    return jax.set_mesh(sharding.mesh)


def platform() -> str:
    """The platform of the program being traced, cpu, gpu or tpu: that of its mesh, or JAX's default."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return jax.default_backend() if device is None else device.platform


def shard_examples(x: Array) -> Array:
    """An array (b, ...) with each example on its device."""
    return _constrain(x, EXAMPLES, *(PartitionSpec.UNCONSTRAINED,) * (x.ndim - 1))


def shard_features(x: Array) -> Array:
    """An array (..., c) with all examples and a share of the channels on each device."""
    return _constrain(x, *(None,) * (x.ndim - 1), (EXAMPLES, TENSOR))


def replicate(x: Array) -> Array:
    """An array with all of it on each device."""
    return _constrain(x)


def _constrain(x: Array, *spec: Any) -> Array:
    mesh = jax.sharding.get_abstract_mesh()
    # Inside `pmap` and `shard_map` the axes are manual, and x is the share of one device.
    automatic = {
        name for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True) if kind == AxisType.Auto
    }
    if not {EXAMPLES, TENSOR} <= automatic or mesh.size == 1:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec))


def rows_here(sharding: NamedSharding, size: int) -> Int[np.ndarray, " n"]:
    """Indices, among `size` examples, of those on devices of this process, in order."""
    parts = sharding.addressable_devices_indices_map((size,)).values()
    return np.unique(np.concatenate([np.arange(size)[index] for index in parts]))


def distribute(part: Any, sharding: NamedSharding, size: int, rows: Int[np.ndarray, " n"]) -> Any:
    """`size` examples sharded over devices, from the rows that this process holds.

    Args:
        part: a tree of arrays (n, ...) on the host.
        sharding: of the axis of examples, over devices of this and of other processes.
        size: number of examples of all processes.
        rows: indices of the examples in `part`, `rows_here`.
    """

    def place(leaf: np.ndarray) -> Array:
        def part_at(index: Any) -> np.ndarray:
            whole = len(rows) == size
            return leaf[index[0] if whole else np.searchsorted(rows, np.arange(size)[index[0]])]

        return jax.make_array_from_callback((size, *leaf.shape[1:]), sharding, part_at)

    return jax.tree.map(place, part)


def everywhere(tree: Any, sharding: NamedSharding) -> Any:
    """A tree of arrays with a copy on each device of `sharding`; arrays on these devices stay as they are."""
    where = replicated(sharding)

    def place(leaf: Any) -> Array:
        if isinstance(leaf, jax.Array) and leaf.sharding.device_set == where.device_set:
            return leaf
        here = np.asarray(leaf)
        return jax.make_array_from_callback(here.shape, where, lambda index: here[index])

    return jax.tree.map(place, tree)


def on_host(tree: Any) -> Any:
    """Arrays gathered from the devices of all processes, in each process."""
    if jax.process_count() == 1:
        return jax.device_get(tree)
    return multihost_utils.process_allgather(tree, tiled=True)
