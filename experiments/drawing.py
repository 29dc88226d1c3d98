"""What the page of `demo` shows, as HTML: pictures, pictures over w, and the film of their way from noise.

All wishes of one rule, solver and number of steps are drawn by one program, of which the class or prompt, w
and the seed are arguments. A second one draws at several w at once.
"""

import base64
import html
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import UInt8

from jaxflow import ranges
from jaxflow.data.clip_files import encoded
from jaxflow.data.strips import mosaic
from jaxflow.runs import maps
from jaxflow.runs.generation import Generator
from jaxflow.runs.model import CALLS, Model
from jaxflow.runs.requests import ClassOrPrompt, Request, request
from jaxflow.runs.rules import NEEDS, RULES
from jaxflow.runs.sampler import ANCESTRAL, JUMP, ODE, Sampler
from jaxflow.runs.settings import scale_name

SCALES = tuple(map(float, range(7)))
"""The w that are drawn together."""
LARGEST = 10.0
"""The largest w of the slider."""
KEPT = 8
"""Generators that are kept, with their compiled programs."""
SIDE, SMALL = (84, 512), (56, 160)
"""Fewest and most pixels of an image on the page, alone and among several w; enlarged by whole factors."""
RATE = 8.0
"""Frames per second."""
REST = 8
"""Frames for which a film shows its end."""


class Wish(NamedTuple):
    """What is to be drawn; an unconditional picture where `said` is None."""

    said: ClassOrPrompt
    w: float
    rule: str
    sampler: Sampler
    seed: int


@dataclass(frozen=True, eq=False)
class Drawing:
    """A model, and how it draws."""

    model: Model
    generator: Callable[[Sampler, str], Generator]
    """The generator of a sampler and a rule."""
    images: int
    """Of a wish."""

    @property
    def rules(self) -> list[str]:
        """The rules that need nothing but the model."""
        if self.model.is_map:
            return ["classifier_free"]
        four = self.model.event_shape[-1] == 4
        return [rule for rule in RULES if rule not in NEEDS and (four or rule != "three_channels")]

    @property
    def solvers(self) -> list[str]:
        """The solvers without a sigma, the model's default first."""
        if self.model.is_map:
            return [JUMP]
        default = Sampler().solver_name(self.model.prediction)
        return list(dict.fromkeys((default, *ODE, *ANCESTRAL)))

    @property
    def steps(self) -> int:
        """To begin with; of a map its calls."""
        return CALLS if self.model.is_map else Sampler.steps

    @property
    def limits(self) -> tuple[float, float]:
        """The least and largest w: a map has learned those from 1 on."""
        encoder = maps.encoder_of(self.model.network)
        return (0.0, LARGEST) if encoder is None else (1.0, encoder.most or 1.0)

    @property
    def scales(self) -> list[float]:
        """The w that are drawn together."""
        least, most = self.limits
        return [w for w in SCALES if least <= w <= most]

    @property
    def of_clips(self) -> bool:
        """Whether the pictures move by themselves, and have no film."""
        return len(self.model.space.image_shape) == 4

    def picture(self, wish: Wish, *, film: bool) -> str:
        """The images of a wish, and their film if asked.

        Raises:
            ValueError: the wish is out of range, or does not suit the model.
            FloatingPointError: an image is not finite.
        """
        events = self._generator(wish).film(self._request(wish), wish.w, seed=wish.seed)
        columns = math.ceil(self.images**0.5)
        name = f"w = {scale_name(wish.w)}"
        figures = [_figure(self._images(events[:, -1]), name, columns, SIDE)]
        if film and not self.of_clips:
            frames = [self._images(at) for at in np.moveaxis(events, 1, 0)]
            way = np.stack([*frames, *frames[-1:] * REST], axis=1)
            figures.append(_figure(way, f"{name}, from noise to data", columns, SIDE))
        return _row(figures)

    def pictures(self, wish: Wish) -> str:
        """The images at each of `scales`, from the same noise; errors as for `picture`."""
        generate, wanted, n = self._generator(wish), self._request(wish), len(self.scales)
        swept = generate.sweep(wanted, self.scales, [0.0], seed=wish.seed, chunk=n)
        named = zip(self.scales, swept[:, 0], strict=True)
        return _row([_figure(images, f"w = {scale_name(w)}", 1, SMALL) for w, images in named])

    def _request(self, wish: Wish) -> Request:
        ranges.seed(wish.seed)
        return request(self.model.codec, [wish.said] * self.images)

    def _generator(self, wish: Wish) -> Generator:
        kept, key = self._kept, (wish.sampler, wish.rule)
        kept[key] = kept.pop(key) if key in kept else self.generator(*key)
        while len(kept) > KEPT:
            del kept[next(iter(kept))]
        return kept[key]

    @cached_property
    def _kept(self) -> dict[tuple[Sampler, str], Generator]:
        return {}

    def _images(self, events: Any) -> UInt8[np.ndarray, "n *image"]:
        return np.asarray(self.model.to_images(jnp.asarray(events)))


def _figure(images: UInt8[np.ndarray, "n *image"], caption: str, columns: int, side: tuple[int, int]) -> str:
    """Images, or clips that play, side by side in one picture."""
    kind = "webp" if images.ndim == 5 else "png"
    tiles = mosaic(images if images.ndim == 5 else images[:, None], columns)
    least, most = side
    width = min(tiles.shape[2] * max(1, least // images.shape[-2]), columns * most)
    content = base64.b64encode(encoded(tiles, RATE, f".{kind}")).decode()
    text = html.escape(caption)
    image = f'<img alt="{text}" width="{width}" src="data:image/{kind};base64,{content}">'
    return f"<figure>{image}<figcaption>{text}</figcaption></figure>"


def _row(figures: list[str]) -> str:
    return f'<div class="row">{"".join(figures)}</div>'
