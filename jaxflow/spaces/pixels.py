"""The events are the images or clips, x = i / 127.5 - 1 for grey levels i = 0 ... 255."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from annotated_types import Interval, Len
from jaxtyping import Array, Float, UInt8

from jaxflow.typing import Keys

Side = Annotated[int, Interval(ge=1, le=2**16)]
"""Frames, height, width, or number of channels."""
ImageShape = Annotated[tuple[Side, ...], Len(3, 4)]
"""Of an image, (h, w, c), or of a clip, (frames, h, w, c)."""


@dataclass(frozen=True)
class Pixels:
    """Grey levels scaled to [-1, 1].

    Attributes:
        image_shape: (h, w, c), or (frames, h, w, c).

    >>> space = Pixels((1, 2, 1))
    >>> space.encode(jnp.array([[[[0], [255]]]], jnp.uint8)).ravel().tolist()
    [-1.0, 1.0]
    >>> space.decode(jnp.array([[[[-1.2], [0.0]]]])).ravel().tolist()
    [0, 128]
    """

    image_shape: ImageShape
    entry = "image"

    @property
    def event_shape(self) -> tuple[int, ...]:
        """That of the images."""
        return self.image_shape

    def events(
        self, stored: UInt8[Array | np.ndarray, "b *image"], keys: Keys | None = None
    ) -> Float[Array, "b *image"]:
        """As `encode`: images are stored, and nothing is random."""
        return self.encode(stored)

    def encode(self, images: UInt8[Array | np.ndarray, "b *image"]) -> Float[Array, "b *image"]:
        """0 ... 255 -> [-1, 1], float32.

        Raises:
            ValueError: the images have the wrong shape or dtype.
        """
        self._check("images", images)
        if images.dtype != jnp.uint8:
            raise ValueError(f"images are {images.dtype}: expected uint8, 0 to 255")
        return jnp.asarray(images).astype(jnp.float32) / 127.5 - 1

    def decode(self, events: Float[Array | np.ndarray, "b *image"]) -> UInt8[Array, "b *image"]:
        """[-1, 1] -> 0 ... 255, rounded and clipped. The inverse of `encode`.

        Raises:
            ValueError: the events have the wrong shape.
        """
        self._check("events", events)
        levels = jnp.clip(jnp.asarray(events) * 127.5 + 127.5, 0, 255)
        return jax.lax.round(levels, jax.lax.RoundingMethod.TO_NEAREST_EVEN).astype(jnp.uint8)

    def _check(self, name: str, batch: Array | np.ndarray) -> None:
        if batch.shape[1:] != self.image_shape:
            raise ValueError(f"{name} have the shape {batch.shape}: expected (b, *{self.image_shape})")
