"""Memory of a training step of DiT-B/2 at 256 tokens, with and without rematerialisation, in 32 and 16 bits.

    python -m experiments.benchmarks.memory [--batch 32] [--size B] [--no-scan]

From the compiled program's own analysis: nothing is run, and no array is made. `temporary` is what a step
needs beside its arguments (parameters, optimiser state, moving average, batch). The blocks are a loop, or
with --no-scan written out one after the other.
"""

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import tyro

from jaxflow import losses, nn, paths
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


def main(argv: list[str] | None = None) -> None:
    """Print a line for each variant."""
    a = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.memory")
    side = 2 * round(a.tokens**0.5)
    print(
        f"JAX {jax.__version__}, {jax.default_backend()}: DiT-{a.size}/2, {a.tokens} tokens, batch {a.batch}"
    )
    print(f"{'compute':10} {'remat':6} {'temporary':>12} {'arguments':>12}   GiB")
    for dtype in ("float32", "bfloat16"):
        for remat in (False, True):
            network = published(a.size, 2, nn.ClassTable(1000), dtype=dtype, remat=remat, scan=a.scan)
            analysis = step_memory(network, a.batch, side)
            sizes = (analysis.temp_size_in_bytes, analysis.argument_size_in_bytes)
            print(
                f"{dtype:10} {remat!s:6} " + " ".join(f"{size / 2**30:12.2f}" for size in sizes), flush=True
            )


def step_memory(network: nn.DiT, batch: int, side: int):
    """Memory analysis of the compiled training step on latents (side, side, 4)."""
    transform = optimizer.adamw(1e-4, steps=1000, warmup=100, weight_decay=0.0, clip=1.0)
    x, t, y = (
        jax.ShapeDtypeStruct(s, d)
        for s, d in (((batch, side, side, 4), "float32"), ((batch,), "float32"), ((batch,), "int32"))
    )

    def loss(params, key, batch):
        def field(x, t, y):
            return network.apply({"params": params}, x, t, y, train=True)

        return losses.flow_matching(key, field, paths.Linear(), *batch)

    def initialise(key):
        params = network.init(key, *(jnp.zeros(a.shape, a.dtype) for a in (x, t, y)))["params"]
        return initial_state(params, transform)

    key = jax.eval_shape(lambda: jax.random.key(0))
    step = partial(train_step, loss=loss, optimizer=transform, ema_decay=0.999)
    state = jax.eval_shape(initialise, key)
    return jax.jit(step, donate_argnums=0).lower(state, key, (x, y)).compile().memory_analysis()


if __name__ == "__main__":
    main()
