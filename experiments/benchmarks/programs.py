"""The training step and the sampler of a preset, or of a published DiT, as programs of shapes.

No data are read and no array is made, so that they can be compiled for devices that are absent.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import flax.linen as linen
import jax
import numpy as np

from experiments import presets
from jaxflow import nn, paths, spaces
from jaxflow.data.codecs import Captions, Classes, Codec
from jaxflow.devices import compiler, mesh
from jaxflow.devices.parallel import Placement
from jaxflow.nn.dit import SIZES, published
from jaxflow.runs.configuration import Experiment, fitted
from jaxflow.runs.generation import Generator
from jaxflow.runs.objective import objective, optimizer_of
from jaxflow.runs.requests import Request
from jaxflow.runs.run import Run
from jaxflow.runs.sampler import Sampler
from jaxflow.shapes import captions
from jaxflow.training import flops
from jaxflow.training.step import initial_state, train_step


def classes(n: int) -> Codec:
    """Classes named by their numbers."""
    return Classes(tuple(map(str, range(n))))


DATA: dict[str, tuple[tuple[int, int, int], Codec]] = {
    "digits": ((8, 8, 1), classes(10)),
    "mnist": ((28, 28, 1), classes(10)),
    "shapes": ((32, 32, 3), Captions(captions.WORDS, captions.LONGEST)),
    "emoji": ((8, 8, 32), Captions(tuple(map(str, range(1718))), 15)),
    "folder": ((64, 64, 3), classes(10)),
    "latents": ((32, 32, 4), classes(1000)),
}
"""Shape of an event and codec of each data set; a folder's are examples, latents are of 256 x 256 pixels."""


@dataclass(frozen=True)
class Program:
    """A program to compile."""

    compile: Callable[[], Any]
    """Without running it."""
    operations: int
    """Of one call, on all devices, by `jaxflow.training.flops`."""


def names() -> tuple[str, ...]:
    """What there is to compile: the presets of flows, and DiT-S to DiT-XL."""
    flows = (name for name in presets.names() if isinstance(presets.load(name).experiment, Experiment))
    return (*flows, *(f"DiT-{size}" for size in SIZES))


def run(name: str, *, scan: bool = True, **attributes: Any) -> Run:
    """The run of a preset, or of DiT-S, B, L or XL with patches of 2 on latents of 32 x 32.

    Args:
        name: one of `names`.
        scan: compile the blocks of a published DiT as a loop.
        attributes: of the network, such as dtype and remat.

    Raises:
        ValueError: an unknown name.
    """
    if name not in names():
        raise ValueError(f"program = {name!r}: must be one of {', '.join(names())}")
    if name.startswith("DiT-"):
        network = published(name.removeprefix("DiT-"), 2, nn.ClassTable(1000), scan=scan)
        experiment = Experiment(
            dataset="latents", network=network, path=paths.Linear(), steps=400_000, learning_rate=1e-4
        )
    else:
        flow = presets.load(name).experiment
        assert isinstance(flow, Experiment)
        experiment = flow
    shape, codec = DATA[experiment.dataset]
    assert isinstance(experiment.network, linen.Module)
    experiment = fitted(replace(experiment, network=experiment.network.clone(**attributes)), codec)
    return Run(experiment, "", spaces.Pixels(shape), codec)


def training_step(run: Run, placement: Placement, batch_size: int, **options: Any) -> Program:
    """The training step on a batch.

    Args:
        run: of the preset.
        placement: on the devices to compile for.
        batch_size: examples on all devices.
        options: of the compiler, besides those of the platform.
    """
    loss, optimizer = objective(run), optimizer_of(run.experiment)
    state = placement.shard(jax.eval_shape(partial(initial_state, optimizer=optimizer), run.shapes))
    at = partial(jax.ShapeDtypeStruct, sharding=placement.examples)
    batch = {
        "image": at((batch_size, *run.space.image_shape), np.uint8),
        "y": jax.tree.map(lambda leaf: at((batch_size, *np.shape(leaf)), leaf.dtype), run.codec.null),
        "number": at((batch_size,), np.int32),
    }
    step = partial(train_step, loss=loss, optimizer=optimizer, ema_decay=run.experiment.ema)
    key = jax.eval_shape(jax.random.key, 0)
    compiled = partial(
        placement.compile,
        step,
        state,
        jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=mesh.replicated(placement.examples)),
        batch,
        compiler.options(placement.platform) | options,
    )
    return Program(compiled, flops.count_training(loss, state.params, key, batch))


def sampler(run: Run, placement: Placement, images: int, steps: int, **options: Any) -> Program:
    """The sampler with classifier-free guidance at any scale, by the solver that suits the network.

    Args:
        run: of the preset.
        placement: on the devices to compile for.
        images: on all devices.
        steps: of the solver.
        options: of the compiler.
    """
    generator = Generator(run.model(placement.shard(run.shapes)), Sampler(steps=steps), placement.examples)
    at = partial(jax.ShapeDtypeStruct, sharding=placement.examples)
    everywhere = partial(jax.ShapeDtypeStruct, sharding=mesh.replicated(placement.examples))
    y = jax.tree.map(lambda leaf: at((images, *np.shape(leaf)), leaf.dtype), run.codec.null)
    wanted = Request(y, at((images,), np.uint32), at((images,), np.uint32))
    away = jax.tree.map(lambda leaf: everywhere(np.shape(leaf), leaf.dtype), run.codec.null)
    seed, w = everywhere((), np.uint32), everywhere((), np.float32)
    draw: Callable[..., Any] = partial(generator.draw, sigma=0.0)

    def compiled() -> Any:
        with mesh.use(placement.examples):
            lowered = jax.jit(draw).lower(generator.params, wanted, away, seed=seed, w=w)
            return lowered.compile(compiler.options(placement.platform) | options)

    named = lambda params, wanted, away, seed, w: draw(params, wanted, away, seed=seed, w=w)  # noqa: E731
    return Program(compiled, flops.count(named, generator.params, wanted, away, seed, w))
