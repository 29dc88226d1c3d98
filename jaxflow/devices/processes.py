"""Several processes as one run: each has devices of its own and runs the same program.

They find each other by the variables that their launcher sets, through `jax.distributed`:

    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID    set by hand
    SLURM_*     srun with several tasks
    OMPI_*      mpirun
    KUBERNETES_SERVICE_HOST, JOB_COMPLETION_INDEX                 an indexed job or job set, such as on GKE
    a TPU       always: a slice of several hosts tells each of the others

All draw the same random numbers, each reads its share of a batch, and process 0 alone writes and speaks.
When one dies, the others end with an error within `HEARTBEAT` seconds and some more.
"""

import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from jaxflow.devices import layouts

HEARTBEAT = 60
"""Seconds of silence after which a process is taken for dead."""
BY_HAND = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")


def start() -> None:
    """Join the other processes, if the environment says that there are any; before JAX looks for devices."""
    arguments = found(os.environ, _has_tpu())
    if arguments is not None:
        jax.distributed.initialize(**arguments, heartbeat_timeout_seconds=HEARTBEAT)
        # Connections are made now, when all are here: on CPUs they wait for each other for 30 seconds only.
        of_first(0)
        jax.device_get(largest(layouts.over_examples())(0))


def found(environment: Mapping[str, str], tpu: bool = False) -> dict[str, Any] | None:
    """Arguments of `jax.distributed.initialize`, of which JAX finds those left out; None for one process.

    Raises:
        ValueError: a variable is missing, or none that it may be.

    >>> found({}) is None
    True
    >>> found({"SLURM_STEP_NODELIST": "n[1-2]", "SLURM_PROCID": "0", "SLURM_NTASKS": "2"})
    {}
    """
    if any(name in environment for name in BY_HAND):
        return _by_hand(environment)
    several = (
        "SLURM_STEP_NODELIST" in environment and int(environment.get("SLURM_NTASKS", 1)) > 1,
        int(environment.get("OMPI_COMM_WORLD_SIZE", 1)) > 1,
        "KUBERNETES_SERVICE_HOST" in environment and "JOB_COMPLETION_INDEX" in environment,
        tpu,
    )
    return {} if any(several) else None


def _by_hand(environment: Mapping[str, str]) -> dict[str, Any]:
    missing = [name for name in BY_HAND if not environment.get(name)]
    if missing:
        raise ValueError(f"{missing[0]} is missing: {', '.join(BY_HAND)} belong together")
    address, processes, number = (environment[name] for name in BY_HAND)
    if not processes.isdecimal() or not number.isdecimal() or int(number) >= int(processes):
        raise ValueError(
            f"JAX_PROCESS_ID = {number}: a number from 0, below JAX_NUM_PROCESSES = {processes}, is needed"
        )
    if not address.rpartition(":")[2].isdecimal():
        raise ValueError(f"JAX_COORDINATOR_ADDRESS = {address!r}: HOST:PORT of process 0 is needed")
    arguments = {
        "coordinator_address": address,
        "num_processes": int(processes),
        "process_id": int(number),
    }
    # On one machine nobody else needs to reach the coordinator, which listens everywhere if not told.
    on_one_machine = address.rpartition(":")[0] in LOOPBACK
    return arguments | ({"coordinator_bind_address": address} if on_one_machine else {})


def _has_tpu() -> bool:
    chips = any(Path("/dev").glob("accel*")) or any(Path("/dev/vfio").glob("[0-9]*"))
    return chips and find_spec("libtpu") is not None and os.environ.get("JAX_PLATFORMS", "tpu") == "tpu"


def is_first() -> bool:
    """Is this the process that writes and speaks?"""
    return jax.process_index() == 0


def of_first(number: int) -> int:
    """The number that the first process names, for all; they wait for each other."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def largest(sharding: NamedSharding) -> Callable[[int], jax.Array | np.ndarray]:
    """A function of a number of this process to the largest of all processes.

    Its answer is computed on the devices of `sharding`, between the steps, and need not be waited for.
    """
    if jax.process_count() == 1:
        return np.asarray
    mesh = sharding.mesh
    everywhere = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    reduce = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec()))

    def of_all(number: int) -> jax.Array:
        here = np.full(mesh.size, number, np.int32)
        return reduce(jax.make_array_from_callback((mesh.size,), everywhere, lambda index: here[index]))

    return of_all
