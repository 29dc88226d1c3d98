"""Inception-v3 of the Frechet Inception distance, from a folder on disk.

model.safetensors has the names of pytorch-fid and torch-fidelity, `Mixed_5b.branch1x1.conv.weight`. They
publish the same file, as a pickle; to convert it once, where torch is installed:

    safetensors.torch.save_file(torch.load(FILE, weights_only=True), "model.safetensors")
"""

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, UInt8

from jaxflow.nn.inception import Inception
from jaxflow.pretrained.images import PretrainedImages
from jaxflow.pretrained.tensors import find_tensors, read_params, rewritten

NAMES = {
    "^conv2d": "Conv2d",
    "^mixed": "Mixed",
    "kernel$": "conv.weight",
    "scale$": "bn.weight",
    "bias$": "bn.bias",
    "mean$": "bn.running_mean",
    "variance$": "bn.running_var",
}
"""Names in the module -> names in the file."""
COUNTS = "num_batches_tracked"
"""Of batches in the training, which nothing uses."""


class Head(NamedTuple):
    """The last layer, from features to the logits of 1008 classes."""

    kernel: Float[np.ndarray, "2048 1008"]
    bias: Float[np.ndarray, " 1008"]

    def __call__(
        self, features: Float[np.ndarray, "n 2048"], *, bias: bool = True
    ) -> Float[np.ndarray, "n 1008"]:
        """The logits; without the bias, those of the Inception score as it is published."""
        logits = features @ self.kernel
        return logits + self.bias if bias else logits


def load(folder: Path) -> PretrainedImages:
    """Read the network, which gives features.

    Raises:
        FileNotFoundError: the folder has no weights.
        ValueError: they are not those of this network; the message names the file.
    """
    network = Inception()
    tensors = {key: file for key, file in find_tensors(folder).items() if not key.endswith(COUNTS)}
    images = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.uint8)
    shapes = jax.eval_shape(network.init, jax.eval_shape(jax.random.key, 0), images)["params"]
    params = read_params(tensors, shapes, lambda path: rewritten(".".join(path), NAMES), "Mixed_")
    return PretrainedImages(network, params, _in_colour, "Inception-v3")


def load_head(folder: Path) -> Head:
    """Read the last layer.

    Raises:
        FileNotFoundError: the folder has no weights.
        ValueError: they are not those of this network; the message names the file.
    """
    shapes = {"kernel": jax.ShapeDtypeStruct((2048, 1008), jnp.float32)}
    shapes |= {"bias": jax.ShapeDtypeStruct((1008,), jnp.float32)}
    names = {"kernel": "fc.weight", "bias": "fc.bias"}
    read = read_params(find_tensors(folder), shapes, lambda path: names[path[0]], "fc.")
    return Head(**jax.device_get(read))


def _in_colour(images: UInt8[np.ndarray, "n h w c"]) -> UInt8[np.ndarray, "n h w 3"]:
    return np.broadcast_to(images, (*images.shape[:3], 3))
