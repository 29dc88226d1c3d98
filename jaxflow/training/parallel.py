"""Where a step runs: one pure step, four mappings of it to devices.

    jit     one device
    pmap    the state on each device, each with its share of the batch; gradients are averaged
    data    the same, as one program over a mesh of devices
    fsdp    as `data`, with each large parameter, its moments and its average split over the devices

Losses, batches and checkpoints know nothing of them: random bits belong to examples, see `per_example`, and
the numbers of a run are the same under each, but for the order of sums.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxflow.training.step import TrainState

Kind = Literal["auto", "jit", "pmap", "data", "fsdp"]
Step = Callable[..., tuple[TrainState, dict[str, jax.Array]]]
"""(state, key, batch) -> (state, metrics), and with `axis_name` under `pmap`."""

AXIS = "examples"
"""Of the mesh, and of `pmap`."""
SMALL = 2**14
"""Arrays of fewer numbers are not worth the exchange that splitting them costs."""


def over_examples(devices: list[jax.Device] | None = None) -> NamedSharding:
    """The first axis split over devices, all if left out."""
    devices = jax.devices() if devices is None else devices
    mesh = jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)
    return NamedSharding(mesh, PartitionSpec(AXIS))


def replicated(sharding: NamedSharding) -> NamedSharding:
    """A full copy on each device of `sharding`."""
    return NamedSharding(sharding.mesh, PartitionSpec())


def fully_sharded(shape: tuple[int, ...], sharding: NamedSharding) -> NamedSharding:
    """The largest axis that divides evenly split over the devices of `sharding`; small arrays replicated."""
    whole = [axis for axis, length in enumerate(shape) if length % sharding.mesh.size == 0]
    if math.prod(shape) < SMALL or not whole:
        return replicated(sharding)
    largest = max(whole, key=lambda axis: shape[axis])
    return NamedSharding(sharding.mesh, PartitionSpec(*[None] * largest, AXIS))


@dataclass(frozen=True)
class Mapping:
    """One of the mappings; make it with `mapping`."""

    kind: Kind
    examples: NamedSharding
    """Of a batch."""

    def lay_out(self, shapes: TrainState) -> TrainState:
        """The shapes of a state, each with its sharding, as a checkpoint holds it."""

        def place(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
            split = self.kind == "fsdp"
            sharding = fully_sharded(leaf.shape, self.examples) if split else replicated(self.examples)
            return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

        return jax.tree.map(place, shapes)

    def spread(self, state: TrainState) -> TrainState:
        """A state that is laid out, as the step carries it."""
        if self.kind != "pmap":
            return state
        return jax.jit(self._copies, out_shardings=self.examples)(state)

    def gather(self, state: TrainState) -> TrainState:
        """The inverse of `spread`."""
        if self.kind != "pmap":
            return state
        return jax.tree.map(lambda leaf: leaf.addressable_shards[0].data[0], state)

    def compile(
        self, step: Step, state: TrainState, key: jax.Array, batch: Any, options: dict[str, Any]
    ) -> Step:
        """The step as a program for the shapes and layouts of its arguments; it consumes the state.

        Args:
            step: `train_step` with its functions; under `pmap` it averages over `axis_name`.
            state: spread.
            key: of the run.
            batch: laid out as `examples`.
            options: of the compiler.
        """
        if self.kind != "pmap":
            layout = jax.tree.map(lambda leaf: leaf.sharding, state)
            program = jax.jit(step, donate_argnums=0, out_shardings=(layout, None))
            return program.lower(state, key, batch).compile(options)
        over_devices = jax.pmap(
            partial(step, axis_name=AXIS),
            axis_name=AXIS,
            in_axes=(0, None, 0),
            out_axes=(0, None),
            devices=list(self.examples.mesh.devices),
            donate_argnums=0,
        )
        shares = jax.jit(self._shares)
        compiled = over_devices.lower(state, key, shares(batch)).compile(options)
        return lambda state, key, batch: compiled(state, key, shares(batch))

    def _copies(self, state: TrainState) -> TrainState:
        devices = self.examples.mesh.size
        return jax.tree.map(lambda leaf: jax.numpy.broadcast_to(leaf, (devices, *leaf.shape)), state)

    def _shares(self, batch: Any) -> Any:
        devices = self.examples.mesh.size
        return jax.tree.map(lambda leaf: leaf.reshape(devices, -1, *leaf.shape[1:]), batch)


def mapping(kind: Kind, state_bytes: int = 0) -> Mapping:
    """The mapping of this kind over the devices there are.

    Args:
        kind: `auto` is `jit` on one device, and on several `fsdp` where a copy of the state would fill more
            than half of a device, else `data`.
        state_bytes: of a whole state.
    """
    devices = jax.devices()
    if kind == "auto":
        memory = (devices[0].memory_stats() or {}).get("bytes_limit", math.inf)
        kind = "jit" if len(devices) == 1 else "fsdp" if 2 * state_bytes > memory else "data"
    return Mapping(kind, over_examples(devices[:1] if kind == "jit" else devices))


def check_divides(sharding: NamedSharding, batch_size: int, accumulate: int = 1) -> None:
    """Raise a ValueError where a batch does not split evenly over devices and the parts of accumulation."""
    parts = sharding.mesh.size * accumulate
    if accumulate < 1 or batch_size % parts:
        raise ValueError(
            f"batch_size = {batch_size}: a multiple of the {sharding.mesh.size} devices"
            f"{f' times accumulate = {accumulate}' if accumulate != 1 else ''} is needed"
        )
