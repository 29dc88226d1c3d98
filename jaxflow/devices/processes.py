"""Several processes as one run: each has its own devices and runs the same program.

They find each other through `jax.distributed`, by the variables that their launcher sets:

    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES, JAX_PROCESS_ID    set by hand
    SLURM_*     srun with several tasks
    OMPI_*      mpirun
    KUBERNETES_SERVICE_HOST, JOB_COMPLETION_INDEX                 an indexed job or job set, such as on GKE
    a TPU       always: the hosts of a slice know each other

All draw the same random numbers, each reads its share of a batch, and only process 0 writes files and prints.
When one dies, the others exit with an error soon after `HEARTBEAT` seconds.
"""

import json
import os
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from jaxflow.devices import mesh

HEARTBEAT = 60
"""Seconds of silence after which a process is considered dead."""
BY_HAND = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
LONGEST = 60
"""Characters of a value in a message."""
T = TypeVar("T")


def start() -> None:
    """Join the other processes, if the environment names any; before JAX looks for devices."""
    arguments = found(os.environ, has_tpu())
    if arguments is not None:
        jax.distributed.initialize(**arguments, heartbeat_timeout_seconds=HEARTBEAT)
        # Connect now, while all are here: on CPUs a connection waits for 30 seconds only.
        of_first(0)
        jax.device_get(largest(mesh.over_examples())(0))


def found(environment: Mapping[str, str], tpu: bool = False) -> dict[str, Any] | None:
    """Arguments of `jax.distributed.initialize`, which detects the missing ones; None for one process.

    Raises:
        ValueError: a variable is missing or invalid.

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
        raise ValueError(f"{missing[0]} is missing: set all of {', '.join(BY_HAND)}")
    address, processes, number = (environment[name] for name in BY_HAND)
    if not processes.isdecimal() or not number.isdecimal() or int(number) >= int(processes):
        raise ValueError(
            f"JAX_PROCESS_ID = {number}: must be at least 0 and below JAX_NUM_PROCESSES = {processes}"
        )
    if not address.rpartition(":")[2].isdecimal():
        raise ValueError(f"JAX_COORDINATOR_ADDRESS = {address!r}: expected HOST:PORT of process 0")
    arguments = {
        "coordinator_address": address,
        "num_processes": int(processes),
        "process_id": int(number),
    }
    # On one machine only: by default the coordinator listens on all interfaces.
    on_one_machine = address.rpartition(":")[0] in LOOPBACK
    return arguments | ({"coordinator_bind_address": address} if on_one_machine else {})


def has_tpu() -> bool:
    """Whether JAX will run on TPU chips of this machine; libtpu alone may be there to compile for others."""
    chips = any(Path("/dev").glob("accel*")) or any(Path("/dev/vfio").glob("[0-9]*"))
    return (
        chips
        and find_spec("libtpu") is not None
        and "tpu" in os.environ.get("JAX_PLATFORMS", "tpu").split(",")
    )


def is_first() -> bool:
    """Whether this is the process that writes files and prints."""
    return jax.process_index() == 0


def of_first(number: int) -> int:
    """Broadcast the number of the first process to all; they wait for each other."""
    if jax.process_count() == 1:
        return number
    return int(multihost_utils.broadcast_one_to_all(np.int32(number)))


def together(prepare: Callable[[], T], described: Callable[[T], Mapping[str, Any]] = lambda _: {}) -> T:
    """`prepare()` in each process; if it fails in one, or the results differ, all fail.

    No process is left waiting for one that has ended or runs something else.

    Args:
        prepare: may raise a ValueError, an OSError or a SystemExit; it must run no collective operation.
        described: what must agree, by name, as values that JSON can hold.

    Raises:
        ValueError: the processes differ, or one failed; the message names the item, or the process.
    """
    result, failure, found = None, None, {}
    try:
        result = prepare()
        found = dict(described(result))
    except (ValueError, OSError, SystemExit) as error:
        failure = error
    said = "see its own output" if isinstance(failure, SystemExit) else failure and str(failure)
    everywhere = _gathered({"failure": said, "found": found})
    if failure is None and all(one["failure"] is None for one in everywhere):
        difference = _difference([one["found"] for one in everywhere])
        if difference is None:
            return result  # type: ignore[return-value]
        failure = ValueError(difference)
    if jax.process_count() > 1:
        jax.distributed.shutdown()  # all exit together: the first to exit would abort the others
    if failure is None:
        i, said = next((i, one["failure"]) for i, one in enumerate(everywhere) if one["failure"] is not None)
        failure = ValueError(f"process {i} of {len(everywhere)} failed: {said}")
    raise failure


def _gathered(here: Any) -> list[Any]:
    """The values of all processes, gathered in each."""
    if jax.process_count() == 1:
        return [here]
    text = np.frombuffer(json.dumps(here).encode(), np.uint8)
    lengths = np.ravel(multihost_utils.process_allgather(np.int32(len(text))))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(text)] = text
    texts = multihost_utils.process_allgather(padded)
    return [json.loads(text[:n].tobytes()) for text, n in zip(np.asarray(texts), lengths, strict=True)]


def _difference(found: list[dict[str, Any]]) -> str | None:
    """The first item that differs from that of process 0, as text."""
    for i, other in enumerate(found[1:], start=1):
        for name in found[0] | other:
            pair = [_short(each.get(name, "missing")) for each in (found[0], other)]
            if found[0].get(name) != other.get(name):
                return (
                    f"all processes of a run must agree: {name} is {pair[0]} in process 0 and"
                    f" {pair[1]} in process {i}"
                )
    return None


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def from_first(find: Callable[[], int]) -> int:
    """Broadcast the number that the first process computes; if it fails there, all fail."""
    return of_first(together(lambda: find() if is_first() else 0))


def largest(sharding: NamedSharding) -> Callable[[int], jax.Array | np.ndarray]:
    """A function from a number of this process to the maximum over all processes.

    It runs asynchronously on the devices of `sharding`, between the steps.
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
