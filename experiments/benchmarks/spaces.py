"""What a flow costs in pixels and in latents, of images or clips: runs side by side.

    python -m experiments.benchmarks.spaces RUN [RUN ...] [--images 32] [--repeats 5]

For each run the positions that its network sees and the numbers of an event; operations per image, by the
library's own counter, of a training step and of sampling with guidance and decoding; bytes that a training
step needs besides its arguments, by the compiler; and images per second of both, in calls that alternate
between the runs. Quality is what `evaluate` prints.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.benchmarks import programs
from experiments.benchmarks.timing import in_turn
from experiments.cli import refusing, script
from experiments.opening import Opened, Source, open_model
from experiments.report.tables import print_table
from jaxflow import ranges
from jaxflow.places import place
from jaxflow.runs.generation import Generator
from jaxflow.runs.objective import optimizer_of
from jaxflow.runs.requests import Request
from jaxflow.runs.sampler import Sampler
from jaxflow.training import flops
from jaxflow.training.step import initial_state

COLUMNS = (
    *("tokens", "numbers", "parameters", "GFLOP trained", "MB of a step", "trained / s"),
    *("GFLOP sampled", "sampled / s"),
)
W = 2.0
"""Any scale but 0 and 1 costs the same."""


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    runs: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Run folders."""
    images: int = 32
    """Images sampled in a call."""
    repeats: int = 5
    """Timed calls of each."""


def main(argv: list[str] | None = None) -> None:
    """Print the table."""
    a = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.spaces")
    with refusing():
        ranges.at_least(1, images=a.images, repeats=a.repeats)
        opened = {name: open_model(place(name, "RUN"), Source()).read() for name in a.runs}
    figures: dict[str, dict[str, float]] = {}
    calls: dict[str, Callable[[], Any]] = {}
    for name, each in opened.items():
        trained, train = training(each)
        sampled, sample = sampling(each, a.images)
        figures[name] = size(each) | trained | sampled
        calls |= {f"{name} trained": train, f"{name} sampled": sample}
    times = in_turn(calls, a.repeats)
    for name, each in opened.items():
        batch = each.run.experiment.batch_size
        for what, images in (("trained", batch), ("sampled", a.images)):
            figures[name][f"{what} / s"] = 1e3 * images / times[f"{name} {what}"][1]
    print_table("run", COLUMNS, list(figures.items()))


def size(opened: Opened) -> dict[str, float]:
    """Of an event and of the network."""
    *frames, rows, columns, _ = shape = opened.run.space.event_shape
    patch, tube = (getattr(opened.run.experiment.network, name, 1) for name in ("patch", "tube"))
    parameters = sum(leaf.size for leaf in jax.tree.leaves(opened.model.params))
    tokens = (rows // patch) * (columns // patch) * math.prod(n // tube for n in frames)
    return {"tokens": tokens, "numbers": math.prod(shape), "parameters": parameters}


def training(opened: Opened) -> tuple[dict[str, float], Callable[[], Any]]:
    """Figures of a training step, and one to time, on a batch of zeros."""
    run, placement = opened.run, opened.placement
    batch_size = run.experiment.batch_size
    program = programs.training_step(run, placement, batch_size)
    step = program.compile()
    stored, dtype = programs.stored_by(run.space)
    batch = {
        run.space.entry: jnp.zeros((batch_size, *stored), dtype),
        "y": jax.tree.map(lambda leaf: jnp.tile(leaf, (batch_size, *[1] * np.ndim(leaf))), run.codec.null),
        "number": jnp.arange(batch_size, dtype=jnp.int32),
    }
    params = jax.tree.map(jnp.copy, opened.model.params)  # which the step donates
    state = [initial_state(params, optimizer_of(run.experiment))]

    def call() -> None:
        state[0], _ = jax.block_until_ready(step(state[0], jax.random.key(0), batch))

    figures = {
        "GFLOP trained": program.operations / batch_size / 1e9,
        "MB of a step": step.memory_analysis().temp_size_in_bytes / 1e6,
    }
    return figures, call


def sampling(opened: Opened, images: int) -> tuple[dict[str, float], Callable[[], Any]]:
    """Operations of an image, and a call that samples some."""
    run, sampler = opened.run, Sampler()
    drawn = programs.sampler(run, opened.placement, images, sampler.steps).operations
    events = jax.ShapeDtypeStruct((images, *run.space.event_shape), jnp.float32)
    decoded = flops.count(opened.model.to_images, events)
    y = jax.tree.map(lambda leaf: np.tile(leaf, (images, *[1] * np.ndim(leaf))), run.codec.null)
    numbers = np.arange(images, dtype=np.uint32)
    generate = Generator(opened.model, sampler, opened.placement.examples)
    call = partial(generate, Request(y, numbers, numbers), W, seed=0)
    return {"GFLOP sampled": (drawn + decoded) / images / 1e9}, call


if __name__ == "__main__":
    script(main)
