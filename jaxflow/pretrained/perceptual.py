"""The network of the perceptual distance, from a folder on disk.

model.safetensors    VGG16 with torchvision's names, `features.0.weight`; a classifier in it is ignored
lpips.safetensors    the weights of LPIPS, `lin0.model.1.weight` to `lin4`; without them all weights are 1
"""

import os
from functools import partial

import jax
import jax.numpy as jnp

from jaxflow.nn.vgg import CHANNELS, VGG16
from jaxflow.perceptual import SMALLEST, Perceptual
from jaxflow.places import place
from jaxflow.pretrained.tensors import find_tensors, name_of, read_params, tensors_of

NAMES = {"layer_": "features.", "kernel": "weight"}
"""Names in the module -> names in the file."""
WEIGHTS = "lpips.safetensors"


def load(folder: str | os.PathLike) -> Perceptual:
    """Read the distance.

    Raises:
        FileNotFoundError: the folder has no weights.
        ValueError: they are not those of VGG16, or of LPIPS; the message names the file.
    """
    root = place(folder, "perceptual")
    images = jax.ShapeDtypeStruct((1, SMALLEST, SMALLEST, 3), jnp.float32)
    shapes = jax.eval_shape(VGG16().init, jax.eval_shape(jax.random.key, 0), images)["params"]
    params = read_params(find_tensors(root), shapes, partial(name_of, names=NAMES), "features.")
    kernels = {
        f"lin{i}": {"kernel": jax.ShapeDtypeStruct((channels[-1], 1), jnp.float32)}
        for i, channels in enumerate(CHANNELS)
    }
    if (root / WEIGHTS).is_file():
        name = lambda path: f"{path[0]}.model.1.weight"  # noqa: E731
        kernels = read_params(tensors_of(root / WEIGHTS), kernels, name, "lin")
    else:
        kernels = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), kernels)
    return Perceptual(params, tuple(each["kernel"][:, 0] for each in kernels.values()))
