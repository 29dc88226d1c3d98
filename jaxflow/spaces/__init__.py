"""The space in which the flow runs: the maps between images, what a data set stores of them, and events.

                 encode                     decode
    uint8 images ------> events (b, *event) ------> uint8 images
                         ^ events
    what is stored ------+

In `Pixels` an event is the image itself, and images are stored. In `Latents` it is the image's latent by an
autoencoder, and the moments of latents are stored. Any other space, of clips say, is a class with the same
members; losses, samplers and guidance see only events.
"""

from typing import Protocol, runtime_checkable

from jaxtyping import Array, Float, Shaped, UInt8

from jaxflow.spaces.autoencoder import Autoencoder
from jaxflow.spaces.latents import Latents
from jaxflow.spaces.pixels import Pixels
from jaxflow.typing import Keys

__all__ = ["Autoencoder", "Latents", "Pixels", "Space"]


@runtime_checkable
class Space(Protocol):
    """The shapes of images and events, and the maps between them."""

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one image."""
        ...

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one event, which the field moves."""
        ...

    @property
    def entry(self) -> str:
        """Name of what is stored, in the examples of a data set and in batches."""
        ...

    def events(self, stored: Shaped[Array, "b ..."], keys: Keys | None = None) -> Float[Array, "b *event"]:
        """What is stored as events; drawn where it is a distribution, by one key or one per example."""
        ...

    def encode(self, images: UInt8[Array, "b *image"]) -> Float[Array, "b *event"]:
        """Images to events."""
        ...

    def decode(self, events: Float[Array, "b *event"]) -> UInt8[Array, "b *image"]:
        """Events to images."""
        ...
