"""An autoencoder of clips: `AutoencoderKL` with convolutions that are causal in time.

    encode    clips (b, 1 + s k, h, w, c) in [-1, 1] -> moments of the latents (b, 1 + k, h / f, w / f, 2 n)
    decode    latents (b, 1 + k, h / f, w / f, n) -> clips (b, 1 + s k, h, w, c), to be clipped to [-1, 1]

with s = time_factor and n = latent_channels. The first frame is encoded alone, so that an image is a clip of
one frame; after it, s frames become one latent frame. Latent j depends on the frames up to s j, and these on
the latents up to j. The number of frames is halved where the encoder reaches its lowest resolutions. Group
norms, attention and changes of resolution are per frame.

As each frame sees the past only, clips of any length are encoded and decoded chunk by chunk, in constant
memory:

    encode_stream(network, params, chunks)    chunks of 1 + s m, then s m frames -> of 1 + m, then m latents
    decode_stream(network, params, chunks)    the inverse

Source: Yu et al. 2310.05737 (causal tokens); Carreira and Zisserman 1705.07750, section 2.1 (inflation).
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, Literal

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Float

from jaxflow.nn.autoencoder_kl import AutoencoderKL, Layers
from jaxflow.nn.causal import PAST, CausalConvolution, Clip, DoubleTime, HalfTime
from jaxflow.nn.image_blocks import Frames

Params = Any
Chunks = Iterable[Float[Array | np.ndarray, "b _ _ _ _"]]


class CausalAutoencoder(AutoencoderKL):
    """An encoder and a decoder of clips; parameters of images become its own by `inflated`.

    Attributes are those of `AutoencoderKL`, and:
        time_factor: frames to a latent, after the first: s = 2^n, with more than n resolutions.
    """

    time_factor: Literal[1, 2, 4] = 4

    def setup(self) -> None:
        super().setup()
        if len(self.channels) <= self._halvings:
            needs = f"needs at least {1 + self._halvings} resolutions, and channels has {len(self.channels)}"
            raise ValueError(f"time_factor = {self.time_factor}: {needs}")

    def __call__(self, clips: Clip) -> Clip:
        """The clips decoded from the mean latents."""
        return self.decode(self.encode(clips)[..., : self.latent_channels])

    def encode(self, clips: Clip) -> Clip:
        """(b, 1 + s k, h, w, c) -> (b, 1 + k, h / f, w / f, 2 n), or n if not variational.

        Raises:
            ValueError: another number of frames, or f does not divide height and width.
        """
        f, s = clips.shape[1], self.time_factor
        first = 0 if self.has_variable(PAST, "encoder") else 1
        if f < 1 or (f - first) % s:
            k = max((f - first) // s, 1 - first)
            needs = f"must have 1 + {s} k" if first else f"must have {s} k after the first chunk"
            raise ValueError(
                f"clips of {f} frames: {needs}, such as {first + s * k} or {first + s * (k + 1)}"
            )
        last = len(self.channels) - 1
        return _by_frame(self._encode, clips, self._layers(HalfTime, range(last - self._halvings, last)))

    def decode(self, latents: Clip) -> Clip:
        """(b, 1 + k, h / f, w / f, n) -> (b, 1 + s k, h, w, c)."""
        return _by_frame(self._decode, latents, self._layers(DoubleTime, range(self._halvings)))

    @property
    def _halvings(self) -> int:
        return self.time_factor.bit_length() - 1

    def _layers(self, kind: Any, at: range) -> Callable[[int], Layers]:
        """The layers for a number of clips, which change the number of frames at these resolutions."""

        def layers(clips: int) -> Layers:
            def in_time(x: Frames, n: int) -> Frames:
                return kind(clips, self.dtype, name=f"time_{n}")(x) if n in at else x

            return Layers(partial(CausalConvolution, clips=clips), in_time)

        return layers


def _by_frame(apply: Callable[[Frames, Layers], Frames], x: Clip, layers: Callable[[int], Layers]) -> Clip:
    y = apply(x.reshape(-1, *x.shape[2:]), layers(len(x)))
    return y.reshape(len(x), -1, *y.shape[1:])


def inflated(images: Params, network: CausalAutoencoder) -> Params:
    """The parameters of the `AutoencoderKL` of the same attributes as those of a network of clips.

    It encodes frames 0, s, 2 s, ... as that autoencoder does, and decodes each latent, but the first, to s
    equal frames: kernels are zero in the past, and changes of the number of frames are at initialisation.

    Raises:
        ValueError: the networks differ in more than time; the message names a parameter.
    """
    clip = jnp.zeros((1, 1, network.factor, network.factor, network.image_channels))
    own = flatten_dict(jax.eval_shape(network.init, jax.random.key(0), clip)["params"], sep="/")
    given = flatten_dict(images, sep="/")
    shapes = {name: leaf.shape[-4:] for name, leaf in own.items() if "/time_" not in name}
    for name in sorted({*shapes, *given}):
        found = given[name].shape if name in given else None
        if found != shapes.get(name):
            raise ValueError(
                f"{name}: {found} in the autoencoder of images, {shapes.get(name)} in that of clips"
            )
    grown = {name: jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in own.items()}
    for name, leaf in given.items():
        grown[name] = grown[name].at[-1].set(leaf) if own[name].ndim == 5 else leaf
    return unflatten_dict(grown, sep="/")


def encode_stream(network: CausalAutoencoder, params: Params, chunks: Chunks) -> Iterator[Clip]:
    """The latents, or moments, of clips in chunks, as `network.encode` of the whole.

    Args:
        network: of clips.
        params: its parameters.
        chunks: (b, 1 + s m, h, w, c), then (b, s m, h, w, c); each new m compiles once.

    Raises:
        ValueError: as `encode`.
    """
    return _stream(network, "encode", params, chunks)


def decode_stream(network: CausalAutoencoder, params: Params, chunks: Chunks) -> Iterator[Clip]:
    """The frames of latents in chunks, as `network.decode` of the whole: s per latent, the first makes one.

    Args:
        network: of clips.
        params: its parameters.
        chunks: latents (b, m, h / f, w / f, n); each new m compiles once.
    """
    return _stream(network, "decode", params, chunks)


def _stream(network: linen.Module, method: str, params: Params, chunks: Chunks) -> Iterator[Clip]:
    past: Params = {}
    for chunk in chunks:
        result, past = _step(network, method, params, past, chunk)
        yield result


@partial(jax.jit, static_argnums=(0, 1))
def _step(
    network: linen.Module, method: str, params: Params, past: Params, chunk: Clip
) -> tuple[Clip, Params]:
    return network.apply({"params": params, **past}, chunk, method=method, mutable=[PAST])
