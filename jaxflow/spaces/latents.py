"""The events are the latents of an autoencoder, each channel centred and scaled to variance one.

    event = (latent - mean) / deviation

The autoencoder is frozen: the loss sees stored moments, computed once, so that no gradient can reach it.

Source: "Building an Image Generator", section on latent spaces; Rombach et al. 2112.10752.
"""

from dataclasses import dataclass
from typing import Annotated

import jax.numpy as jnp
import numpy as np
from annotated_types import Gt, Len
from jaxtyping import Array, Float, UInt8

from jaxflow.spaces import moments
from jaxflow.spaces.autoencoder import Autoencoder
from jaxflow.spaces.pixels import ImageShape
from jaxflow.typing import Keys


@dataclass(frozen=True)
class Latents:
    """Normalised latents.

    Attributes:
        image_shape: (h, w, c), or (frames, h, w, c).
        autoencoder: encodes and decodes.
        mean: of each channel of the latents.
        deviation: standard deviation of each channel.
        digest: the autoencoder's, by which another of the same shape is noticed.
    """

    image_shape: ImageShape
    autoencoder: Autoencoder
    mean: Annotated[tuple[float, ...], Len(1)]
    deviation: Annotated[tuple[Annotated[float, Gt(0)], ...], Len(1)]
    digest: str
    entry = "moments"

    def __post_init__(self) -> None:
        k = self.event_shape[-1]
        for name, numbers in (("mean", self.mean), ("deviation", self.deviation)):
            if len(numbers) != k:
                raise ValueError(f"{name} has {len(numbers)} numbers: expected one for each of {k} channels")

    @classmethod
    def as_published(cls, image_shape: tuple[int, ...], autoencoder: Autoencoder) -> "Latents":
        """Latents scaled by the numbers that were published with the autoencoder.

        Raises:
            ValueError: there are none.
        """
        if autoencoder.published is None:
            raise ValueError("autoencoder: its folder has no config.json with scaling_factor")
        return cls(image_shape, autoencoder, *autoencoder.published, autoencoder.digest)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """(h / f, w / f, k), of clips with the frames of latents before."""
        return self.autoencoder.latent_shape(self.image_shape)

    def events(
        self, stored: Float[Array | np.ndarray, "b *moments"], keys: Keys | None = None
    ) -> Float[Array, "b *event"]:
        """Events from moments: drawn by one key or one per example, or without keys the means."""
        latents = jnp.asarray(stored).astype(jnp.float32)
        if self.autoencoder.network.variational:
            latents = moments.split(latents)[0] if keys is None else moments.sample(keys, latents)
        mean, deviation = self._numbers
        return (latents - mean) / deviation

    def encode(self, images: UInt8[Array | np.ndarray, "b *image"]) -> Float[Array, "b *event"]:
        """The events of images, of a variational autoencoder their means."""
        return self.events(self.autoencoder.moments(images))

    def decode(self, events: Float[Array | np.ndarray, "b *event"]) -> UInt8[Array, "b *image"]:
        """The images of events."""
        mean, deviation = self._numbers
        return self.autoencoder.decode(jnp.asarray(events) * deviation + mean)

    @property
    def _numbers(self) -> tuple[Array, Array]:
        """Mean and deviation, which broadcast against a batch of events."""
        rank = len(self.event_shape)
        mean, deviation = (
            jnp.asarray(numbers).reshape((1,) * rank + (-1,)) for numbers in (self.mean, self.deviation)
        )
        return mean, deviation
