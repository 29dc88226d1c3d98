"""Memory of a training step of DiT-B/2 at 256 tokens on each device: by remat, compute type and mapping.

    python -m experiments.benchmarks.memory [--batch 32] [--size B] [--no-scan]
    JAX_NUM_CPU_DEVICES=8 python -m experiments.benchmarks.memory --size XL --parallel data fsdp --tensor 2

From the compiler's own analysis: nothing is run, and no array is made. `arguments` are parameters, optimiser
state, moving average and batch; `temporary` is what a step needs besides. The blocks are compiled as a loop,
or with --no-scan one by one. For TPUs see `tpu`.
"""

from dataclasses import dataclass
from itertools import product
from typing import Literal

import jax
import tyro

from experiments.benchmarks import programs
from jaxflow.devices import parallel


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    batch: int = 32
    """Examples on all devices."""
    size: Literal["S", "B", "L", "XL"] = "B"
    """Of the DiT."""
    scan: bool = True
    """Compile the blocks as a loop."""
    dtype: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    """Compute type."""
    remat: tuple[bool, ...] = (False, True)
    """Recompute blocks in the backward pass."""
    parallel: tuple[Literal["jit", "data", "fsdp"], ...] = ("jit",)
    """Mappings to the devices."""
    tensor: int = 1
    """Devices over which each kernel is sharded, with the last of the mappings; a line of its own."""


def main(argv: list[str] | None = None) -> None:
    """Print a line for each variant."""
    a = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.memory")
    machine = f"JAX {jax.__version__}, {len(jax.devices())} x {jax.default_backend()}"
    print(f"{machine}: DiT-{a.size}/2, 256 tokens, batch {a.batch}")
    print(f"{'mapping':16} {'compute':10} {'remat':6} {'temporary':>12} {'arguments':>12}   GiB a device")
    mappings = [(kind, 1) for kind in a.parallel] + ([(a.parallel[-1], a.tensor)] if a.tensor > 1 else [])
    for (kind, tensor), dtype, remat in product(mappings, a.dtype, a.remat):
        run = programs.run(f"DiT-{a.size}", scan=a.scan, dtype=dtype, remat=remat)
        placement = parallel.placement(kind, tensor=tensor)
        analysis = programs.training_step(run, placement, a.batch).compile().memory_analysis()
        sizes = (analysis.temp_size_in_bytes, analysis.argument_size_in_bytes)
        name = kind if tensor == 1 else f"{kind}, tensor {tensor}"
        figures = " ".join(f"{size / 2**30:12.3f}" for size in sizes)
        print(f"{name:16} {dtype:10} {remat!s:6} {figures}", flush=True)


if __name__ == "__main__":
    main()
