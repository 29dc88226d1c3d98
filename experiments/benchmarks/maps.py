"""What a flow map costs in training, and saves in sampling, beside its field.

    python -m experiments.benchmarks.maps [digits mnist] [--batch-size 64] [--images 100] [--repeats 5]

For the network of each preset: loss and gradient of a batch by each objective, and by distillation of a
field, in milliseconds, in multiples of the field's, and the bytes they need besides their arguments, by the
compiler; then images per second with guidance, by ten steps of the default solver and by a map of 1, 2
and 4 calls. All calls alternate. Weights are random: speed does not depend on them.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from experiments.benchmarks import programs
from experiments.benchmarks.timing import in_turn
from experiments.cli import refusing, script
from experiments.report.tables import print_table
from jaxflow import ranges
from jaxflow.devices import mesh
from jaxflow.runs.configuration import fitted
from jaxflow.runs.generation import Generator
from jaxflow.runs.model import Model
from jaxflow.runs.objective import objective
from jaxflow.runs.requests import Request
from jaxflow.runs.run import Run
from jaxflow.runs.sampler import JUMP, Sampler
from jaxflow.runs.settings import CALLS, called

OBJECTIVES = ("mean_flow", "improved_mean_flow", "lagrangian", "shortcut")
MOST = 6.0
"""Largest guidance scale inside the maps."""
W = 2.0
"""Any scale but 0 and 1 costs the same."""


@dataclass(frozen=True)
class Arguments:
    """Command line of the script."""

    presets: Annotated[tuple[str, ...], tyro.conf.Positional] = ("digits", "mnist")
    """Of fields in pixels, with classes."""
    batch_size: int = 64
    """Of a training step."""
    images: int = 100
    """Sampled in a call."""
    repeats: int = 5
    """Timed calls of each."""


def main(argv: list[str] | None = None) -> None:
    """Print the tables."""
    a = tyro.cli(Arguments, args=argv, prog="python -m experiments.benchmarks.maps")
    with refusing():
        ranges.at_least(1, batch_size=a.batch_size, images=a.images, repeats=a.repeats)
        fields = {name: programs.run(name) for name in a.presets}
    for name, field in fields.items():
        trained(name, field, a)
        sampled(name, field, a)


def as_map(field: Run, **options: Any) -> Run:
    """The run of a map, with guidance inside, of a field's network."""
    experiment = replace(field.experiment, w_most=MOST, **options)
    return replace(field, experiment=fitted(experiment, field.codec))


def initialised(run: Run) -> Model:
    """With random parameters."""
    return run.model(run.initial_params(jax.random.key(0)))


def trained(name: str, field: Run, a: Arguments) -> None:
    """Print times and memory of the loss of a batch and its gradient."""
    own = as_map(field, objective="lagrangian")
    teacher = initialised(field)
    losses = {"field": (objective(field), teacher.params, None)}
    losses |= {
        each: (objective(run := as_map(field, objective=each)), initialised(run).params, None)
        for each in OBJECTIVES
    }
    losses["lagrangian, distilled"] = (objective(own, teacher), initialised(own).params, teacher.params)
    batch = {
        "image": np.zeros((a.batch_size, *field.space.image_shape), np.uint8),
        "y": jnp.zeros(a.batch_size, jnp.int32),
        "number": jnp.arange(a.batch_size, dtype=jnp.int32),
    }
    calls: dict[str, Callable[[], object]] = {}
    bytes_of: dict[str, float] = {}
    for who, (loss, params, frozen) in losses.items():

        def mean(params: Any, frozen: Any, batch: Any, loss: Any = loss) -> Any:
            given = params if frozen is None else (params, frozen)
            return jnp.mean(loss(given, jax.random.key(0), batch))

        program = jax.jit(jax.value_and_grad(mean)).lower(params, frozen, batch).compile()
        memory: Any = program.memory_analysis()
        bytes_of[who] = memory.temp_size_in_bytes / 1e6
        calls[who] = partial(_finished, program, params, frozen, batch)
    times = in_turn(calls, a.repeats)
    rows = [
        (who, {"ms": times[who][1], "of the field": times[who][1] / times["field"][1], "MB": bytes_of[who]})
        for who in losses
    ]
    network = type(field.experiment.network).__name__
    print(f"\n{name}, {network}: loss and gradient of {a.batch_size} images")
    print_table("objective", ("ms", "of the field", "MB"), rows)


def _finished(program: Callable[..., object], *arguments: Any) -> object:
    return jax.block_until_ready(program(*arguments))


def sampled(name: str, field: Run, a: Arguments) -> None:
    """Print images per second."""
    flow_map, sharding = initialised(as_map(field, objective="lagrangian")), mesh.on_one_device()
    default = Sampler()
    steps = f"{default.steps} steps of {default.solver_name(field.experiment.prediction)}"
    generators = {steps: Generator(initialised(field), default, sharding)}
    for n in CALLS:
        generators[called(n)] = Generator(flow_map, Sampler(n, JUMP), sharding)
    numbers = np.arange(a.images, dtype=np.uint32)
    wanted = Request(np.zeros(a.images, np.int32), numbers, numbers)
    calls: dict[str, Callable[[], object]] = {
        who: partial(generate, wanted, W, seed=0) for who, generate in generators.items()
    }
    times = in_turn(calls, a.repeats)
    slowest = times[steps][1]
    rows = [
        (who, {"images / s": 1e3 * a.images / median, "times": slowest / median})
        for who, (_, median) in times.items()
    ]
    print(f"\n{name}: {a.images} images with guidance")
    print_table("sampler", ("images / s", "times"), rows)


if __name__ == "__main__":
    script(main)
