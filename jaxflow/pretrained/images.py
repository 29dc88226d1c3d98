"""A frozen image encoder with its weights and preprocessing: images in, features out."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import flax.linen as linen
import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, UInt8

from jaxflow.devices import mesh
from jaxflow.devices.blocks import in_blocks

BLOCK = 64
"""Images that are resized and encoded together, which bounds memory."""


@dataclass(frozen=True)
class PretrainedImages:
    """A frozen image encoder.

    Attributes:
        network: the module, inputs (b, h, w, 3) -> features (b, d).
        params: its parameters.
        prepare: uint8 images of any size -> inputs, on the host.
        name: what it is, for tables.
    """

    network: linen.Module
    params: Any
    prepare: Callable[[np.ndarray], np.ndarray]
    name: str

    def __call__(
        self, images: UInt8[np.ndarray, "n *image"], sharding: NamedSharding | None = None
    ) -> Float[np.ndarray, "n d"]:
        """The features of images of one size, float32, in blocks of 64 with one program for all.

        Args:
            images: of one channel or three.
            sharding: of the images over devices; if None, one device.

        Raises:
            ValueError: there are none, or they are clips or have other channels.
        """
        check(images.shape)
        sharding = mesh.on_one_device() if sharding is None else sharding
        params, n = mesh.everywhere(self.params, sharding), len(images)
        look = functools.partial(_features, self.network, params)
        size, found = min(n, BLOCK), []
        # By default, accelerators round the factors of float32 products to 8 or 11 bits.
        with jax.default_matmul_precision("highest"), jax.numpy_dtype_promotion("standard"):
            for start in range(0, n, size):
                block = images[np.arange(start, start + size) % n]
                found.append(in_blocks(look, self.prepare(block), size=size, sharding=sharding))
        return np.concatenate(found)[:n]


def check(shape: tuple[int, ...]) -> None:
    """Check that arrays of a shape are images.

    Raises:
        ValueError: there are none, or they are clips or have other channels.
    """
    if len(shape) != 4 or shape[-1] not in (1, 3) or not shape[0]:
        raise ValueError(
            f"images have the shape {shape}: expected (n, h, w, 1) or (n, h, w, 3); encoders of images see"
            " no clips"
        )


@functools.partial(jax.jit, static_argnums=0)
def _features(network: linen.Module, params: Any, inputs: Array) -> Any:
    return network.apply({"params": params}, inputs)
