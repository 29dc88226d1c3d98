"""An autoencoder: a network that maps images to latents and back, with its parameters.

autoencoder = jaxflow.load_autoencoder("taef2")
latents = autoencoder.encode(images)        # uint8 (b, h, w, c) -> float32 (b, h / f, w / f, k)
autoencoder.decode(latents)                 # -> uint8 (b, h, w, c)

One of images takes clips (b, frames, h, w, c) too, frame by frame. One of clips, such as
`nn.CausalAutoencoder`, makes fewer frames of latents, 1 + (frames - 1) / s, and takes an image as one frame.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property, partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, PRNGKeyArray, UInt8

from jaxflow import digests
from jaxflow.devices import mesh
from jaxflow.spaces import moments
from jaxflow.spaces.pixels import Pixels
from jaxflow.spaces.tiles import tiled


@runtime_checkable
class Network(Protocol):
    """A Flax module with the methods `encode` and `decode` of images in [-1, 1]; see `nn.AutoencoderKL`."""

    @property
    def image_channels(self) -> int:
        """Channels c of the images."""
        ...

    @property
    def latent_channels(self) -> int:
        """Channels k of the latents."""
        ...

    @property
    def factor(self) -> int:
        """Pixels to a latent along each side, f."""
        ...

    @property
    def variational(self) -> bool:
        """Whether `encode` returns moments, of 2 k channels, instead of latents."""
        ...

    @property
    def init(self) -> Callable[..., Any]:
        """The initial parameters, from a key and images."""
        ...

    @property
    def apply(self) -> Callable[..., Any]:
        """Calls the method of a name."""
        ...


@dataclass(frozen=True)
class Autoencoder:
    """A network with its parameters, which a configuration does not hold."""

    network: Network
    params: Any = field(default=None, compare=False, repr=False)
    published: tuple[tuple[float, ...], tuple[float, ...]] | None = field(default=None, compare=False)
    """Mean and deviation of each channel of the latents, as published with the weights."""

    def initial_params(self, key: PRNGKeyArray) -> Any:
        """Random parameters; they do not depend on the size of the images."""
        side, frames = self.network.factor, () if _time_factor(self.network) is None else (1,)
        return self.network.init(key, jnp.zeros((1, *frames, side, side, self.network.image_channels)))[
            "params"
        ]

    @property
    def shapes(self) -> Any:
        """Shapes of the parameters; nothing is computed."""
        return jax.eval_shape(self.initial_params, jax.eval_shape(jax.random.key, 0))

    @cached_property
    def digest(self) -> str:
        """A hash of the parameters."""
        return digests.digest([repr(self.network)], self.params)

    def moments(self, images: UInt8[Array | np.ndarray, "b *f h w c"]) -> Float[Array, "b *n i j m"]:
        """Means and log variances of the latents, along the last axis; the latents, if not variational.

        Raises:
            ValueError: the images are not uint8, or have a shape that the network does not take.
        """
        self.latent_shape(images.shape[1:])
        return _encode(self.network, self._beside(images), images)

    def encode(
        self, images: UInt8[Array | np.ndarray, "b *f h w c"], *, tile: int | None = None, margin: int = 160
    ) -> Float[Array, "b *n i j k"]:
        """The latents of images, of a variational autoencoder their means.

        Args:
            images: of any size that is a multiple of the factor.
            tile: side in pixels of the tiles that are encoded one by one, for images that do not fit into
                memory; if None, the whole image. `spaces.tiles` says how they differ.
            margin: pixels around a tile that its encoder sees.

        Raises:
            ValueError: as `moments`; or tile and margin are no multiples of the factor.
        """
        if tile is None:
            found = self.moments(images)
        else:
            self.latent_shape(images.shape[1:])  # of the whole, which tiles may hide
            scale = Fraction(1, self.network.factor)
            found = tiled(self.moments, jnp.asarray(images), tile=tile, margin=margin, scale=scale)
        return moments.split(found)[0] if self.network.variational else found

    def decode(
        self, latents: Float[Array | np.ndarray, "b *n i j k"], *, tile: int | None = None, margin: int = 20
    ) -> UInt8[Array, "b *f h w c"]:
        """The images of latents.

        Args:
            latents: as of `encode`.
            tile: side of the tiles of latents that are decoded one by one; if None, all at once.
            margin: latents around a tile that its decoder sees.

        Raises:
            ValueError: the latents have another number of channels.
        """
        if latents.shape[-1] != self.network.latent_channels:
            given, own = latents.shape[-1], self.network.latent_channels
            raise ValueError(f"latents have {given} channels: the autoencoder's have {own}")
        decode = partial(_decode, self.network, self._beside(latents))
        if tile is None:
            return decode(latents)
        scale = self.network.factor
        return tiled(decode, jnp.asarray(latents), tile=tile, margin=margin, scale=scale)

    def latent_shape(self, image_shape: tuple[int, ...]) -> tuple[int, ...]:
        """(h, w, c) -> (h / f, w / f, k); of clips with the frames of latents before.

        Raises:
            ValueError: the images have other channels, or a side that is no multiple of f, or a number of
                frames that is not 1 + s k.
        """
        (*frames, h, w, c), f = image_shape, self.network.factor
        s = _time_factor(self.network) or 1
        if frames and (frames[0] - 1) % s:
            raise ValueError(
                f"clips have {frames[0]} frames: the autoencoder needs 1 + {s} k, as {1 + 4 * s}"
            )
        if c != self.network.image_channels:
            raise ValueError(
                f"images have {c} channels: the autoencoder's have {self.network.image_channels}"
            )
        if h % f or w % f:
            raise ValueError(f"images are {h} x {w}: the autoencoder needs multiples of {f}")
        in_time = [1 + (n - 1) // s for n in frames]
        return *in_time, h // f, w // f, self.network.latent_channels

    def _beside(self, x: Any) -> Any:
        """The parameters on the devices of an array, placed there once."""
        if isinstance(x, jax.core.Tracer):
            return self.params
        found = getattr(x, "sharding", None)
        sharding = found if isinstance(found, NamedSharding) else mesh.on_one_device()
        if sharding.mesh not in self._placed:
            self._placed[sharding.mesh] = mesh.everywhere(self.params, sharding)
        return self._placed[sharding.mesh]

    @cached_property
    def _placed(self) -> dict[Any, Any]:
        return {}


@partial(jax.jit, static_argnums=0)
def _encode(network: Network, params: Any, images: UInt8[Array, "b *f h w c"]) -> Float[Array, "b *n i j m"]:
    return applied(network, params, Pixels(images.shape[1:]).encode(images), "encode")


@partial(jax.jit, static_argnums=0)
def _decode(network: Network, params: Any, latents: Float[Array, "b *n i j k"]) -> UInt8[Array, "b *f h w c"]:
    images = applied(network, params, latents, "decode")
    return Pixels(images.shape[1:]).decode(images)


def applied(network: Network, params: Any, x: Float[Array, "b *f h w c"], method: str) -> Array:
    """`encode` or `decode` of images or clips: a network of images takes clips frame by frame.

    One of clips takes an image as one frame.
    """
    of_clips, clips = _time_factor(network) is not None, x.ndim == 5
    apply = partial(network.apply, {"params": params}, method=method)
    if of_clips == clips:
        return apply(x)
    if of_clips:
        return apply(x[:, None])[:, 0]
    y = apply(x.reshape(-1, *x.shape[2:]))
    return y.reshape(*x.shape[:2], *y.shape[1:])


def _time_factor(network: Network) -> int | None:
    """Frames to a latent after the first, s, of a network of clips."""
    return getattr(network, "time_factor", None)
