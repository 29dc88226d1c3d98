"""A model: a trained generator as one value.

    model = jaxflow.load("runs/digits")                     # a run folder, or an exported file
    images = model.sample(0, [3, 3, 7], w=2.0)              # uint8 (3, h, w, c)

It knows the field that was trained and its path, which words or classes it reads, and where its flow lives.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int, UInt8

from jaxflow import fields
from jaxflow.data.codecs import Classes, Codec, stack
from jaxflow.devices import layouts
from jaxflow.predictions import Prediction
from jaxflow.ranges import seed as check_seed
from jaxflow.runs.generation import Generator
from jaxflow.runs.requests import Said, request
from jaxflow.runs.sampler import Sampler
from jaxflow.spaces import Space
from jaxflow.training.step import Params
from jaxflow.typing import Condition, GaussianPath, GuidedField, Rule

KEPT = 8
"""Generators that a model keeps."""


@dataclass(frozen=True, eq=False)
class Model:
    """A network with its parameters, and all that one needs to draw with it."""

    network: Any
    """A Flax module (x, t, y), or a function (params, x, t, y)."""
    params: Params
    """Its parameters; or their shapes, where nothing is computed."""
    path: GaussianPath
    prediction: Prediction
    """What the network answers."""
    codec: Codec
    """From what is said of an image, a class or a prompt, to the condition y."""
    space: Space
    """Where the flow lives."""
    condition_dropout: float = 0.1
    """Probability with which it was trained on null: without it there is no unguided field."""
    step: int = 0
    """Training steps behind it."""

    @property
    def field(self) -> GuidedField:
        """The velocity (x, t, y) -> (b, *event)."""
        return fields.from_network(self.network, self.params, self.path, prediction=self.prediction)

    @property
    def null(self) -> Condition:
        """The condition that says nothing, for one example."""
        return self.codec.null

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Of one x."""
        return self.space.event_shape

    def encode(self, said: Sequence[Said]) -> Condition:
        """The condition y, with a leading axis, of class numbers or names, or of prompts; None is null.

        Raises:
            ValueError: there is no such class, or the prompt has words that no caption had; it is named.
        """
        return stack([self.null if one is None else self.codec.encode(one) for one in said])

    def to_images(self, events: Float[Array, "b *event"]) -> UInt8[Array, "b h w c"]:
        """Samples as images."""
        return self.space.decode(events)

    def at(self, params: Params) -> "Model":
        """The same model with other parameters."""
        return replace(self, params=params)

    def sample(
        self,
        seed: int,
        y: Sequence[Said] | Int[Array, " n"] | Int[np.ndarray, " n"],
        *,
        w: float = 1.0,
        rule: str | Rule = "classifier_free",
        steps: int = 10,
        solver: str | None = None,
        sigma: float = 0.0,
        grid: str | None = None,
        shift: float = 1.0,
        negative: Said = None,
        together: int | None = None,
        sharding: NamedSharding | None = None,
    ) -> UInt8[np.ndarray, "n h w c"]:
        """Guided images, uint8 (n, h, w, c).

        An image depends on the seed, on what it shows and on how many before it in `y` show the same: not on
        what else is drawn, nor on how many are drawn together, nor on devices.

        Args:
            seed: of the noise, 0 to 2^32 - 1.
            y: class numbers or names, or prompts, one for each image; None for an image of anything.
            w: guidance scale; 1 is the conditional model.
            rule: of guidance, by its name in `jaxflow.runs.rules`, or any (field, y, null, w) -> field.
            steps: of the solver.
            solver: by its name in `jaxflow.runs.sampler`: of the ODE, the SDE, or ancestral; what suits the
                prediction if left out.
            sigma: diffusion coefficient, for the SDE; 0 is the ODE.
            grid: of times: uniform, cosine or karras.
            shift: of the grid towards the noise, above 1 for larger images.
            negative: a class or prompt that guidance leads away from, in the place of null.
            together: images that are made together; as many as fit if left out.
            sharding: of the images, over devices; one device if left out.

        Raises:
            ValueError: an argument is unusable; it is named.
            FloatingPointError: an image is not finite.

        Source: "Building an Image Generator", sampling with classifier-free guidance.
        """
        check_seed(seed)
        said = np.asarray(y, object).tolist()
        if not isinstance(said, list) or not said:
            raise ValueError(f"y = {y!r}: a list is needed, of a class or prompt for each image")
        sampler = Sampler(steps, solver, grid, shift, together)
        wanted = request(self.codec, said)
        away = None if negative is None else self.codec.encode(negative)
        sharding = layouts.on_one_device() if sharding is None else sharding
        return self._generator(sampler, sharding, rule, sigma)(wanted, float(w), seed=seed, negative=away)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes.

        Raises:
            ValueError: the model is of captions.
        """
        if not isinstance(self.codec, Classes):
            raise ValueError("the model is of images that have captions, not classes")
        return self.codec.names

    def _generator(self, *options: Any) -> Generator:
        """The last few are kept, with their compiled programs, for the calls that come."""
        kept = self._generators
        kept[options] = kept.pop(options) if options in kept else Generator(self, *options)
        while len(kept) > KEPT:
            del kept[next(iter(kept))]
        return kept[options]

    @cached_property
    def _generators(self) -> dict[Any, Generator]:
        return {}
