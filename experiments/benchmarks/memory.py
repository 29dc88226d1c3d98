"""Memory of a training step of DiT-B/2 at 256 tokens on each device: by remat, compute type and placement.

    python -m experiments.benchmarks.memory [--batch 32] [--size B] [--no-scan]
    JAX_NUM_CPU_DEVICES=8 python -m experiments.benchmarks.memory --size XL --parallel data fsdp --tensor 2

From the compiled program's own analysis: nothing is run, and no array is made. `arguments` are parameters,
optimiser state, moving average and batch; `temporary` is what a step needs beside them. The blocks are a
loop, or with --no-scan written out one after the other.
"""

from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, Literal

import jax
import jax.numpy as jnp
import tyro

from jaxflow import losses, nn, paths
from jaxflow.devices import parallel
from jaxflow.devices.parallel import Placement
from jaxflow.nn.dit import published
from jaxflow.training import optimizer
from jaxflow.training.step import initial_state, train_step


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    batch: int = 32
    size: str = "B"
    """S, B, L or XL."""
    tokens: int = 256
    """A square of a whole number."""
    scan: bool = True
    """Whether the blocks are a loop."""
    dtype: tuple[str, ...] = ("float32", "bfloat16")
    """Of the computation."""
    remat: tuple[bool, ...] = (False, True)
    """Whether blocks are computed again for the gradient."""
    parallel: tuple[Literal["jit", "data", "fsdp"], ...] = ("jit",)
    """Mappings to the devices."""
    tensor: int = 1
    """Devices over which each kernel is split, with the last of the mappings; a line of its own."""


def main(argv: list[str] | None = None) -> None:
    """Print a line for each variant."""
    a = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.memory")
    side = 2 * round(a.tokens**0.5)
    machine = f"JAX {jax.__version__}, {len(jax.devices())} x {jax.default_backend()}"
    print(f"{machine}: DiT-{a.size}/2, {a.tokens} tokens, batch {a.batch}")
    print(f"{'placement':16} {'compute':10} {'remat':6} {'temporary':>12} {'arguments':>12}   GiB a device")
    mappings = [(kind, 1) for kind in a.parallel] + ([(a.parallel[-1], a.tensor)] if a.tensor > 1 else [])
    for (kind, tensor), dtype, remat in product(mappings, a.dtype, a.remat):
        network = published(a.size, 2, nn.ClassTable(1000), dtype=dtype, remat=remat, scan=a.scan)
        analysis = step_memory(network, parallel.placement(kind, tensor=tensor), a.batch, side)
        sizes = (analysis.temp_size_in_bytes, analysis.argument_size_in_bytes)
        name = kind if tensor == 1 else f"{kind}, tensor {tensor}"
        figures = " ".join(f"{size / 2**30:12.3f}" for size in sizes)
        print(f"{name:16} {dtype:10} {remat!s:6} {figures}", flush=True)


def step_memory(network: nn.DiT, placement: Placement, batch: int, side: int):
    """Memory analysis of the compiled training step on latents (side, side, 4)."""
    transform = optimizer.adamw(1e-4, steps=1000, warmup=100, weight_decay=0.0, clip=1.0)
    x, t, y = (
        jax.ShapeDtypeStruct(s, d, sharding=placement.examples)
        for s, d in (((batch, side, side, 4), "float32"), ((batch,), "float32"), ((batch,), "int32"))
    )

    def loss(params, key, batch):
        def field(x, t, y):
            return network.apply({"params": params}, x, t, y, train=True)

        return losses.flow_matching(key, field, paths.Linear(), *batch)

    def initialise(key):
        params = network.init(key, *(jnp.zeros((1, *a.shape[1:]), a.dtype) for a in (x, t, y)))["params"]
        return initial_state(params, transform)

    step = partial(train_step, loss=loss, optimizer=transform, ema_decay=0.999)
    key = placement.everywhere(jax.random.key(0))
    state = placement.lay_out(jax.eval_shape(initialise, key))
    program: Any = placement.compile(step, state, key, (x, y), {})
    return program.memory_analysis()


if __name__ == "__main__":
    main()
