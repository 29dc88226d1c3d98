"""One run on 1 to 8 devices, with every mapping, in one process and in two: do the losses agree?

    python -m experiments.benchmarks.mappings DIR [--steps 100]

Trains `digits` on one CPU device, then on several with each mapping and in two processes of two devices each,
and prints the relative differences of the first and last losses from those on one device: at most `FIRST` and
`LAST`.
"""

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from jaxflow.training import log

KINDS = ("pmap", "data", "fsdp")
FIRST, LAST = 1e-6, 1e-3
"""Relative differences: rounding, and its growth over a hundred steps."""


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    out: tyro.conf.Positional[Path]
    """Folder of the runs."""
    steps: int = 100
    devices: tuple[int, ...] = (2, 4, 8)


def main(argv: list[str] | None = None) -> None:
    """Print a line for each run."""
    a = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.mappings")
    alone = losses(a, "jit", 1, 1)
    print(f"jit on 1 device: loss of step 1 {alone[0]:.6f}, of step {a.steps} {alone[-1]:.6f}")
    settings = [(kind, 1, devices, 1) for devices in a.devices for kind in KINDS]
    settings += [("fsdp", 1, 4, 2), *((kind, 2, 2, 1) for kind in KINDS)]
    for kind, processes, devices, tensor in settings:
        found = losses(a, kind, processes, devices, tensor)
        first, last = (abs(found[i] / alone[i] - 1) for i in (0, -1))
        name = f"{processes} x {devices} devices, {kind}" + (f", tensor {tensor}" if tensor > 1 else "")
        print(f"{name:34} step 1 within {first:.1e}, step {a.steps} within {last:.1e}", flush=True)
        if not (first <= FIRST and last <= LAST):
            raise SystemExit(
                f"the losses differ: step 1 must be within {FIRST:g}, step {a.steps} within {LAST:g}"
            )


def losses(a: Arguments, kind: str, processes: int, devices: int, tensor: int = 1) -> list[float]:
    """The loss of each step of a run."""
    out = a.out / f"{kind}-{processes}x{devices}-{tensor}"
    arguments = ["digits", "--out", out, "--steps", a.steps, "--log-every", 1, "--sample-every", 0]
    started = launch(processes, devices, "train", *arguments, "--parallel", kind, "--tensor", tensor)
    for process in started:
        _, errors = process.communicate()
        if process.returncode:
            raise SystemExit(errors)
    return [line["loss"] for line in log.read(out)]


def launch(processes: int, devices: int, script: str, *arguments: Any) -> Sequence[subprocess.Popen]:
    """Start a script in several processes of this machine.

    Args:
        processes: their number.
        devices: CPU devices of each.
        script: name of the module in `experiments`.
        arguments: of the script.
    """
    command = [sys.executable, "-m", f"experiments.{script}", *map(str, arguments)]
    fixed = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return [
        subprocess.Popen(command, env=os.environ | fixed | own, **pipes) for own in environments(processes)
    ]


def environments(processes: int) -> Sequence[dict[str, str]]:
    """The variables by which processes of this machine find each other."""
    if processes == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    shared = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": str(processes)}
    return [shared | {"JAX_PROCESS_ID": str(i)} for i in range(processes)]


if __name__ == "__main__":
    main()
