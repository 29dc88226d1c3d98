"""The cost of one compiled sweep over w, compared with a loop over w.

    python -m experiments.benchmarks.sweep DIR [--images 16] [--steps 10] [--scales 16]

Three ways to sample the same images from the run in DIR at 16 scales:

    sweep       one program for all w (`sweeps.sweep`), in chunks
    loop        one program with w as an argument, called for each w
    compiles    w as a constant of the program, which is compiled for each w
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.cli import refusing
from jaxflow import guidance, sampling, sweeps, times
from jaxflow.runs import loading


@dataclass(frozen=True)
class Arguments:
    """Command line of the benchmark."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
    images: int = 16
    steps: int = 10
    """Of the midpoint method."""
    scales: int = 16
    """Values of w, from 0.5 to 8."""
    chunks: tuple[int, ...] = (1, 16)
    """Scales that the sweep computes together."""
    repeats: int = 5


def main(argv: list[str] | None = None) -> None:
    """Run the benchmark."""
    arguments = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.sweep")
    with refusing():
        model = loading.load(arguments.run)
    noise = jax.random.normal(jax.random.key(0), (arguments.images, *model.event_shape))
    labels = jnp.arange(arguments.images, dtype=jnp.int32) % len(model.classes)
    params, scales = model.params, jnp.linspace(0.5, 8.0, arguments.scales)

    def sample(params, w):
        guided = guidance.classifier_free(model.at(params).field, labels, model.null, w)
        return sampling.sample_ode(guided, noise, times.uniform(arguments.steps))

    single = jax.jit(sample)
    cold = {"compile once": seconds(lambda: single(params, scales[0]))}
    loop = lambda: jnp.stack([single(params, w) for w in scales])  # noqa: E731
    expected = loop()
    warm = {"loop": best(loop, arguments.repeats)}
    for chunk in arguments.chunks:
        sweep = jax.jit(
            lambda params, chunk=chunk: sweeps.sweep(lambda w: sample(params, w), {"w": scales}, chunk=chunk)
        )
        cold[f"sweep by {chunk}"] = seconds(lambda sweep=sweep: sweep(params))
        difference = float(jnp.max(jnp.abs(sweep(params) - expected) / (1 + jnp.abs(expected))))
        warm[f"sweep by {chunk}"] = best(lambda sweep=sweep: sweep(params), arguments.repeats)
        print(f"sweep by {chunk}: differs from the loop by {difference:.1e}")
    constants = [jax.jit(lambda params, w=float(w): sample(params, w)) for w in scales]
    compiles = seconds(lambda: [program(params) for program in constants])

    sizes = f"{arguments.scales} scales, {arguments.images} images, {arguments.steps} midpoint steps"
    print(f"\n{sizes}; JAX {jax.__version__}")
    print(f"{'':16}{'first call':>12}{'then':>10}{'loop / this':>14}{'compiles / first call':>24}")
    for name, after in warm.items():
        first = cold.get(name, cold["compile once"] + after)
        print(
            f"{name:16}{first:>10.2f} s{after:>8.2f} s{warm['loop'] / after:>14.2f}{compiles / first:>24.2f}"
        )
    print(f"{'compiles':16}{compiles:>10.2f} s")


def seconds(call: Callable) -> float:
    """Wall time until the result is there."""
    start = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - start


def best(call: Callable, repeats: int) -> float:
    """Smallest of several wall times."""
    return float(np.min([seconds(call) for _ in range(repeats)]))


if __name__ == "__main__":
    main()
