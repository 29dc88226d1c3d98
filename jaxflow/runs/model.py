"""A model: a trained generator as one value.

    model = jaxflow.load("runs/digits")                     # a run folder, or an exported file
    images = model.sample(0, [3, 3, 7], w=2.0)              # uint8 (3, h, w, c)

It holds the trained field and its path, the codec of its classes or captions, and the space of the flow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int, UInt8

from jaxflow import fields, nn, ranges
from jaxflow.data.codecs import Classes, Codec, stack
from jaxflow.devices import mesh
from jaxflow.nn.jumps import unguided
from jaxflow.predictions import Prediction
from jaxflow.runs import limits, maps
from jaxflow.runs.edits import Edit, extended
from jaxflow.runs.generation import Generator, check_scale
from jaxflow.runs.requests import ClassOrPrompt, encode, request
from jaxflow.runs.sampler import JUMP, Sampler
from jaxflow.spaces import Space
from jaxflow.training.step import Params
from jaxflow.typing import Condition, GaussianPath, GuidedField, PairedField, Rule

CALLS = 4
"""Jumps of a flow map."""
KEPT = 8
"""Generators that a model keeps, with their compiled programs."""


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its parameters, and everything needed to sample from it."""

    network: Any
    """A Flax module (x, t, y), or a function (params, x, t, y)."""
    params: Params
    """Its parameters; or their shapes, to check without computing."""
    path: GaussianPath
    prediction: Prediction
    """What the network predicts."""
    codec: Codec
    """Encodes classes or prompts as conditions y."""
    space: Space
    """Space of the flow."""
    condition_dropout: float = 0.1
    """Probability of a null condition in training; without any there is no unconditional field."""
    step: int = 0
    """Training steps taken."""
    shift: float = 1.0
    """Shift of the time grid that suits the model."""
    change: nn.Change | None = None
    """Of the network's attention or depth, for a worse model to guide away from."""

    @property
    def field(self) -> GuidedField:
        """The velocity (x, t, y) -> (b, *event); of a map, that of jumps of no length, unguided."""
        if self.is_map:
            return lambda x, t, y: self.average(x, t, t, y)
        return self._output

    @property
    def outputs(self) -> PairedField | None:
        """The velocities (x, t, y) -> (auxiliary, final) by one call; None without an auxiliary head."""
        if not fields.has_auxiliary(self.network):
            return None
        return fields.with_auxiliary(self.network, self.params, self.path, prediction=self.prediction)

    @property
    def is_map(self) -> bool:
        """Whether the network is that of a flow map, which jumps."""
        return maps.encoder_of(self.network) is not None

    def average(
        self,
        x: Float[Array, "b *event"],
        t: Float[Array, " b"],
        s: Float[Array, " b"],
        y: Condition,
        guidance: nn.Guidance | None = None,
    ) -> Float[Array, "b *event"]:
        """The average velocity of a map from time t to time s, (b, *event); unguided by default.

        Raises:
            ValueError: the model is a field.
        """
        if not self.is_map:
            raise ValueError("average: the model is a field; train a map with --objective")
        guidance = unguided(len(t)) if guidance is None else guidance
        return maps.average_of(self._output)(x, t, s, nn.Jump(y, t, guidance))

    @property
    def _output(self) -> GuidedField:
        return fields.from_network(
            self.network, self.params, self.path, prediction=self.prediction, change=self.change
        )

    @property
    def null(self) -> Condition:
        """The unconditional condition of one example."""
        return self.codec.null

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one x."""
        return self.space.event_shape

    def encode(self, said: Sequence[ClassOrPrompt]) -> Condition:
        """The conditions y (n, ...) of class numbers or names, or of prompts; None is unconditional.

        Raises:
            ValueError: there is no such class, or no caption had a word of a prompt; the message names it.
        """
        return stack([encode(self.codec, one) for one in said])

    def to_images(self, events: Float[Array, "b *event"]) -> UInt8[Array, "b *image"]:
        """Samples as images."""
        return self.space.decode(events)

    def at(self, params: Params) -> "Model":
        """The same model with other parameters."""
        return replace(self, params=params)

    def changed(self, change: nn.Change) -> "Model":
        """The same model with a change of its network's attention or depth."""
        return replace(self, change=change)

    def resized(self, height: int, width: int) -> "Model":
        """The same model for images of another size, in pixels; far from the trained one they get worse.

        Raises:
            ValueError: the network, or the autoencoder, cannot have this size.
        """
        model = self.with_size(height, width)
        try:
            inputs = (np.zeros(model.event_shape, np.float32), np.zeros((), np.float32), self.null)
            one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *np.shape(leaf)), leaf.dtype), inputs)
            jax.eval_shape(lambda params, x, t, y: self.at(params).field(x, t, y), self.params, *one)
        except Exception as error:  # whatever a network raises
            raise ValueError(f"{_size(height, width)}: the model cannot have this size: {error}") from error
        return model

    def with_size(self, height: int, width: int) -> "Model":
        """The same before the network is asked, which takes null, and so the text encoder.

        Raises:
            ValueError: the autoencoder cannot have this size.
        """
        size = _size(height, width)
        for side in (height, width):
            if type(side) is not int or not 1 <= side <= limits.LARGEST_SIDE:
                raise ValueError(f"{size}: must be whole numbers from 1 to {limits.LARGEST_SIDE}")
        *frames, _, _, channels = self.space.image_shape
        shape = (*frames, height, width, channels)
        try:
            return replace(self, space=replace(self.space, image_shape=shape))  # type: ignore[type-var]
        except ValueError as error:
            raise ValueError(f"{size}: the model cannot have this size: {error}") from error

    def sample(
        self,
        seed: int,
        y: Sequence[ClassOrPrompt] | Int[Array, " n"] | Int[np.ndarray, " n"],
        *,
        w: float = 1.0,
        rule: str | Rule = "classifier_free",
        steps: int = 10,
        solver: str | None = None,
        calls: int | None = None,
        sigma: float = 0.0,
        grid: str | None = None,
        shift: float | None = None,
        negative: ClassOrPrompt = None,
        edit: Edit | None = None,
        block: int | None = None,
        churn: float = 0.0,
        clip: str | None = None,
        interval: Sequence[float] | None = None,
        sharding: NamedSharding | None = None,
    ) -> UInt8[np.ndarray, "n *image"]:
        """Guided images, uint8 (n, h, w, c), or clips, (n, frames, h, w, c).

        An image depends on the seed, on its class or prompt, and on the number of earlier entries of `y` with
        the same one; not on the other entries, on the size of a block, or on the devices.

        Args:
            seed: of the noise, 0 to 2^32 - 1.
            y: class numbers or names, or prompts, one per image; None is unconditional.
            w: guidance scale; 1 is the conditional model.
            rule: guidance rule, by its name in `jaxflow.runs.rules`, or any (field, y, null, w) -> field.
            steps: solver steps, 1 to 100,000.
            solver: by its name in `jaxflow.runs.sampler`, of the ODE, of the SDE, or ancestral; if None, one
                that suits the prediction.
            calls: of a flow map, each a jump; 4 if None. With a solver, its field is integrated instead.
            sigma: diffusion coefficient of the SDE, at most 1000; 0 is the ODE.
            grid: time grid: uniform, cosine, karras, exponential or beta.
            shift: shift of the grid towards the noise, 0.001 to 1000; above 1 for larger images; if None, the
                model's.
            negative: a class or prompt to guide away from, instead of null.
            edit: picture to vary or to complete, from `jaxflow.runs.edit`; by default images are drawn from
                noise.
            block: images sampled by one call of the program; if None, as many as fit into memory.
            churn: EDM's S_churn, noise added before the steps of euler, midpoint, heun or rk4; 0 for none.
            clip: limit of the predicted data of a model of pixels, static or dynamic; None for none.
            interval: start and end of the times that are guided; None for all.
            sharding: of the images, over devices; if None, one device.

        Raises:
            ValueError: an argument is out of range, or does not suit the model; the message names it.
            FloatingPointError: an image is not finite.

        Source: "Building an Image Generator", sampling with classifier-free guidance.
        """
        ranges.seed(seed)
        check_scale(rule, self.condition_dropout, w)
        said = [] if isinstance(y, str) or y is None else np.asarray(y, object).tolist()
        if (
            not isinstance(said, list)
            or not said
            or not all(isinstance(one, ClassOrPrompt | np.integer) for one in said)
        ):
            raise ValueError(f"y = {ranges.quoted(y)}: must be a list with a class or prompt for each image")
        between: Any = None if interval is None else tuple(interval)
        if self.is_map and solver is None:
            calls = CALLS if calls is None else calls
            ranges.at_least(1, calls=calls)
            sampler = Sampler(calls, JUMP, grid, shift, block, churn, clip, between)
        elif calls is None:
            sampler = Sampler(steps, solver, grid, shift, block, churn, clip, between)
        else:
            why = "a solver has steps" if self.is_map else "the model is a field, which has steps"
            raise ValueError(f"calls = {calls}: {why}")
        sampler.check(self.path, self.prediction, sigma)
        sampler.check_clip(self.space)
        if edit is not None:
            sampler.check_edit(self.prediction, sigma)
        limits.check_images(math.prod(self.space.image_shape), y=len(said))
        wanted = request(self.codec, said)
        away = None if negative is None else encode(self.codec, negative)
        sharding = mesh.on_one_device() if sharding is None else sharding
        return self._generator(sampler, sharding, rule, sigma)(
            wanted, float(w), seed=seed, negative=away, edit=edit
        )

    def extend(
        self,
        seed: int,
        clips: UInt8[Any, "n k h w c"],
        y: Sequence[ClassOrPrompt],
        *,
        frames: int,
        keep: int,
        repeats: int = 1,
        **options: Any,
    ) -> UInt8[np.ndarray, "n frames h w c"]:
        """Clips continued beyond the length of the model's, which keeps the last frames of each window.

        Args:
            seed: of the noise, of window i seed + i.
            clips: uint8, one or more first frames of each clip.
            y: as of `sample`, one for each clip.
            frames: of the result.
            keep: last frames that a window continues, below the model's number.
            repeats: how often each solver step is made, so that new frames agree better with the kept ones.
            options: of `sample`.

        Raises:
            ValueError: the model is not one of clips, or an argument is out of range.
        """
        if len(self.space.image_shape) != 4:
            raise ValueError(f"extend: the model draws images, {self.space.image_shape}, not clips")
        if len(clips) != len(y):
            raise ValueError(f"y: {len(y)} classes or prompts for {len(clips)} clips: expected one for each")

        def draw(edit: Edit, window: int) -> UInt8[np.ndarray, "n f h w c"]:
            return self.sample((seed + window) % ranges.SEEDS, y, edit=edit, **options)

        return extended(draw, self.space, np.asarray(clips), frames=frames, keep=keep, repeats=repeats)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes.

        Raises:
            ValueError: the model was trained on captions.
        """
        if not isinstance(self.codec, Classes):
            raise ValueError("the model was trained on captions, not classes")
        return self.codec.names

    def _generator(self, *options: Any) -> Generator:
        """The generator for these options; the last few are kept."""
        kept = self._generators
        kept[options] = kept.pop(options) if options in kept else Generator(self, *options)
        while len(kept) > KEPT:
            del kept[next(iter(kept))]
        return kept[options]

    @cached_property
    def _generators(self) -> dict[Any, Generator]:
        return {}


def _size(height: Any, width: Any) -> str:
    return f"size = {ranges.quoted(height)} x {ranges.quoted(width)}"
