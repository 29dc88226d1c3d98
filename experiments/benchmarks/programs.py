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
from jaxflow import nn
from jaxflow.data.codecs import Captions, Classes, Codec
from jaxflow.devices import compiler, mesh
from jaxflow.devices.parallel import Placement
from jaxflow.moving_shapes import captions as moving_captions
from jaxflow.nn.dit import SIZES, published
from jaxflow.runs import latents
from jaxflow.runs.configuration import Experiment, fitted
from jaxflow.runs.generation import Generator
from jaxflow.runs.objective import objective, optimizer_of
from jaxflow.runs.requests import Request
from jaxflow.runs.run import Run
from jaxflow.runs.sampler import Sampler
from jaxflow.shapes import captions
from jaxflow.spaces import Autoencoder, Latents, Pixels, Space
from jaxflow.training import flops
from jaxflow.training.step import initial_state, train_step


def classes(n: int) -> Codec:
    """Classes named by their numbers."""
    return Classes(tuple(map(str, range(n))))


@dataclass(frozen=True)
class Embedded:
    """The shapes of captions that a frozen encoder has embedded."""

    length: int
    width: int

    @property
    def null(self) -> nn.TokenSequence:
        """Of one caption."""
        tokens = np.zeros((self.length, self.width), np.float32)
        return nn.TokenSequence(tokens, np.ones(self.length, bool), tokens[0])  # type: ignore[arg-type]

    def encode(self, said: Any) -> nn.TokenSequence:
        """As null: of the same shapes."""
        return self.null

    of = encode


DATA: dict[str, tuple[tuple[int, ...] | None, Any]] = {
    "digits": ((8, 8, 1), classes(10)),
    "mnist": ((28, 28, 1), classes(10)),
    "shapes": ((32, 32, 3), Captions(captions.WORDS, captions.LONGEST)),
    "moving_shapes": ((16, 32, 32, 3), Captions(moving_captions.WORDS, moving_captions.LONGEST)),
    "emoji": (None, Captions(tuple(map(str, range(1718))), 15)),
    "folder": (None, classes(1000)),
    "clips": (None, Embedded(256, 4096)),
}
"""Shape of an image, if the data set has one size, and codec; of folders an example, of clips T5-XXL."""
PUBLISHED = {
    "emoji": nn.AutoencoderTiny(latent_channels=32, pooled=True),
    "emoji_128": nn.AutoencoderTiny(latent_channels=32, pooled=True),
    "imagenet256": nn.AutoencoderKL(),
    "video_256": nn.CausalAutoencoder(latent_channels=16),
}
"""The autoencoder of a preset in latents; others have one trained by the preset `autoencoder`."""


@dataclass(frozen=True)
class Program:
    """A program to compile."""

    compile: Callable[[], Any]
    """Without running it."""
    operations: int
    """Of one call, on all devices, by `jaxflow.training.flops`."""


def names() -> tuple[str, ...]:
    """What there is to compile: the presets of fields, and DiT-S to DiT-XL."""
    every = ((name, presets.load(name).experiment) for name in presets.names())
    fields = (name for name, each in every if isinstance(each, Experiment) and each.objective == "field")
    return (*fields, *(f"DiT-{size}" for size in SIZES))


def run(name: str, *, scan: bool = True, **attributes: Any) -> Run:
    """The run of a preset, or of DiT-S, B, L or XL with patches of 2 in its place in `imagenet256`.

    Args:
        name: one of `names`.
        scan: compile the blocks of a published DiT as a loop.
        attributes: of the network, such as dtype and remat.

    Raises:
        ValueError: an unknown name.
    """
    if name not in names():
        raise ValueError(f"program = {name!r}: must be one of {', '.join(names())}")
    preset = "imagenet256" if name.startswith("DiT-") else name
    experiment = presets.load(preset).experiment
    assert isinstance(experiment, Experiment)
    assert isinstance(experiment.network, linen.Module)
    network = experiment.network
    if name != preset:
        network = published(name.removeprefix("DiT-"), 2, None, scan=scan, dtype="float32")
    shape, codec = DATA[experiment.dataset]
    side, frames = experiment.image_size, () if experiment.frames is None else (experiment.frames,)
    shape = (*frames, side, side, 3) if side is not None else shape
    assert shape is not None
    experiment = fitted(replace(experiment, network=network.clone(**attributes)), codec)
    return Run(experiment, "", space(preset, experiment, shape), codec)


def space(preset: str, experiment: Experiment, image_shape: tuple[int, ...]) -> Space:
    """The space of a preset, of latents that are neither centred nor scaled."""
    if experiment.autoencoder is None:
        return Pixels(image_shape)
    made: Any = presets.load("autoencoder").experiment
    own = made.network
    network: Any = PUBLISHED.get(preset, own.clone(image_channels=image_shape[-1]))
    zeros, ones = ((number,) * network.latent_channels for number in (0.0, 1.0))
    return Latents(image_shape, Autoencoder(network), zeros, ones, "")


def stored_by(space: Space) -> tuple[tuple[int, ...], Any]:
    """Shape and type of what a data set stores of an image."""
    if not isinstance(space, Latents):
        return space.image_shape, np.uint8
    *sides, k = space.event_shape
    return (*sides, 2 * k if space.autoencoder.network.variational else k), latents.DTYPE


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
    stored, dtype = stored_by(run.space)
    batch = {
        run.space.entry: at((batch_size, *stored), dtype),
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
    model = run.model(placement.shard(run.shapes))
    events: Any = run.space.event_shape
    model = replace(model, space=Pixels(events))  # which its program ends at
    generator = Generator(model, Sampler(steps=steps), placement.examples)
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
