"""The network of the perceptual distance, from a folder on disk.

model.safetensors    VGG16 with torchvision's names, `features.0.weight`; a classifier in it is ignored
lpips.safetensors    the weights of LPIPS, `lin0.model.1.weight` to `lin4`; without them all weights are 1
"""

import os
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from safetensors.numpy import load_file

from jaxflow.nn.vgg import CHANNELS, VGG16
from jaxflow.perceptual import SMALLEST, Perceptual
from jaxflow.places import place
from jaxflow.pretrained.tensors import find_tensors, name_of, read_params

NAMES = {"layer_": "features.", "kernel": "weight"}
"""Names in the module -> names in the file."""
WEIGHTS, KEY = "lpips.safetensors", "lin{}.model.1.weight"


def load(folder: str | os.PathLike) -> Perceptual:
    """Read the distance.

    Raises:
        FileNotFoundError: the folder has no weights.
        ValueError: they are not those of VGG16; the message names the file.
    """
    root = place(folder, "perceptual")
    images = jax.ShapeDtypeStruct((1, SMALLEST, SMALLEST, 3), jnp.float32)
    shapes = jax.eval_shape(VGG16().init, jax.eval_shape(jax.random.key, 0), images)["params"]
    params = read_params(find_tensors(root), shapes, partial(name_of, names=NAMES), "features.")
    widths = [channels[-1] for channels in CHANNELS]
    if not (root / WEIGHTS).is_file():
        return Perceptual(params, tuple(jnp.ones(width) for width in widths))
    tensors = load_file(root / WEIGHTS)
    weights = []
    for i, width in enumerate(widths):
        found = tensors.get(KEY.format(i), np.zeros(0))
        if found.size != width:
            raise ValueError(f"{root / WEIGHTS}: {KEY.format(i)} has {found.size} numbers, expected {width}")
        weights.append(jnp.asarray(found.ravel(), jnp.float32))
    return Perceptual(params, tuple(weights))
