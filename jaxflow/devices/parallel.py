"""Where a step runs: one pure step, four placements on devices.

    jit     one device
    pmap    the state on each device, each with its share of the batch; gradients are averaged
    data    the same, as one program over a mesh of devices
    fsdp    as `data`, with each large parameter, its moments and its average split over the devices

`data` and `fsdp` can also split each kernel over a second axis of devices, see `layouts`. All but `jit` may
span processes. Losses, batches and checkpoints know nothing of them: random bits belong to examples, see
`per_example`, and the numbers of a run are the same under each, but for the order of sums.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from jaxflow.devices import layouts
from jaxflow.devices.layouts import EXAMPLES

Kind = Literal["auto", "jit", "pmap", "data", "fsdp"]
Program = Callable[..., tuple[Any, dict[str, jax.Array]]]
"""(state, key, batch) -> (state, metrics), and with `axis_name` under `pmap`."""


@dataclass(frozen=True)
class Placement:
    """One of the four; make it with `placement`."""

    kind: Kind
    examples: NamedSharding
    """Of a batch."""

    def lay_out(self, shapes: Any) -> Any:
        """The shapes of a state, or of its parameters, each with its sharding, as a checkpoint holds it."""

        def place(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            sharding = layouts.split(leaf.shape, self.examples, fully=self.kind == "fsdp")
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

        return jax.tree.map(place, shapes)

    def spread(self, state: Any) -> Any:
        """A state that is laid out, as the step carries it: under `pmap` a copy for each device here."""
        if self.kind != "pmap":
            return state
        return jax.tree.map(lambda leaf: self._stack([s.data[None] for s in leaf.addressable_shards]), state)

    def gather(self, state: Any) -> Any:
        """The inverse of `spread`."""
        if self.kind != "pmap":
            return state

        def copies(leaf: jax.Array) -> jax.Array:
            parts = [shard.data[0] for shard in leaf.addressable_shards]
            everywhere = layouts.replicated(self.examples)
            return jax.make_array_from_single_device_arrays(leaf.shape[1:], everywhere, parts)

        return jax.tree.map(copies, state)

    def everywhere(self, key: jax.Array) -> jax.Array:
        """A random key, the same in all processes, as the step takes it: under `pmap` as its numbers."""
        if self.kind == "pmap":
            numbers = jax.random.key_data(key)
            here = (device for device in self._devices if device in self.examples.addressable_devices)
            return self._stack([jax.device_put(numbers[None], device) for device in here])
        return jax.jit(lambda key: key, out_shardings=layouts.replicated(self.examples))(key)

    def compile(self, step: Program, state: Any, key: Any, batch: Any, options: dict[str, Any]) -> Program:
        """The step as a program for the shapes and layouts of its arguments; it consumes the state.

        Args:
            step: `train_step` with its functions; under `pmap` it averages over `axis_name`.
            state: laid out, arrays or shapes.
            key: of the run, `everywhere`.
            batch: laid out as `examples`, arrays or shapes.
            options: of the compiler; not heeded under `pmap` over several processes.
        """
        if self.kind == "pmap":
            return self._compile_pmap(step, state, key, batch, options)
        layout = jax.tree.map(lambda leaf: leaf.sharding, state)
        program = jax.jit(step, donate_argnums=0, out_shardings=(layout, None))
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
        if jax.process_count() == 1:  # else it has to be called, with arguments that lie where they belong
            state = jax.eval_shape(partial(_copied, times=len(devices)), state)
            batch = jax.eval_shape(partial(_cut, parts=len(devices)), batch)
            program = program.lower(state, key, batch).compile(options)
        return lambda state, key, batch: program(state, key, self._shares(batch))

    def _shares(self, batch: Any) -> Any:
        """A batch with an axis of the devices of this process before that of their examples."""
        return jax.tree.map(lambda leaf: self._stack([s.data[None] for s in leaf.addressable_shards]), batch)

    def _stack(self, parts: list[jax.Array]) -> jax.Array:
        """Arrays (1, ...) on each device of this process, as one."""
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
    return layouts.over_examples(devices)


def placement(kind: Kind, state_bytes: int = 0, tensor: int = 1) -> Placement:
    """The placement of this kind over the devices that there are, of all processes.

    Args:
        kind: `auto` is `jit` on one device, and on several `fsdp` where a copy of the state would fill more
            than half of a device, else `data`.
        state_bytes: of a whole state.
        tensor: devices over which each kernel is split.

    Raises:
        ValueError: `tensor` does not divide the devices, or the kind cannot have it, or not these processes.
    """
    devices = jax.devices()
    if kind == "auto":
        memory = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", math.inf)
        split = 2 * state_bytes > memory * tensor
        kind = "jit" if len(devices) == 1 else "fsdp" if split else "data"
    if tensor != 1 and kind in ("jit", "pmap"):
        raise ValueError(f"tensor = {tensor}: kernels are split under parallel = data and fsdp, not {kind}")
    if kind == "jit" and jax.process_count() > 1:
        raise ValueError(
            f"parallel = 'jit': one device, for {jax.process_count()} processes; take pmap, data or fsdp"
        )
    return Placement(kind, layouts.over_examples(devices[:1] if kind == "jit" else devices, tensor))


@dataclass(frozen=True)
class Devices:
    """Devices of this process and of those beside it; chosen by their number and memory if left out."""

    parallel: Kind = "auto"
    """jit on one device, pmap or data with a copy of the parameters on each, fsdp with the parameters split
    over them. Without a step of training pmap is the same as data."""
    tensor: int = 1
    """Devices over which each kernel is split, for networks too wide for one."""

    def placement(self, shapes: Any) -> Placement:
        """Of a state, or of parameters, of these shapes.

        Raises:
            ValueError: it cannot be had with these devices.
        """
        return placement(self.parallel, state_bytes(shapes), self.tensor)


def check_divides(sharding: NamedSharding, batch_size: int, accumulate: int = 1) -> None:
    """Raise a ValueError where a batch does not split evenly over devices and the parts of accumulation."""
    shares = sharding.mesh.shape[EXAMPLES]
    if accumulate < 1 or batch_size % (shares * accumulate):
        raise ValueError(
            f"batch_size = {batch_size}: a multiple of {shares * accumulate} is needed, for {shares} shares"
            f" over the devices and accumulate = {accumulate} parts"
        )


def state_bytes(shapes: Any) -> int:
    """Bytes of a whole state, from its shapes."""
    return sum(math.prod(leaf.shape) * np.dtype(leaf.dtype).itemsize for leaf in jax.tree.leaves(shapes))
