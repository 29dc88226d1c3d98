"""Where a step runs: one pure step, four mappings to devices.

    jit     one device
    pmap    the state is replicated, each device has a share of the batch, and gradients are averaged
    data    the same, as one program over a mesh of devices
    fsdp    as `data`, with each large parameter, its moments and its average sharded over the devices

`data` and `fsdp` can also shard each kernel over a second axis of devices, see `mesh`. All but `jit` may span
processes. Losses, batches and checkpoints do not depend on the mapping: random bits belong to examples, see
`per_example`, and the results of a run are the same under each up to the order of sums.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from jaxflow.devices import mesh
from jaxflow.devices.mesh import EXAMPLES

Kind = Literal["auto", "jit", "pmap", "data", "fsdp"]
Program = Callable[..., tuple[Any, dict[str, jax.Array]]]
"""(state, key, batch) -> (state, metrics), and with `axis_name` under `pmap`."""


@dataclass(frozen=True)
class Placement:
    """One of the four mappings on its devices, made by `placement`."""

    kind: Kind
    examples: NamedSharding
    """Of a batch."""

    @property
    def platform(self) -> str:
        """Of the devices: cpu, gpu or tpu."""
        return self._devices[0].platform

    def shard(self, shapes: Any) -> Any:
        """The shapes of a state, or of its parameters, with the shardings that a checkpoint stores."""

        def place(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            sharding = mesh.of_parameter(leaf.shape, self.examples, fully=self.kind == "fsdp")
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

        return jax.tree.map(place, shapes)

    def replicate(self, state: Any) -> Any:
        """A sharded state as the step takes it: under `pmap` a copy for each device of this process."""
        if self.kind != "pmap":
            return state
        return jax.tree.map(lambda leaf: self._stack([s.data[None] for s in leaf.addressable_shards]), state)

    def gather(self, state: Any) -> Any:
        """The inverse of `replicate`."""
        if self.kind != "pmap":
            return state

        def copies(leaf: jax.Array) -> jax.Array:
            parts = [shard.data[0] for shard in leaf.addressable_shards]
            everywhere = mesh.replicated(self.examples)
            return jax.make_array_from_single_device_arrays(leaf.shape[1:], everywhere, parts)

        return jax.tree.map(copies, state)

    def everywhere(self, key: jax.Array) -> jax.Array:
        """A random key, equal in all processes, as the step takes it: under `pmap` as its raw numbers."""
        if self.kind == "pmap":
            numbers = jax.random.key_data(key)
            here = (device for device in self._devices if device in self.examples.addressable_devices)
            return self._stack([jax.device_put(numbers[None], device) for device in here])
        return jax.jit(lambda key: key, out_shardings=mesh.replicated(self.examples))(key)

    def compile(self, step: Program, state: Any, key: Any, batch: Any, options: dict[str, Any]) -> Program:
        """Compile the step for its arguments' shapes and shardings; the program donates the state.

        The devices need not exist: with those of a topology description the program can be inspected only.

        Args:
            step: `train_step` with its functions; under `pmap` it averages over `axis_name`.
            state: sharded, arrays or shapes.
            key: of the run, `everywhere`, or its shape.
            batch: sharded as `examples`, arrays or shapes.
            options: of the compiler; ignored under `pmap` over several processes.
        """
        if self.kind == "pmap":
            return self._compile_pmap(step, state, key, batch, options)
        shardings = jax.tree.map(lambda leaf: leaf.sharding, state)
        program = jax.jit(step, donate_argnums=0, out_shardings=(shardings, None))
        with mesh.use(self.examples):
            return program.lower(state, key, batch).compile(options)

    def _compile_pmap(
        self, step: Program, state: Any, key: Any, batch: Any, options: dict[str, Any]
    ) -> Program:
        devices = self._devices

        def replica(state, numbers, batch):
            return step(state, jax.random.wrap_key_data(numbers), batch, axis_name=EXAMPLES)

        program: Any = jax.pmap(
            replica, axis_name=EXAMPLES, out_axes=(0, None), devices=devices, donate_argnums=0
        )
        if jax.process_count() == 1:  # over several it can only be called, on placed arrays
            state = jax.eval_shape(partial(_copied, times=len(devices)), state)
            batch = jax.eval_shape(partial(_cut, parts=len(devices)), batch)
            program = program.lower(state, key, batch).compile(options)
        return lambda state, key, batch: program(state, key, self._shares(batch))

    def _shares(self, batch: Any) -> Any:
        """A batch with a leading axis of this process's devices."""
        return jax.tree.map(lambda leaf: self._stack([s.data[None] for s in leaf.addressable_shards]), batch)

    def _stack(self, parts: list[jax.Array]) -> jax.Array:
        """Arrays (1, ...), one on each device of this process, as one array."""
        here = _over(tuple(part.device for part in parts))
        return jax.make_array_from_single_device_arrays((len(parts), *parts[0].shape[1:]), here, parts)

    @property
    def _devices(self) -> list[jax.Device]:
        return list(self.examples.mesh.devices.flat)


