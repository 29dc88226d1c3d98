"""Compile training steps and samplers for absent TPUs, and print memory and traffic per chip.

    pip install 'jaxflow[tpu-compile]'
    python -m experiments.benchmarks.tpu digits --topology v5e:2x2
    python -m experiments.benchmarks.tpu DiT-XL --topology v5e:4x4 v6e:4x4 --parallel data fsdp --tensor 2

The TPU's own compiler (libtpu) runs on the CPU. Per chip: GiB of arguments, temporaries, output that does not
replace an argument, and code, against the chip's memory; and MB that it sends in one call, by kind of
collective (`collectives`). Operations are those of all chips, by the library's own counter.
"""

import os

# Read when JAX and libtpu are loaded, so that they do not look for a TPU.
os.environ |= {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}

import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib import metadata
from itertools import product
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import tyro
from jax.experimental import topologies

from experiments.benchmarks import programs
from experiments.benchmarks.collectives import Traffic, traffic
from experiments.cli import refusing
from jaxflow import ranges
from jaxflow.devices import parallel

MEMORY = {"TPU v4": 32, "TPU v5 lite": 16, "TPU v5": 95, "TPU v6 lite": 32, "TPU7x": 96}
"""GiB of a JAX device by its kind: of a chip, on TPU7x of half a chip. Source: Google Cloud's pages."""


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Presets, or DiT-S, DiT-B, DiT-L, DiT-XL."""
    topology: tuple[str, ...] = ("v5e:2x2",)
    """Chips, as v5e:4x4, v6e:4x4, v5p:2x2x2, v4:2x2x1 or tpu7x:2x2x1."""
    parallel: tuple[Literal["jit", "data", "fsdp"], ...] = ("data", "fsdp")
    """Mappings to the chips."""
    tensor: int = 1
    """Chips over which each kernel is sharded, with the last of the mappings; a line of its own."""
    programs: tuple[Literal["step", "sampler"], ...] = ("step", "sampler")
    """The training step, the sampler."""
    batch: int = 16
    """Examples of the training step on each chip."""
    images: int = 1
    """Images of the sampler on each chip."""
    steps: int = 20
    """Steps of the sampler."""
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Of the computation."""
    remat: bool = True
    """Recompute blocks in the backward pass."""
    effort: Annotated[float, tyro.conf.arg(metavar="[-1, 1]")] = 0.0
    """Of the compiler: -1 compiles in a fraction of the time, and leaves more temporaries."""
    json: Path | None = None
    """File for all numbers."""


@dataclass(frozen=True)
class Row:
    """One program on one topology, per chip and call."""

    name: str
    program: str
    topology: str
    mapping: str
    memory: dict[str, int]
    """Bytes; empty if the program does not fit."""
    operations: int
    """Of all chips."""
    collectives: dict[str, Traffic]
    seconds: float
    """Of compilation."""
    error: str = ""


def main(argv: list[str] | None = None) -> None:
    """Print a table per topology."""
    a = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.tpu")
    with refusing():
        check(a)
        chips = {name: devices(name) for name in a.topology}
    rows = []
    for topology, found in chips.items():
        memory = MEMORY.get(found[0].device_kind, float("nan"))
        versions = f"JAX {jax.__version__}, libtpu {metadata.version('libtpu')}"
        print(f"\n{topology}: {len(found)} x {found[0].device_kind}, {memory} GiB ({versions})")
        print(
            f"{a.dtype}, remat {a.remat}; per chip {a.batch} examples, {a.images} images of {a.steps} steps"
        )
        print(HEAD)
        for row in compiled(a, topology, found):
            rows.append(row)
            print(line(row, memory), flush=True)
            if a.json is not None:
                a.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))


def check(a: Arguments) -> None:
    """Raise a ValueError that names the first argument out of its range."""
    ranges.at_least(1, batch=a.batch, images=a.images, steps=a.steps, tensor=a.tensor)
    if not -1 <= a.effort <= 1:
        raise ValueError(f"effort = {a.effort}: must be from -1 to 1")
    for name in a.names:
        programs.run(name)


def devices(topology: str) -> list[jax.Device]:
    """The chips of a topology, such as v5e:4x4.

    Raises:
        ValueError: libtpu is not installed, or has no such topology.
    """
    options = {"chip_config_name": "megacore"} if topology.startswith("v4:") else {}
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=topology, **options)
    except Exception as error:  # of several types, by what libtpu lacks
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"topology = {topology!r}: {reason}: expected v5e:4x4 or the like, and the extra tpu-compile"
        ) from error
    return list(found.devices)


def compiled(a: Arguments, topology: str, chips: list[jax.Device]) -> Iterator[Row]:
    """The programs of the command line on one topology."""
    mappings = [(kind, 1) for kind in a.parallel] + ([(a.parallel[-1], a.tensor)] if a.tensor > 1 else [])
    for name, (kind, tensor), program in product(a.names, mappings, a.programs):
        run = programs.run(name, dtype=a.dtype, remat=a.remat)
        placement = parallel.placement(kind, tensor=tensor, devices=chips)
        shares = placement.examples.mesh.size
        options: dict[str, Any] = {"exec_time_optimization_effort": a.effort} if a.effort else {}
        make = (
            partial(programs.training_step, run, placement, a.batch * shares, **options)
            if program == "step"
            else partial(programs.sampler, run, placement, a.images * shares, a.steps, **options)
        )
        mapping = kind if tensor == 1 else f"{kind}, tensor {tensor}"
        yield row(make, name=name, program=program, topology=topology, mapping=mapping)


def row(make: Any, **names: str) -> Row:
    """Compile a program and read its numbers."""
    start = time.perf_counter()
    try:
        made = make()
        program = made.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        used = re.search(r"Used ([\d.]+\w) of ([\d.]+\w)", str(error))
        reason = f"does not fit: {used[1]} of {used[2]}" if used else "does not fit"
        return Row(**names, memory={}, operations=0, collectives={}, seconds=0.0, error=reason)
    seconds = time.perf_counter() - start
    analysis = program.memory_analysis()
    sizes = {
        "arguments": analysis.argument_size_in_bytes,
        "temporary": analysis.temp_size_in_bytes,
        "output": analysis.output_size_in_bytes - analysis.alias_size_in_bytes,
        "code": analysis.generated_code_size_in_bytes,
    }
    return Row(
        **names,
        memory=sizes,
        operations=made.operations,
        collectives=traffic(program.as_text()),
        seconds=seconds,
    )


SIZES = ("arguments", "temporary", "output", "code")
HEAD = (
    f"{'program':22} {'mapping':15}"
    + "".join(f"{name:>10}" for name in SIZES)
    + (f"{'of all':>8} {'Tflop':>8} {'sent':>9} MB  {'s':>4}  collectives: count, MB")
)


def line(row: Row, memory: float) -> str:
    """A row of the table."""
    start = f"{row.name + ' ' + row.program:22} {row.mapping:15}"
    if row.error:
        return f"{start} {row.error}"
    sizes = [row.memory[name] / 2**30 for name in SIZES]
    sent = sum(each.bytes for each in row.collectives.values())
    kinds = ", ".join(f"{kind} {n} {size / 1e6:.1f}" for kind, (n, size) in row.collectives.items())
    return (
        f"{start}{''.join(f'{size:10.3f}' for size in sizes)}{sum(sizes) / memory:8.1%}"
        f" {row.operations / 1e12:8.2f} {sent / 1e6:9.1f}     {row.seconds:4.0f}  {kinds or 'none'}"
    )


if __name__ == "__main__":
    main()