def _copied(tree: Any, times: int) -> Any:
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (times, *leaf.shape)), tree)


def _cut(tree: Any, parts: int) -> Any:
    return jax.tree.map(lambda leaf: leaf.reshape(parts, -1, *leaf.shape[1:]), tree)


@cache
def _over(devices: tuple[jax.Device, ...]) -> NamedSharding:
    return mesh.over_examples(devices)


def placement(
    kind: Kind, state_bytes: int = 0, tensor: int = 1, devices: Sequence[jax.Device] | None = None
) -> Placement:
    """The mapping of this kind.

    Args:
        kind: `auto` is `jit` on one device; on several, `fsdp` if a copy of the state would fill more than
            half of a device's memory, else `data`.
        state_bytes: size of the whole state.
        tensor: number of devices over which each kernel is sharded.
        devices: of all processes, or of a topology description; if None, all of JAX's.

    Raises:
        ValueError: `tensor` does not divide the devices, or the kind cannot have it or several processes.
    """
    devices = jax.devices() if devices is None else devices
    if kind == "auto":
        sharded = 2 * state_bytes > _memory(devices) * tensor
        kind = "jit" if len(devices) == 1 else "fsdp" if sharded else "data"
    if tensor != 1 and kind in ("jit", "pmap"):
        raise ValueError(f"tensor = {tensor}: kernels are sharded under parallel = data and fsdp, not {kind}")
    if kind == "jit" and jax.process_count() > 1:
        raise ValueError(
            f"parallel = 'jit': runs on one device, not in {jax.process_count()} processes; use pmap, data or"
            " fsdp"
        )
    return Placement(kind, mesh.over_examples(devices[:1] if kind == "jit" else devices, tensor))


def _memory(devices: Sequence[jax.Device]) -> int | float:
    """Memory of one of these devices in bytes; infinite if unknown."""
    here = [device for device in devices if device in jax.local_devices()]
    return (here[0].memory_stats() or {}).get("bytes_limit", math.inf) if here else math.inf


@dataclass(frozen=True)
class Devices:
    """Devices of this and of other processes; by default chosen by their number and memory."""

    parallel: Kind = "auto"
    """jit runs on one device, pmap and data replicate the parameters, and fsdp shards them. Outside training
    pmap is the same as data."""
    tensor: int = 1
    """Devices over which each kernel is sharded, for networks too wide for one."""

    def placement(self, shapes: Any, devices: Sequence[jax.Device] | None = None) -> Placement:
        """Of a state, or of parameters, of these shapes, on `devices`; if None, on all that JAX has.

        Raises:
            ValueError: these devices do not allow it.
        """
        return placement(self.parallel, state_bytes(shapes), self.tensor, devices)


def check_divides(sharding: NamedSharding, batch_size: int, accumulate: int = 1) -> None:
    """Raise a ValueError unless a batch divides evenly over devices and the parts of accumulation."""
    shares = sharding.mesh.shape[EXAMPLES]
    if accumulate < 1 or batch_size % (shares * accumulate):
        raise ValueError(
            f"batch_size = {batch_size}: must be a multiple of {shares * accumulate}, for {shares} shards"
            f" of the batch and accumulate = {accumulate}"
        )


def state_bytes(shapes: Any) -> int:
    """Bytes of a whole state, from its shapes."""
    return sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(shapes))
